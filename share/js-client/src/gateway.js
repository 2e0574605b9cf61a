import { Connection } from './connection.js';
import { Consumer } from './consumer.js';
import { Assembler, decodeReply, encodeRequest, toBase64 } from './envelope.js';
import { GatewayError } from './errors.js';
import { errorOf } from './reply.js';
import { Subscription } from './subscription.js';

/**
 * All times are in milliseconds.
 * @typedef {object} Options
 * @property {import('./connection.js').TransportName[]} [transports] in the order in which they are tried;
 *   `['websocket', 'sse', 'long-polling']` by default
 * @property {Record<string, string>} [headers] of the opening request, e.g. `{Authorization: 'Basic …'}`. Browsers
 *   cannot set headers on a WebSocket: there `Authorization` travels as a subprotocol, others in the query string, where
 *   logs may show them
 * @property {number} [timeoutMs] for the answer to a request, the time in the queue included; 60000 by default, 0 for none
 * @property {number} [openTimeoutMs] for opening one transport; 10000 by default
 * @property {number} [retryMinMs] first pause before connecting again; 500 by default. It doubles each time, with jitter
 * @property {number} [retryMaxMs] longest pause; 30000 by default
 * @property {number} [retries] attempts after a failed one before it closes itself; no limit by default
 * @property {number} [keepAliveMs] something is sent at least so often; 30000 by default, 0 for never
 * @property {number} [silenceMs] when nothing came for so long, the gateway is asked whether it is there, and the connection
 *   given up without an answer; 75000 by default (the gateway's heartbeat comes each 60 s), 0 for never
 * @property {number} [maxMessageBytes] longer requests are sent in parts; 65536 by default, the gateway's limit
 * @property {number} [maxInFlight] requests sent and not yet answered; the others wait. 128 by default
 * @property {number} [maxQueueChars] characters of requests that may wait, connected or not; 16 Mi by default. Requests
 *   beyond it fail with `QUEUE_FULL`
 * @property {(state: import('./connection.js').State, error?: GatewayError) => void} [onState] news of the connection
 * @property {(payload: string) => void} [onBare] takes payloads that belong to no request: errors of unreadable messages
 * @property {(direction: 'sending' | 'received', message: string | Uint8Array) => void} [onTrace] sees each message
 * @property {AbortSignal} [signal] closes the gateway object
 * @property {(url: string, headers: Record<string, string>) => WebSocket} [openSocket] another WebSocket implementation
 */

/**
 * @typedef {object} RequestOptions
 * @property {string} [method] `GET` by default
 * @property {string} [path] absolute, percent-encoded, with its query; `/` by default
 * @property {string} [type] media type of the body
 * @property {string} [accept] media type wanted
 * @property {Record<string, string>} [headers] further request headers
 * @property {unknown} [body] text as it is, anything else as JSON
 * @property {boolean} [idempotent] send it again if the connection breaks before the answer; without it such a request
 *   fails with `LOST`
 * @property {number} [timeoutMs] as in the options of the gateway object
 * @property {AbortSignal} [signal] gives up waiting; a request that was already sent may still be executed
 */

/**
 * @typedef {object} ProducedRecord
 * @property {any} [key]
 * @property {any} [value]
 * @property {number} [partition]
 * @property {number | string} [timestamp] milliseconds since 1970, or an ISO 8601 text
 * @property {{name: string, value?: string | Uint8Array | null}[]} [headers] values as base64 text, or bytes
 */

/**
 * @typedef {object} Waiting a request that has no answer yet
 * @property {import('./envelope.js').RequestHead} head
 * @property {string} body
 * @property {number} size
 * @property {boolean} idempotent
 * @property {(reply: import('./reply.js').Reply) => void} resolve
 * @property {(error: unknown) => void} reject
 */

/** @typedef {{assembler: Assembler, receive: (reply: import('./reply.js').Reply) => void}} Slot */

/** Close code for a message over the gateway's limit. */
const TOO_BIG = 1009;

/**
 * The REST API of a Kafka gateway over one connection, with many requests at a time, and records pushed. Made by `connect`.
 * It connects, and connects again, by itself; requests wait until it can send them.
 */
export class Gateway {
  #connection;
  #options;
  #nextId = 0;
  /** @type {Set<Waiting>} Not yet sent, in order. */
  #queue = new Set();
  #queued = 0;
  /** @type {Map<string, Waiting>} Sent, without an answer. */
  #pending = new Map();
  /** @type {Map<string, Slot>} Who takes the replies with this id. */
  #slots = new Map();
  /** @type {Set<Subscription>} */
  #subscriptions = new Set();
  /** @type {Set<() => void>} */
  #watchers = new Set();
  /** @type {GatewayError | undefined} */
  #error;
  #abort = () => void this.close();

  /**
   * @param {string} url
   * @param {Options} options
   * @param {(url: string, headers: Record<string, string>) => WebSocket} openSocket
   */
  constructor(url, options, openSocket) {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const { signal } = options;
    this.#options = {
      timeoutMs: 60000,
      maxMessageBytes: 65536,
      maxInFlight: 128,
      maxQueueChars: 16 << 20,
      .../** @type {Options} */ (given),
    };
    this.#connection = new Connection({
      transports: ['websocket', 'sse', 'long-polling'],
      openTimeoutMs: 10000,
      retryMinMs: 500,
      retryMaxMs: 30000,
      retries: Infinity,
      silenceMs: 75000,
      keepAliveMs: 30000,
      openSocket,
      .../** @type {Options} */ (given),
      ...httpAddress(url, options.headers),
      onMessage: (message) => this.#receive(message),
      onState: (state, error) => this.#changed(state, error),
    });
    signal?.addEventListener('abort', this.#abort);
    if (signal?.aborted) void this.close();
  }

  /** State of the connection. */
  get state() {
    return this.#connection.state;
  }

  /** Name of the transport in use, or of the one used last; undefined before the first connection. */
  get transport() {
    return this.#connection.transport;
  }

  /**
   * Resolves as soon as the connection is open. There is no need to wait for it: requests do so by themselves.
   * @param {AbortSignal} [signal] ends the wait
   * @returns {Promise<void>}
   * @throws {GatewayError} if the gateway object is closed
   */
  opened(signal) {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (signal?.aborted) reject(signal.reason);
        else if (this.state === 'open') resolve();
        else if (this.state === 'closed') reject(this.#closedError());
        else return;
        this.#watchers.delete(look);
        signal?.removeEventListener('abort', look);
      };
      this.#watchers.add(look);
      signal?.addEventListener('abort', look);
      look();
    });
  }

  /**
   * Sends a request and resolves with its answer.
   * @param {RequestOptions} options
   * @returns {Promise<import('./reply.js').Reply>}
   * @throws {GatewayError} for an answer with a status of 400 or more, or without an answer: see its `code`
   */
  request(options) {
    return new Promise((resolve, reject) => {
      const { method = 'GET', path = '/', accept, headers, body, idempotent = false, signal } = options;
      const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs;
      if (this.state === 'closed') throw this.#closedError();
      if (signal?.aborted) throw signal.reason;
      if (ArrayBuffer.isView(body)) throw new TypeError('a body is text or a value for JSON: use toBase64 for bytes');
      const content = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body);
      const type = options.type ?? (body === undefined || typeof body === 'string' ? undefined : 'application/json');
      const size = content.length + path.length;
      if (this.#queued > 0 && this.#queued + size > this.#options.maxQueueChars) {
        throw new GatewayError('QUEUE_FULL', 'too many requests wait to be sent: await earlier ones first, or raise maxQueueChars');
      }

      const head = { id: String(this.#nextId++), method, path, type, accept, headers };
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        this.#drop(waiting);
      };
      const waiting = {
        head,
        body: content,
        size,
        idempotent,
        /** @param {import('./reply.js').Reply} reply */
        resolve: (reply) => {
          settle();
          if (reply.code >= 400) reject(errorOf(reply, `${method} ${path}`));
          else resolve(reply);
          this.#flush();
        },
        /** @param {unknown} error */
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      const aborted = () => waiting.reject(signal?.reason);
      signal?.addEventListener('abort', aborted);
      const expired = () => {
        waiting.reject(new GatewayError('TIMEOUT', `no answer to ${method} ${path} within ${timeoutMs} ms`));
        this.#flush();
      };
      const timer = timeoutMs > 0 ? setTimeout(expired, timeoutMs) : undefined;
      this.#queue.add(waiting);
      this.#queued += size;
      this.#flush();
    });
  }

  /**
   * Names of the topics.
   * @returns {Promise<string[]>}
   */
  async topics() {
    return (await this.request({ path: '/topics', idempotent: true })).body;
  }

  /**
   * Produces records with the REST API v2. Calls that overlap reach Kafka in the order in which they were made.
   * @param {string} topic
   * @param {ProducedRecord[]} records in format `binary`, bytes are encoded and text has to be base64 already; so have
   *   values of headers in every format
   * @param {object} [options]
   * @param {string} [options.format] `json` (default), `binary`, `avro`, `jsonschema` or `protobuf`
   * @param {{[name: string]: unknown}} [options.schemas] `key_schema`, `value_schema`, `key_schema_id`, `value_schema_id`
   * @param {AbortSignal} [options.signal]
   * @param {number} [options.timeoutMs]
   * @returns {Promise<{offsets: {partition: number | null, offset: number | null, error_code: number | null,
   *   error: string | null}[], key_schema_id: number | null, value_schema_id: number | null}>} one element of `offsets` for
   *   each record; a record that failed has an `error_code` there
   */
  async produce(topic, records, { format = 'json', schemas, signal, timeoutMs } = {}) {
    const reply = await this.request({
      method: 'POST',
      path: `/topics/${encodeURIComponent(topic)}`,
      type: `application/vnd.kafka.${format}.v2+json`,
      accept: 'application/vnd.kafka.v2+json',
      body: JSON.stringify({ ...schemas, records: records.map((record) => withoutBytes(record, format === 'binary')) }),
      signal,
      timeoutMs,
    });
    return reply.body;
  }

  /**
   * Makes a consumer instance of the REST API v2.
   * @param {string} group
   * @param {object} [options]
   * @param {string} [options.name] of the instance; by default the gateway makes one up
   * @param {string} [options.format] `binary` (default), `json`, `avro`, `jsonschema` or `protobuf`
   * @param {{[name: string]: unknown}} [options.settings] e.g. `{"auto.offset.reset": "earliest"}`
   * @returns {Promise<Consumer>}
   */
  async createConsumer(group, { name, format = 'binary', settings } = {}) {
    const reply = await this.request({
      method: 'POST',
      path: `/consumers/${encodeURIComponent(group)}`,
      type: 'application/vnd.kafka.v2+json',
      body: { ...settings, name, format },
    });
    return new Consumer(this, group, reply.body.instance_id, format);
  }

  /**
   * Subscribes to a topic; records are pushed as they come.
   * @param {import('./subscription.js').SubscriptionOptions} options
   * @returns {Promise<Subscription>} after the gateway's first answer
   * @throws {GatewayError} if the gateway refuses it
   */
  async subscribe(options) {
    if (this.state === 'closed') throw this.#closedError();
    const id = String(this.#nextId++);
    const subscription = new Subscription(
      {
        id,
        isOpen: () => this.state === 'open',
        request: (request) => this.request(request),
        call: (head, receive) => this.#call(head, receive),
        forget: (ended) => {
          this.#subscriptions.delete(ended);
          this.#slots.delete(id);
        },
      },
      options,
    );
    this.#subscriptions.add(subscription);
    return subscription.start();
  }

  /**
   * Ends subscriptions and the connection. Requests without an answer fail with `CLOSED`.
   * @returns {Promise<void>} when the gateway has been told, or cannot be
   */
  async close() {
    await Promise.all([...this.#subscriptions].map((subscription) => subscription.close()));
    this.#connection.close();
  }

  /**
   * @param {import('./connection.js').State} state
   * @param {GatewayError} [error]
   */
  #changed(state, error) {
    if (state === 'open') {
      for (const subscription of this.#subscriptions) subscription.connected();
      this.#flush();
    } else {
      this.#lost(error);
    }
    if (state === 'closed') this.#end(error);
    for (const look of [...this.#watchers]) look();
    this.#tell(this.#options.onState, state, error);
  }

  /** @param {GatewayError} [error] */
  #lost(error) {
    for (const subscription of this.#subscriptions) subscription.disconnected();
    this.#slots.clear();
    // Those to be sent again come before those never sent: they are older.
    const again = [];
    for (const waiting of [...this.#pending.values()]) {
      const { method, path } = waiting.head;
      // Sending what was too big again would end every connection.
      if (waiting.idempotent && error?.closeCode !== TOO_BIG) again.push(waiting);
      else if (this.state === 'closed') waiting.reject(this.#closedError());
      else {
        const text = `the connection broke before the answer to ${method} ${path}: ${error?.message ?? 'closed'}`;
        waiting.reject(new GatewayError('LOST', text, { closeCode: error?.closeCode, cause: error }));
      }
    }
    this.#pending.clear();
    if (again.length === 0) return;
    for (const waiting of again) this.#queued += waiting.size;
    this.#queue = new Set([...again, ...this.#queue]);
  }

  /** @param {GatewayError} [error] */
  #end(error) {
    this.#error = error;
    this.#options.signal?.removeEventListener('abort', this.#abort);
    for (const subscription of [...this.#subscriptions]) subscription.end(error);
    for (const waiting of [...this.#queue]) waiting.reject(this.#closedError());
  }

  #closedError() {
    if (this.#error === undefined) return new GatewayError('CLOSED', 'the connection to the gateway is closed');
    return new GatewayError('CLOSED', `the connection was given up: ${this.#error.message}`, {
      status: this.#error.status,
      cause: this.#error,
    });
  }

  /** Sends what waits, as far as the window allows. */
  #flush() {
    for (const waiting of this.#queue) {
      if (this.state !== 'open' || this.#pending.size >= this.#options.maxInFlight) return;
      this.#queue.delete(waiting);
      this.#queued -= waiting.size;
      this.#pending.set(waiting.head.id, waiting);
      this.#call(waiting.head, waiting.resolve, waiting.body);
    }
  }

  /**
   * @param {import('./envelope.js').RequestHead} head
   * @param {(reply: import('./reply.js').Reply) => void} receive
   * @param {string} [body]
   */
  #call(head, receive, body = '') {
    this.#slots.set(head.id, { assembler: new Assembler(), receive });
    for (const message of encodeRequest(head, body, this.#options.maxMessageBytes)) {
      this.#tell(this.#options.onTrace, 'sending', message);
      this.#connection.send(message);
    }
  }

  /**
   * Calls the application after the present work is done: what it throws is its own, and breaks nothing here.
   * @template {unknown[]} T
   * @param {((...values: T) => void) | undefined} callback
   * @param {T} values
   */
  #tell(callback, ...values) {
    if (callback) queueMicrotask(() => callback(...values));
  }

  /** @param {Waiting} waiting */
  #drop(waiting) {
    if (this.#queue.delete(waiting)) this.#queued -= waiting.size;
    if (this.#pending.delete(waiting.head.id)) this.#slots.delete(waiting.head.id);
  }

  /** @param {string | Uint8Array} message */
  #receive(message) {
    this.#tell(this.#options.onTrace, 'received', message);
    if (message === 'X') return; // heartbeat of the Atmosphere protocol
    const part = decodeReply(message);
    if (part === undefined) {
      const text = typeof message === 'string' ? message : new TextDecoder().decode(message);
      if (!/^\s*\{\s*"heartbeat"/.test(text)) this.#tell(this.#options.onBare, text);
      return;
    }
    // Unknown ids are late answers to what was given up.
    const slot = this.#slots.get(part.head.id);
    const reply = slot?.assembler.add(part);
    if (reply) slot?.receive(reply);
  }
}

/**
 * The record with base64 text for its bytes: those of headers are so in every format.
 * @param {ProducedRecord} record
 * @param {boolean} binary whether key and value are bytes, too
 */
function withoutBytes(record, binary) {
  if (!binary && !record.headers) return record;
  const encoded = { ...record };
  if (binary) {
    encoded.key = inBase64(record.key);
    encoded.value = inBase64(record.value);
  }
  if (record.headers) encoded.headers = record.headers.map(({ name, value }) => ({ name, value: inBase64(value) }));
  return encoded;
}

/** @param {any} value */
function inBase64(value) {
  return value instanceof Uint8Array ? toBase64(value) : value;
}

/**
 * The http address for any way of writing it, and the headers, with credentials of the address among them.
 * @param {string} text
 * @param {Record<string, string>} [headers]
 */
function httpAddress(text, headers = {}) {
  const url = new URL(text, globalThis.location?.href);
  const protocol = url.protocol.replace(/^ws/, 'http');
  if (protocol !== 'http:' && protocol !== 'https:') {
    throw new TypeError(`"${text}" is no address of a gateway: use http, https, ws or wss`);
  }
  const credentials = url.username && toBase64(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`);
  url.username = url.password = '';
  return {
    url: protocol + url.href.slice(url.protocol.length),
    headers: credentials ? { Authorization: `Basic ${credentials}`, ...headers } : headers,
  };
}
