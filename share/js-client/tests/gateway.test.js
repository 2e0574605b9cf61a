import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, GatewayError } from '../src/node/index.js';
import { startGateway } from './fake-gateway.js';
import { pair, QUICK, TRANSPORTS, until } from './helpers.js';

for (const transport of TRANSPORTS) {
  test(`${transport}: requests and replies, errors, long requests and long replies`, async (t) => {
    const { fake, gateway, bare } = await pair(t, { transports: [transport], maxMessageBytes: 400 });
    fake.splitLimit = 300;
    fake.append('test', []);
    assert.deepEqual(await gateway.topics(), ['test']);
    assert.equal(gateway.transport, transport);
    assert.equal(fake.received[0], '{"id":"0","method":"GET","path":"/topics"}');

    const text = '😀|\r\n€'.repeat(200);
    const { offsets } = await gateway.produce('test', [{ value: text }]);
    assert.deepEqual(offsets, [{ partition: 0, offset: 0, error_code: null, error: null }]);
    assert.equal(fake.topics.get('test')[0].value, text);
    assert.ok(fake.received.filter((message) => message.includes('"continue":true')).length > 3);

    const consumer = await gateway.createConsumer('g', { name: 'i', format: 'json' });
    await consumer.subscribe('test');
    const [record] = await consumer.read({ waitMs: 10, maxBytes: 100000 });
    assert.equal(record.value, text);
    assert.equal(fake.requests.at(-1).path, '/consumers/g/instances/i/records?timeout=10&max_bytes=100000');
    await consumer.commit();
    await consumer.close();

    await assert.rejects(gateway.request({ path: '/topics/nope' }), (error) => {
      assert.ok(error instanceof GatewayError);
      assert.deepEqual([error.status, error.error_code, error.reply.type], [404, 40401, 'application/vnd.kafka.v1+json']);
      return true;
    });
    assert.equal((await gateway.request({ method: 'DELETE', path: '/ws/consumers/g/instances/i/topics/test' }).catch((error) => error)).error_code, 40403);
    assert.deepEqual(bare, []);
  });
}

test('the opening requests carry the parameters of the protocol and the headers', async (t) => {
  const { fake, gateway } = await pair(t, { headers: { Authorization: 'Basic dTpw' } });
  await gateway.opened();
  assert.equal(
    fake.openings[0].url,
    '/?X-Atmosphere-tracking-id=0&X-Atmosphere-Framework=5.0.7-kafka-gateway-client&X-Atmosphere-Transport=websocket&X-Atmosphere-SimpleRestProtocolDetached=true',
  );
  assert.equal(fake.openings[0].headers.authorization, 'Basic dTpw');
});

test('replies in any order find their requests, interleaved parts too', async (t) => {
  const { fake, gateway } = await pair(t);
  const held = [];
  fake.intercept = (request) => held.push(request) > 0;
  const first = gateway.request({ path: '/a' });
  const second = gateway.request({ path: '/b' });
  await until(() => held.length === 2);
  const { connection } = held[0];
  connection.send('{"code":200,"continue":true,"id":"0","type":"text/plain"}a1');
  connection.send('{"code":200,"continue":true,"id":"1","type":"text/plain"}b1');
  connection.send('{"code":200,"id":"1","type":"text/plain"}b2');
  assert.equal((await second).text, 'b1b2');
  connection.send('{"code":200,"id":"0","type":"text/plain"}a2');
  assert.equal((await first).text, 'a1a2');
});

test('garbage, heartbeats and unknown ids disturb nothing', async (t) => {
  const { fake, gateway, bare } = await pair(t);
  fake.onOpen = ({ send }) => {
    for (const message of ['X', '{"heartbeat": "5ebb0ba3-9634-4431-a96f-61fa0f79fe0e", "time": 1795219361876}', 'junk', '{"code":200,"id":"999"}', '{"id":"0"', '[]', '{"error_code":400,"message":"Invalid message"}']) send(message);
    send(Buffer.from([0xff, 0x00]));
  };
  fake.append('test', []);
  assert.deepEqual(await gateway.topics(), ['test']);
  assert.deepEqual(bare, ['junk', '{"id":"0"', '[]', '{"error_code":400,"message":"Invalid message"}', '\ufffd\0']);
});

test('a broken connection: sent requests fail, idempotent and waiting ones are sent on the next one, in order', async (t) => {
  const { fake, gateway } = await pair(t, { maxInFlight: 2 });
  let held = 0;
  fake.intercept = ({ connection, id }) => {
    if (++held > 2) return false;
    if (held === 2) {
      connection.send(`{"code":200,"continue":true,"id":"${id}","type":"application/json"}[`);
      setTimeout(connection.drop, 10);
    }
    return true;
  };
  fake.append('test', []);
  const results = await Promise.allSettled([
    gateway.produce('test', [{ value: 1 }]),
    gateway.topics(),
    gateway.produce('test', [{ value: 2 }]),
  ]);
  assert.equal(results[0].reason.code, 'LOST');
  assert.equal(results[0].reason.retriable, true);
  assert.deepEqual(results[1].value, ['test']);
  assert.equal(results[2].value.offsets[0].offset, 0);
  assert.deepEqual(fake.requests.map(({ id }) => id), ['0', '1', '1', '2']);
});

test('requests made while disconnected wait; the queue is bounded', async (t) => {
  const { fake, gateway, states } = await pair(t, { maxQueueChars: 100 });
  await gateway.opened();
  fake.refuse = new Set(TRANSPORTS);
  fake.drop();
  await until(() => gateway.state === 'waiting');
  fake.append('test', []);
  const waiting = gateway.topics();
  await assert.rejects(gateway.request({ method: 'POST', path: '/topics/test', body: 'x'.repeat(200) }), { code: 'QUEUE_FULL' });
  fake.refuse.clear();
  assert.deepEqual(await waiting, ['test']);
  assert.ok(states.includes('waiting') && states.at(-1) === 'open');
});

test('falls back from WebSocket to SSE to long-polling', async (t) => {
  for (const [refused, expected] of [[['websocket'], 'sse'], [['websocket', 'sse'], 'long-polling']]) {
    const fake = await startGateway();
    fake.refuse = new Set(refused);
    const gateway = connect(fake.url, QUICK);
    t.after(async () => {
      await gateway.close();
      await fake.stop();
    });
    assert.deepEqual(await gateway.topics(), []);
    assert.equal(gateway.transport, expected);
  }
});

test('a server that accepts and hangs is left after the time limit', async (t) => {
  const { fake, gateway } = await pair(t, { openTimeoutMs: 50 });
  fake.server.removeAllListeners('upgrade');
  fake.server.on('upgrade', (_, socket) => socket.on('error', () => {}));
  assert.deepEqual(await gateway.topics(), []);
  assert.equal(gateway.transport, 'sse');
});

test('a gateway that restarts is met on WebSocket again', async (t) => {
  const { fake, gateway } = await pair(t, { retryMinMs: 30, retryMaxMs: 100 });
  await gateway.opened();
  await fake.stop();
  await until(() => gateway.state !== 'open');
  const next = await startGateway(fake.port);
  t.after(() => next.stop());
  assert.deepEqual(await gateway.topics(), []);
  assert.equal(gateway.transport, 'websocket');
});

test('wrong credentials end it at once and say so', async (t) => {
  for (const transports of [['websocket'], ['sse'], ['long-polling']]) {
    const fake = await startGateway();
    t.after(() => fake.stop());
    fake.refuse = new Set(['unauthorised']);
    const gateway = connect(fake.url, { ...QUICK, transports });
    const request = gateway.topics();
    await assert.rejects(gateway.opened(), { code: 'CLOSED', status: 401, message: /401/ });
    await assert.rejects(request, { code: 'CLOSED', status: 401 });
    assert.equal(fake.openings.length, 1);
  }
});

test('a refused origin outside of browsers is named, and no other 403 is', async (t) => {
  const fake = await startGateway();
  t.after(() => fake.stop());
  fake.refuse = new Set(['origin']);
  const socket = { ...QUICK, transports: ['websocket'] };
  const named = /403.*access\.control\.allow\.origin=http:\/\/evil\.example/;
  await assert.rejects(connect(fake.url, { ...socket, headers: { Origin: 'http://evil.example' } }).opened(), { message: named });
  const other = await connect(fake.url, socket).opened().catch((error) => error);
  assert.match(other.message, /403/);
  assert.doesNotMatch(other.message, /origin/);
});

test('it gives up after the allowed number of attempts', async () => {
  const fake = await startGateway();
  await fake.stop();
  const gateway = connect(fake.url, { ...QUICK, retries: 2 });
  await assert.rejects(gateway.topics(), { code: 'CLOSED', message: /websocket: .*sse: .*ECONNREFUSED.*long-polling/ });
  assert.equal(gateway.state, 'closed');
});

test('silence: the gateway is asked, an answer keeps the connection, none ends it', async (t) => {
  const { fake, gateway } = await pair(t, { silenceMs: 60, transports: ['websocket'] });
  await until(() => fake.requests.filter(({ id }) => id === 'probe').length >= 2);
  assert.equal(fake.openings.length, 1);
  fake.intercept = () => true;
  await until(() => fake.openings.length >= 2);
  fake.intercept = () => false;
  assert.deepEqual(await gateway.topics(), []);
});

test('keep-alive: empty messages on a quiet WebSocket, none on the others', async (t) => {
  const quick = { keepAliveMs: 20 };
  const socket = await pair(t, { ...quick, transports: ['websocket'] });
  await until(() => socket.fake.received.length >= 3);
  assert.deepEqual(new Set(socket.fake.received), new Set(['']));
  const events = await pair(t, { ...quick, transports: ['sse'] });
  await events.gateway.opened();
  await new Promise((resolve) => setTimeout(resolve, 80));
  assert.deepEqual(events.fake.received, []);
});

test('pushes that the gateway no longer takes lead to a new connection', async (t) => {
  const { fake, gateway } = await pair(t, { transports: ['sse'] });
  await gateway.opened();
  fake.acceptPushes = false;
  const request = gateway.topics();
  await until(() => fake.openings.length >= 2);
  fake.acceptPushes = true;
  assert.deepEqual(await request, []);
});

test('an event stream in odd pieces', async (t) => {
  const { fake, gateway } = await pair(t, { transports: ['sse'] });
  fake.intercept = ({ connection, id }) => {
    const bytes = Buffer.from(`: comment\r\nevent: x\r\ndata:{"code":200,"id":"${id}","type":"text/plain"} é\r\ndata: 2\r\n\r\n`);
    const cuts = [0, 12, 21, bytes.indexOf(0xc3) + 1, bytes.length - 3, bytes.length];
    cuts.forEach((to, at) => setTimeout(() => connection.raw(bytes.subarray(cuts[at - 1] ?? 0, to)), at * 15));
    return true;
  };
  assert.equal((await gateway.request({ path: '/' })).text, ' é\n2');
});

test('a request can be given up: by signal, by time; late answers are dropped', async (t) => {
  const { fake, gateway, bare } = await pair(t);
  const held = [];
  fake.intercept = (request) => held.push(request) <= 2;
  const stop = new AbortController();
  const aborted = gateway.request({ path: '/a', signal: stop.signal });
  // Awaited from the start: on a busy machine its time is up before the other one is given up.
  const expired = assert.rejects(gateway.request({ path: '/b', timeoutMs: 30 }), { code: 'TIMEOUT', message: /GET \/b within 30 ms/ });
  await until(() => held.length === 2);
  stop.abort(new Error('enough'));
  await assert.rejects(aborted, /enough/);
  await expired;
  await assert.rejects(gateway.request({ signal: AbortSignal.abort(new Error('before')) }), /before/);
  for (const request of held) fake.reply(request, 200, 'late', 'text/plain');
  assert.deepEqual(await gateway.topics(), []);
  assert.deepEqual(bare, []);
});

test('close(): requests fail, the socket is closed with 1000, nothing works afterwards', async (t) => {
  const { fake, gateway } = await pair(t);
  await gateway.opened();
  const [connection] = fake.connections;
  fake.intercept = () => true;
  const request = gateway.topics();
  await until(() => fake.requests.length === 1);
  await gateway.close();
  await assert.rejects(request, { code: 'CLOSED' });
  await assert.rejects(gateway.topics(), { code: 'CLOSED' });
  await assert.rejects(gateway.opened(), { code: 'CLOSED' });
  await assert.rejects(gateway.subscribe({ group: 'g', instance: 'i', topic: 't' }), { code: 'CLOSED' });
  await until(() => connection.closeCode === 1000);
  await gateway.close();
});

test('close() tells the gateway on the HTTP transports, and a signal closes', async (t) => {
  for (const transport of ['sse', 'long-polling']) {
    const stop = new AbortController();
    const { fake, gateway } = await pair(t, { transports: [transport], signal: stop.signal });
    await gateway.opened();
    stop.abort();
    await until(() => fake.connections.size === 0 && gateway.state === 'closed');
  }
});

test('a message that is too big for the gateway is not sent for ever', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.intercept = ({ connection }) => {
    connection.close(1009, 'too big');
    return true;
  };
  await assert.rejects(gateway.topics(), { code: 'LOST', closeCode: 1009, message: /1009 too big/ });
});

test('errors of callbacks are the application’s own', async (t) => {
  const seen = [];
  const previous = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => seen.push(error.message));
  t.after(() => {
    process.removeAllListeners('uncaughtException');
    for (const listener of previous) process.on('uncaughtException', listener);
  });
  const { gateway } = await pair(t, {
    onState: (state) => {
      if (state === 'open') throw new Error('mine');
    },
  });
  assert.deepEqual(await gateway.topics(), []);
  assert.deepEqual(seen, ['mine']);
});

test('arguments that cannot work are refused', async () => {
  assert.throws(() => connect('ftp://x/'), /use http, https, ws or wss/);
  assert.throws(() => connect('http://x/', { transports: ['__proto__'] }), /unknown transport "__proto__"/);
  const gateway = connect('ws://user:pa%20ss@127.0.0.1:9/', QUICK);
  await assert.rejects(gateway.request({ body: new Uint8Array(2) }), /toBase64/);
  await gateway.close();
});

test('produce in binary encodes bytes', async (t) => {
  const { fake, gateway } = await pair(t);
  await gateway.produce('test', [{ key: new Uint8Array([255]), value: 'S2Fma2E=' }], { format: 'binary' });
  assert.equal(fake.requests[0].body, '{"records":[{"key":"/w==","value":"S2Fma2E="}]}');
  assert.equal(fake.requests[0].type, 'application/vnd.kafka.binary.v2+json');
});

test('produce takes headers and timestamps; bytes of headers are encoded in every format', async (t) => {
  const { fake, gateway } = await pair(t);
  const headers = [{ name: 'h', value: new Uint8Array([255]) }, { name: 'h', value: null }];
  await gateway.produce('test', [{ value: 1, timestamp: 1700000000123, headers }]);
  const [{ body }] = fake.requests;
  assert.equal(body, '{"records":[{"value":1,"timestamp":1700000000123,"headers":[{"name":"h","value":"/w=="},{"name":"h","value":null}]}]}');
});
