// A gateway in this process that speaks the contract byte for byte, as far as the client needs it, and misbehaves on
// request. It shares no code with the client: frames, envelopes and event streams are written out here once more.
import { createHash, randomUUID } from 'node:crypto';
import http from 'node:http';

const V1 = 'application/vnd.kafka.v1+json';
const SPLIT_LIMIT = 65536;

/** Starts one on a free port of this machine, or on the given one. */
export async function startGateway(port = 0) {
  const gateway = new FakeGateway();
  await new Promise((resolve) => gateway.server.listen(port, '127.0.0.1', resolve));
  gateway.port = gateway.server.address().port;
  gateway.url = `http://127.0.0.1:${gateway.port}/`;
  return gateway;
}

export class FakeGateway {
  /** Transports that are refused. */
  refuse = new Set();
  /** Every complete request: {id, method, path, type, accept, headers, body, connection}. */
  requests = [];
  /** Every message as it came. */
  received = [];
  /** Opening requests: {transport, url, headers}. */
  openings = [];
  connections = new Set();
  topics = new Map();
  instances = new Map();
  splitLimit = SPLIT_LIMIT;
  /** Called with each complete request; true: the test has dealt with it. */
  intercept = () => false;
  /** `false`: pushes answer nothing but the status, as for an unknown tracking id. */
  acceptPushes = true;
  #sockets = new Set();

  constructor() {
    this.server = http.createServer((request, response) => void this.#http(request, response));
    this.server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.server.on('upgrade', (request, socket) => this.#upgrade(request, socket));
  }

  /** Ends all connections without a word. */
  drop() {
    for (const connection of [...this.connections]) connection.drop();
  }

  async stop() {
    this.drop();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** Forgets all consumer instances, as a restart does. */
  forget() {
    this.instances.clear();
  }

  /** Appends records to a topic and pushes them. */
  append(topic, values) {
    const records = this.topics.get(topic) ?? [];
    this.topics.set(topic, records);
    for (const value of values) records.push({ key: null, value, partition: 0, offset: records.length });
    for (const instance of this.instances.values()) if (instance.topic === topic) this.#push(instance);
    return records;
  }

  // ---- WebSocket, server side ----

  #upgrade(request, socket) {
    this.openings.push({ transport: 'websocket', url: request.url, headers: request.headers });
    socket.on('error', () => {});
    if (this.refuse.has('unauthorised')) return socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n');
    if (this.refuse.has('origin')) return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    if (this.refuse.has('websocket')) return socket.end('HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n');
    const accept = createHash('sha1')
      .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    const connection = {
      transport: 'websocket',
      sequences: new Map(),
      pongs: [],
      closeCode: undefined,
      send: (data) => socket.write(serverFrame(typeof data === 'string' ? 1 : 2, Buffer.from(data))),
      raw: (bytes) => socket.write(bytes),
      close: (code, reason = '') => socket.write(serverFrame(8, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]))),
      drop: () => {
        socket.destroy();
        this.#gone(connection);
      },
    };
    this.#opened(connection);
    let bytes = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      for (let frame; (frame = readClientFrame(bytes)); ) {
        bytes = bytes.subarray(frame.end);
        if (frame.opcode === 8) {
          connection.closeCode = frame.payload.readUInt16BE();
          socket.end(serverFrame(8, frame.payload));
        } else if (frame.opcode === 10) connection.pongs.push(frame.payload.toString());
        else this.#message(connection, frame.payload.toString());
      }
    });
    socket.on('close', () => this.#gone(connection));
  }

  // ---- HTTP transports ----

  async #http(request, response) {
    const query = new URL(request.url, 'http://x').searchParams;
    const transport = query.get('X-Atmosphere-Transport');
    const connection = [...this.connections].find(({ id }) => id === query.get('X-Atmosphere-tracking-id'));
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    if (transport === 'close') {
      connection?.drop();
      return response.end();
    }
    if (request.method === 'POST') {
      if (!connection || !this.acceptPushes) {
        response.statusCode = 415;
        return response.end('{"error_code":415,"message":"HTTP 415 Unsupported Media Type"}');
      }
      response.end();
      return this.#message(connection, body);
    }
    if (!connection) this.openings.push({ transport, url: request.url, headers: request.headers });
    if (this.refuse.has('unauthorised') || this.refuse.has(transport)) {
      response.statusCode = this.refuse.has('unauthorised') ? 401 : 501;
      return response.end('refused');
    }
    if (transport === 'sse') this.#events(response);
    else if (connection) connection.poll(response);
    else this.#polling(response);
  }

  #events(response) {
    const id = randomUUID();
    response.writeHead(200, { 'Content-Type': 'text/event-stream;charset=utf-8', 'X-Atmosphere-tracking-id': id });
    response.write(`${' '.repeat(2000)}\n`);
    const connection = {
      id,
      transport: 'sse',
      sequences: new Map(),
      send: (text) => response.write(text.split(/\r\n|\r|\n/).map((line) => `data:${line[0] === ' ' ? ' ' : ''}${line}\r\n`).join('') + '\r\n'),
      raw: (text) => response.write(text),
      drop: () => {
        response.destroy();
        this.#gone(connection);
      },
    };
    connection.send(`${id}|0|X|`);
    this.#opened(connection);
    response.on('close', () => this.#gone(connection));
  }

  #polling(response) {
    const id = randomUUID();
    const queue = [];
    let waiting;
    const track = (text) => `${text.length}|${text}`;
    const answer = () => {
      if (!waiting || queue.length === 0) return;
      waiting.end(queue.splice(0).map(track).join(''));
      waiting = undefined;
    };
    const connection = {
      id,
      transport: 'long-polling',
      sequences: new Map(),
      send: (text) => {
        queue.push(text);
        answer();
      },
      poll: (next) => {
        waiting = next;
        next.writeHead(200, { 'Content-Type': 'text/plain;charset=utf-8' });
        next.flushHeaders();
        answer();
      },
      drop: () => {
        waiting?.destroy();
        this.#gone(connection);
      },
    };
    this.#opened(connection);
    response.writeHead(200, { 'Content-Type': 'text/plain;charset=utf-8' }).end(track(`${id}|0|X|`));
  }

  #opened(connection) {
    this.connections.add(connection);
    this.onOpen?.(connection);
  }

  #gone(connection) {
    this.connections.delete(connection);
    for (const instance of this.instances.values()) if (instance.to?.connection === connection) instance.to = undefined;
  }

  // ---- envelopes ----

  #message(connection, text) {
    this.received.push(text);
    if (text.trim() === '' || text === 'X') return;
    const end = envelopeEnd(text);
    if (end < 0) return connection.send('{"error_code":400,"message":"Invalid message: expected \'{\' at position 0"}');
    const head = JSON.parse(text.slice(0, end));
    const content = text.slice(end);
    const open = connection.sequences.get(head.id);
    if (head.continue === true) {
      if (open) open.body += content;
      else connection.sequences.set(head.id, { ...head, body: content });
      return;
    }
    connection.sequences.delete(head.id);
    const request = open ? { ...open, body: open.body + content } : { ...head, body: content };
    delete request.continue;
    request.connection = connection;
    this.requests.push(request);
    if (!this.intercept(request)) this.#dispatch(request);
  }

  /** Sends a reply or push in the detached form, in parts if it is long. */
  reply({ connection, id }, code, value, type = V1) {
    const text = value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value);
    const head = (more) => {
      const members = [`"code":${code}`, ...(more ? ['"continue":true'] : []), `"id":${JSON.stringify(id)}`];
      if (text !== '') members.push(`"type":"${type}"`);
      return `{${members.join(',')}}`;
    };
    if (head(false).length + text.length <= this.splitLimit) return connection.send(head(false) + text);
    const points = [...text];
    const step = Math.max(1, this.splitLimit - head(true).length);
    for (let at = 0; at < points.length; at += step) {
      connection.send(head(at + step < points.length) + points.slice(at, at + step).join(''));
    }
  }

  #dispatch(request) {
    const { method = 'GET', path = '/' } = request;
    const [route, query] = path.split('?');
    const parts = route.split('/').slice(1).map(decodeURIComponent);
    const answer = (code, value, type) => this.reply(request, code, value, type);
    const failed = (code, message) => answer(Number(String(code).slice(0, 3)), { error_code: code, message });
    if (path === '/') return answer(200, {});
    if (method === 'GET' && path === '/topics') return answer(200, [...this.topics.keys()]);
    if (parts[0] === 'topics' && parts.length === 2) {
      if (method === 'GET') return this.topics.has(parts[1]) ? answer(200, { name: parts[1] }) : failed(40401, 'Topic not found.');
      const from = this.topics.get(parts[1])?.length ?? 0;
      const { records } = JSON.parse(request.body);
      this.append(parts[1], records.map(({ value }) => value));
      const offsets = records.map((_, at) => ({ partition: 0, offset: from + at, error_code: null, error: null }));
      return answer(200, { offsets, key_schema_id: null, value_schema_id: null });
    }
    if (parts[0] === 'consumers' && parts.length === 2) {
      const settings = JSON.parse(request.body);
      const id = settings.id ?? settings.name ?? 'made-up';
      const key = `${parts[1]}/${id}`;
      if (this.instances.has(key)) return failed(40902, 'Consumer with specified consumer ID already exists in the specified consumer group.');
      this.instances.set(key, { settings, format: settings.format ?? 'binary', position: 0, topic: undefined, to: undefined });
      return answer(200, { instance_id: id, base_uri: `${this.url}consumers/${parts[1]}/instances/${id}` });
    }
    if (parts[0] === 'ws') parts.shift();
    const key = `${parts[1]}/${parts[3]}`;
    const instance = this.instances.get(key);
    if (parts[0] !== 'consumers') return answer(404, { error_code: 404, message: 'HTTP 404 Not Found' });
    if (!instance) return failed(40403, 'Consumer instance not found.');
    if (path.startsWith('/ws') && method === 'GET') {
      const topic = parts[4] === 'records' ? instance.topic : parts[5];
      if (request.accept !== `application/vnd.kafka.${instance.format}.${parts[4] === 'records' ? 'v2' : 'v1'}+json`) {
        return failed(40601, 'The requested embedded data format does not match the deserializer for this consumer instance');
      }
      if (!this.topics.has(topic)) return failed(40401, 'Topic not found.');
      Object.assign(instance, { topic, to: request, query, first: true });
      return this.#push(instance);
    }
    if (path.startsWith('/ws')) instance.to = undefined;
    else if (parts[4] === 'offsets') return answer(200, [{ topic: instance.topic, partition: 0, consumed: instance.position - 1, committed: instance.position - 1 }]);
    else if (parts[4] === 'subscription') instance.topic = JSON.parse(request.body).topics[0];
    else if (parts[4] === 'records' || parts[4] === 'topics') return answer(200, this.#take(instance, parts[5]), request.accept);
    else this.instances.delete(key);
    return answer(204);
  }

  #take(instance, topic = instance.topic) {
    const records = (this.topics.get(topic) ?? []).slice(instance.position);
    instance.position += records.length;
    return records;
  }

  #push(instance) {
    if (!instance.to || !this.connections.has(instance.to.connection)) return;
    const records = this.#take(instance);
    if (records.length === 0 && !instance.first) return;
    instance.first = false;
    this.reply(instance.to, 200, records, instance.to.accept);
  }
}

/** One unmasked frame. */
export function serverFrame(opcode, payload, final = true) {
  const size = payload.length;
  const head = size < 126 ? [size] : size < 65536 ? [126, size >> 8, size & 255] : [127, 0, 0, 0, 0, (size >>> 24) & 255, (size >> 16) & 255, (size >> 8) & 255, size & 255];
  return Buffer.concat([Buffer.from([(final ? 0x80 : 0) | opcode, ...head]), payload]);
}

function readClientFrame(bytes) {
  if (bytes.length < 6) return undefined;
  let size = bytes[1] & 127;
  let at = 2;
  if (size === 126) {
    size = bytes.readUInt16BE(2);
    at = 4;
  } else if (size === 127) {
    size = Number(bytes.readBigUInt64BE(2));
    at = 10;
  }
  if ((bytes[1] & 128) === 0) throw new Error('the client did not mask');
  if (bytes.length < at + 4 + size) return undefined;
  const mask = bytes.subarray(at, at + 4);
  const payload = Buffer.from(bytes.subarray(at + 4, at + 4 + size).map((byte, index) => byte ^ mask[index % 4]));
  return { opcode: bytes[0] & 15, payload, end: at + 4 + size };
}

/** The slow and sure way: the shortest beginning that parses. */
function envelopeEnd(text) {
  for (let at = text.indexOf('}'); at >= 0; at = text.indexOf('}', at + 1)) {
    try {
      JSON.parse(text.slice(0, at + 1));
      return at + 1;
    } catch {
      // a brace inside
    }
  }
  return -1;
}
