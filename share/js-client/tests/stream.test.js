// Record streams against a gateway in this process that says what each test wants, byte by byte.
import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { createHash } from 'node:crypto';
import { GatewayError, stream } from '../src/node/stream.js';
import { until } from './helpers.js';

const QUICK = { retryMinMs: 1, retryMaxMs: 5 };

const record = (offset, partition = 0, topic = 't') => ({ topic, partition, offset, key: null, value: offset });
const at = (offset, partition = 0, topic = 't') => ({ topic, partition, offset });
const frame = (data, name = '') => `id: []\n${name && `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`;
const ready = (...positions) => frame({ positions }, 'ready');
const end = (...positions) => frame({ positions }, 'end');
const batch = (...offsets) => frame(offsets.map((offset) => record(offset)));

/** Answers the nth request with the nth of the scripts: functions of the response, or a list of what is written. */
async function gateway(t, ...scripts) {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push({ url: new URL(request.url, 'http://x'), headers: request.headers, response });
    const script = scripts.length > 1 ? scripts.shift() : scripts[0];
    if (typeof script === 'function') return script(response);
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write('retry: 2000\n\n');
    for (const text of script) {
      if (text === 'end') response.end();
      else if (text === 'break') setTimeout(() => response.destroy(), 5);
      else response.write(text);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections?.();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, asked, server };
}

const refuse = (status, error_code, message) => (response) => {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify({ error_code, message }));
};

async function offsets(records) {
  const found = [];
  for await (const { offset } of records) found.push(offset);
  return found;
}

test('records come one by one, and the token is behind the one that was handed out', async (t) => {
  const { url, asked } = await gateway(t, [ready(at(5), at(0, 1)), batch(5, 6), ':\n\n', batch(7), end(at(8), at(0, 1)), 'end']);
  const records = stream(url, ['t', 'a/b'], { until: 'end' });
  const seen = [];
  assert.equal(records.token, undefined);
  for await (const { offset } of records) seen.push([offset, JSON.parse(records.token)]);
  assert.deepEqual(seen, [5, 6, 7].map((offset) => [offset, [at(offset + 1), at(0, 1)]]));
  assert.equal(asked.length, 1);
  assert.equal(asked[0].url.pathname, '/topics/t,a%2Fb/stream');
  assert.deepEqual(Object.fromEntries(asked[0].url.searchParams), { format: 'json', until: 'end', heartbeat: '15' });
  assert.equal(asked[0].headers.accept, 'text/event-stream');
});

test('another parser reads what comes', async (t) => {
  const { url } = await gateway(t, [ready(at(5)), batch(5), end(at(6)), 'end']);
  const texts = [];
  const parse = (text) => texts.push(text) && JSON.parse(text);
  for await (const { offset } of stream(url, 't', { until: 'end', parse })) assert.equal(offset, 5);
  assert.equal(texts.length, 3);
});

test('a broken connection is opened again behind the last record', async (t) => {
  const { url, asked } = await gateway(
    t,
    [ready(at(0)), batch(0, 1), 'break'],
    [ready(at(2)), 'break'],
    refuse(503, 503, 'Not now.'),
    [ready(at(2)), batch(2), end(at(3)), 'end'],
  );
  const states = [];
  const records = stream(url, 't', { ...QUICK, limit: 3, offset: 'earliest', since: new Date(5), onState: (state) => states.push(state) });
  assert.deepEqual(await offsets(records), [0, 1, 2]);
  const queries = asked.map(({ url: { searchParams: query } }) => [query.get('offset'), query.get('since'), query.get('limit')]);
  assert.deepEqual(queries, [['earliest', '5', '3'], [null, null, '1'], [null, null, '1'], [null, null, '1']]);
  const tokens = asked.map(({ headers }) => headers['last-event-id']);
  assert.deepEqual(tokens, [undefined, ...Array(3).fill(JSON.stringify([at(2)]))]);
  assert.deepEqual(states.join(), 'connecting,open,waiting,connecting,open,waiting,connecting,waiting,connecting,open,closed');
});

test('before the first record the beginning is kept: what was produced meanwhile is not missed', async (t) => {
  const { url, asked } = await gateway(t, [ready(at(7)), 'break'], [ready(at(7)), batch(7), 'end']);
  for await (const { offset } of stream(url, 't', QUICK)) {
    assert.equal(offset, 7);
    break;
  }
  assert.equal(asked[1].headers['last-event-id'], JSON.stringify([at(7)]));
});

test('events are told in their place, and a gap moves the position', async (t) => {
  const gap = { topic: 't', partition: 0, from: 3, to: 9 };
  const { url } = await gateway(t, [ready(at(3)), frame(gap, 'gap'), batch(9), end(at(10)), 'end']);
  const told = [];
  const records = stream(url, 't', { token: JSON.stringify([at(3)]), until: 'end', onEvent: (name, data) => told.push([name, data, records.token]) });
  assert.equal(records.token, JSON.stringify([at(3)]));
  assert.deepEqual(await offsets(records), [9]);
  assert.deepEqual(told, [
    ['ready', { positions: [at(3)] }, JSON.stringify([at(3)])],
    ['gap', gap, JSON.stringify([at(9)])],
    ['end', { positions: [at(10)] }, JSON.stringify([at(10)])],
  ]);
});

test('the first end is no end of a stream that follows', async (t) => {
  const { url, asked } = await gateway(t, [ready(at(0)), end(at(0)), batch(0), 'break'], [batch(1)]);
  const found = [];
  for await (const { offset } of stream(url, 't', QUICK)) if (found.push(offset) === 2) break;
  assert.deepEqual(found, [0, 1]);
  await until(() => asked[1].response.destroyed);
});

test('what cannot go on is thrown', async (t) => {
  for (const [script, expected] of [
    [refuse(404, 40401, 'Topic not found.'), { code: 'REPLY', status: 404, error_code: 40401, message: 'Topic not found. (40401)' }],
    [[ready(at(0)), frame({ error_code: 40401, message: 'Gone.', retriable: false }, 'error'), 'end'], { code: 'REPLY', status: 404, error_code: 40401 }],
    [['data: [{"offset":\n\n'], { code: 'BAD_REPLY' }],
  ]) {
    const { url, asked } = await gateway(t, script);
    await assert.rejects(offsets(stream(url, 't', QUICK)), (error) => {
      assert.ok(error instanceof GatewayError);
      for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value);
      return true;
    });
    assert.equal(asked.length, 1);
  }
  assert.throws(() => stream('localhost:8082', 't'), /no address of a gateway/);
});

test('an error that may pass is none', async (t) => {
  const gone = frame({ error_code: 50301, message: 'The gateway stops.', retriable: true }, 'error');
  const { url } = await gateway(t, [ready(at(0)), batch(0), gone, 'end'], [ready(at(1)), batch(1), end(at(2)), 'end']);
  assert.deepEqual(await offsets(stream(url, 't', { ...QUICK, until: 'end' })), [0, 1]);
});

test('retries bounds the attempts in a row', async (t) => {
  const { url, asked } = await gateway(t, refuse(503, 503, 'Not now.'));
  await assert.rejects(offsets(stream(url, 't', { ...QUICK, retries: 2 })), { status: 503 });
  assert.equal(asked.length, 3);
});

test('a connection that is silent is given up', async (t) => {
  const { url } = await gateway(t, [ready(at(0)), batch(0)], [ready(at(1)), batch(1), end(at(2)), 'end']);
  assert.deepEqual(await offsets(stream(url, 't', { ...QUICK, until: 'end', heartbeat: 0.02 })), [0, 1]);
});

test('a frame may come in any pieces', async (t) => {
  const bytes = Buffer.from(ready(at(0)) + frame([{ ...record(0), value: 'é😀\n|' }]) + end(at(1)));
  const { url } = await gateway(t, async (response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    for (const byte of bytes) {
      response.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    response.end();
  });
  for await (const { value } of stream(url, 't', { ...QUICK, limit: 1 })) assert.equal(value, 'é😀\n|');
});

test('nothing is read before it is asked for', async (t) => {
  let written = 0;
  const big = 'x'.repeat(1 << 16);
  const { url } = await gateway(t, (response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const more = () => {
      while (written < 4000 && response.write(frame([{ ...record(written++), value: big }])));
    };
    response.on('drain', more);
    more();
  });
  let count = 0;
  for await (const _ of stream(url, 't', QUICK)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (++count === 5) break;
  }
  assert.ok(written < 400, `${written} batches of 64 KB were read ahead`);
});

test('an abort, close() and leaving the loop end the connection and the loop', async (t) => {
  const { url, asked } = await gateway(t, [ready(at(0)), batch(0)]);
  const controller = new AbortController();
  const closed = stream(url, 't', { onEvent: () => setTimeout(() => closed.close(), 5) });
  assert.deepEqual(await offsets(closed), [0]);
  assert.deepEqual(await offsets(stream(url, 't', { signal: controller.signal, onEvent: () => setTimeout(() => controller.abort(), 5) })), [0]);
  assert.deepEqual(await offsets(stream(url, 't', { signal: controller.signal })), []);
  assert.equal(asked.length, 2);
  await until(() => asked.every(({ response }) => response.destroyed));
  await assert.rejects(offsets(closed), /read once/);
});

test('what a callback throws is thrown, and a promise is awaited', async (t) => {
  const { url } = await gateway(t, [ready(at(0)), batch(0), batch(1), end(at(2)), 'end']);
  const fail = () => {
    throw new RangeError('mine');
  };
  await assert.rejects(offsets(stream(url, 't', { onEvent: fail })), RangeError);
  let busy = false;
  const seen = [];
  await stream(url, 't', { until: 'end' }).forEach(async (records) => {
    assert.equal(busy, false);
    busy = true;
    await new Promise((resolve) => setTimeout(resolve, 5));
    busy = false;
    seen.push(records.map(({ offset }) => offset));
  });
  assert.deepEqual(seen.flat(), [0, 1]);
});

test('credentials in the address are sent, and not shown in it', async (t) => {
  const { url, asked } = await gateway(t, refuse(401, 401, 'No.'));
  await assert.rejects(offsets(stream(url.replace('//', '//us%C3%A9r:p%40ss@'), 't')), { status: 401 });
  assert.equal(asked[0].headers.authorization, `Basic ${Buffer.from('usér:p@ss').toString('base64')}`);
});

/** Accepts sockets; what clients send is in `messages`. */
function sockets(server, opened) {
  const messages = [];
  server.on('upgrade', (request, socket) => {
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.on('error', () => {});
    socket.on('data', (data) => {
      // Clients mask, which the reader of the client's own side refuses: undone here.
      const length = data[1] & 127;
      if (length < 126) messages.push(data.subarray(6, 6 + length).map((byte, index) => byte ^ data[2 + (index & 3)]).toString());
    });
    opened((value) => {
      const payload = Buffer.from(JSON.stringify(value));
      socket.write(Buffer.concat([payload.length < 126 ? Buffer.of(0x81, payload.length) : Buffer.of(0x81, 126, payload.length >> 8, payload.length & 255), payload]));
    }, request, socket);
  });
  return messages;
}

test('ack client: a batch is acknowledged when the next is asked for', async (t) => {
  const { url, server } = await gateway(t, refuse(500, 500, 'no socket'));
  let say;
  const urls = [];
  const messages = sockets(server, (send, request) => {
    say = send;
    urls.push(request.url);
    send({ event: 'ready', positions: [at(0)] });
    send([record(0), record(1)]);
  });
  const records = stream(url, 't', { group: 'g', ack: 'client' });
  const iterator = records[Symbol.asyncIterator]();
  assert.equal((await iterator.next()).value.offset, 0);
  assert.equal((await iterator.next()).value.offset, 1);
  assert.equal(records.token, undefined);
  assert.deepEqual(messages, []);
  const third = iterator.next();
  await until(() => messages.length === 1);
  assert.deepEqual(JSON.parse(messages[0]), { ack: [at(2)] });
  say([record(2)]);
  assert.equal((await third).value.offset, 2);
  await iterator.return();
  assert.equal(messages.filter((message) => message.includes('ack')).length, 1);
  assert.match(urls[0], /[?&]group=g&ack=client&/);
});

test('ack client: a socket that is refused says why, one that breaks is opened again', async (t) => {
  const { url, server } = await gateway(t, refuse(404, 40401, 'Topic not found.'));
  let refused = 0;
  server.on('upgrade', (request, socket) => refused++ || socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'));
  await assert.rejects(offsets(stream(url, 't', { ...QUICK, group: 'g', ack: 'client' })), { status: 404 });
  server.removeAllListeners('upgrade');
  let count = 0;
  sockets(server, (send, _request, socket) => {
    send([record(count++)]);
    setTimeout(() => socket.destroy(), 20);
  });
  const found = [];
  for await (const { offset } of stream(url, 't', { ...QUICK, group: 'g', ack: 'client' })) if (found.push(offset) === 3) break;
  assert.deepEqual(found, [0, 1, 2]);
});
