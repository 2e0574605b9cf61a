// Against a live gateway: GATEWAY_URL=http://localhost:8082/ npm test. GATEWAY_TRANSPORTS=websocket,sse limits it. Topics are made by producing to them, so Kafka has
// to create topics by itself (the embedded one does). The client goes through a relay here, which can cut its connection.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { connect } from '../src/node/index.js';
import { stream } from '../src/node/stream.js';
import { take, TRANSPORTS, until } from './helpers.js';

const URL_OF_GATEWAY = process.env.GATEWAY_URL;
const skip = URL_OF_GATEWAY ? false : 'GATEWAY_URL is not set';
const PROGRAM = fileURLToPath(new URL('../bin/client.js', import.meta.url));
const EARLIEST = { 'auto.offset.reset': 'smallest' };

/** A way to the gateway that can be cut. */
async function relay(t) {
  const { hostname, port } = new URL(URL_OF_GATEWAY);
  const sockets = new Set();
  const server = net.createServer((near) => {
    const far = net.connect(Number(port || 80), hostname);
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = () => sockets.forEach((socket) => socket.destroy());
  t.after(() => {
    server.close();
    cut();
  });
  return { url: `http://127.0.0.1:${server.address().port}/`, cut };
}

function client(t, url, options) {
  const gateway = connect(url, { retryMinMs: 50, ...options });
  t.after(() => gateway.close());
  return gateway;
}

function names() {
  const id = randomUUID().slice(0, 8);
  return { topic: `js-${id}`, group: `g-${id}`, instance: `i-${id}` };
}

for (const transport of process.env.GATEWAY_TRANSPORTS?.split(',') ?? TRANSPORTS) {
  const options = { transports: [transport] };

  test(`live, ${transport}: produce, read, errors, requests at the same time`, { skip }, async (t) => {
    const gateway = client(t, URL_OF_GATEWAY, options);
    const { topic, group } = names();
    const { offsets } = await gateway.produce(topic, [{ key: 'k', value: { a: 1 } }, { value: 'é😀|\n' }]);
    assert.deepEqual(offsets.map(({ error_code }) => error_code), [null, null]);
    assert.ok((await gateway.topics()).includes(topic));
    assert.equal(gateway.transport, transport);

    const consumer = await gateway.createConsumer(group, { format: 'json', settings: { 'auto.offset.reset': 'earliest' } });
    await consumer.subscribe(topic);
    const records = [];
    while (records.length < 2) records.push(...(await consumer.read()));
    assert.deepEqual(new Set(records.map(({ value }) => JSON.stringify(value))), new Set(['{"a":1}', '"é😀|\\n"']));
    await consumer.commit();
    await consumer.close();

    await assert.rejects(gateway.request({ path: `/topics/none-${topic}` }), { code: 'REPLY', status: 404, error_code: 40401 });
    await assert.rejects(gateway.request({ path: '/no/such/path' }), { status: 404, error_code: 404 });
    const answers = await Promise.all(Array.from({ length: 100 }, () => gateway.request({ path: `/topics/${topic}` })));
    assert.ok(answers.every(({ code, body }) => code === 200 && body.name === topic));
  });

  test(`live, ${transport}: long requests and long replies`, { skip }, async (t) => {
    const gateway = client(t, URL_OF_GATEWAY, options);
    const { topic, group, instance } = names();
    const value = '€😀x'.repeat(30000);
    await gateway.produce(topic, [{ value }]);
    const subscription = await gateway.subscribe({ topic, group, instance, format: 'json', create: EARLIEST });
    assert.deepEqual(await take(subscription, 1), [value]);
    const wide = { topics: [topic], group, instance, format: 'json', create: { 'auto.offset.reset': 'earliest' } };
    assert.deepEqual(await take(await gateway.subscribe(wide), 1), [value]);
  });

  test(`live, ${transport}: pushed records survive lost connections`, { skip }, async (t) => {
    const way = await relay(t);
    const gateway = client(t, way.url, options);
    const direct = client(t, URL_OF_GATEWAY);
    const { topic, group, instance } = names();
    const partition = 0;
    await direct.produce(topic, [{ value: 0, partition }]);
    const subscription = await gateway.subscribe({ topic, group, instance, format: 'json', create: EARLIEST });
    const offsets = [];
    const reading = (async () => {
      for await (const { offset } of subscription) {
        offsets.push(offset);
        if (offset === 30) break;
      }
    })();
    for (let value = 1; value <= 30; value++) {
      await direct.produce(topic, [{ value, partition }]);
      if (value === 10 || value === 20) {
        // Only what has arrived is certain: the gateway cannot know what was lost on the way.
        await until(() => offsets.includes(value));
        way.cut();
        await until(() => gateway.state !== 'open');
      }
    }
    await reading;
    assert.deepEqual([...new Set(offsets)], Array.from({ length: 31 }, (_, at) => at));
    await assert.rejects(direct.request({ method: 'DELETE', path: `/consumers/${group}/instances/${instance}` }), { error_code: 40403 });
  });

  test(`live, ${transport}: a slow reader pauses and loses nothing`, { skip }, async (t) => {
    const gateway = client(t, URL_OF_GATEWAY, options);
    const { topic, group, instance } = names();
    const batch = Array.from({ length: 500 }, () => ({ value: 'x'.repeat(100), partition: 0 }));
    await gateway.produce(topic, batch);
    const subscription = await gateway.subscribe({ topic, group, instance, format: 'json', create: EARLIEST, bufferChars: 20000 });
    await gateway.produce(topic, batch);
    let next = 0;
    for await (const { offset } of subscription) {
      assert.equal(offset, next++);
      if (next % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      if (next === 1000) break;
    }
  });
}

test('live: refusals of a subscription', { skip }, async (t) => {
  const gateway = client(t, URL_OF_GATEWAY);
  const { topic, group, instance } = names();
  const wanted = { topic, group, instance, format: 'json' };
  await assert.rejects(gateway.subscribe(wanted), { status: 404, error_code: 40403 });
  await assert.rejects(gateway.subscribe({ ...wanted, topic: `none-${topic}`, create: EARLIEST }), { status: 404, error_code: 40401 });
  await gateway.produce(topic, [{ value: 1 }]);
  await gateway.request({ method: 'POST', path: `/consumers/${group}`, type: 'application/vnd.kafka.v1+json', body: { id: instance, format: 'binary' } });
  await assert.rejects(gateway.subscribe(wanted), { status: 406, error_code: 40601 });
  await gateway.request({ method: 'DELETE', path: `/consumers/${group}/instances/${instance}` });
});

test('live: the console program', { skip }, async () => {
  const { topic, group, instance } = names();
  const run = async (...args) => (await promisify(execFile)(process.execPath, [PROGRAM, URL_OF_GATEWAY, ...args])).stdout;
  assert.match(await run('pub', 'b', topic, 'Hello', 'Kafka'), /^res0: \{"offsets":\[\{"partition":\d+,"offset":0,"error_code":null,"error":null\}\]/);
  assert.match(await run('cre', 'b', group, instance), /"instance_id":"/);
  let read;
  do read = await run('read', 'b', group, instance, topic);
  while (read === 'res0: []\n'); // the consumer is still joining its group
  assert.match(read, /"value":"SGVsbG8gS2Fma2E="/);
  assert.match(await run('commit', group, instance), /"consumed":0/);
  assert.equal(await run('del', group, instance), '');
});

test('live: the examples of the README', { skip }, async () => {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const { topic } = names();
  const examples = [...readFileSync(`${root}README.md`, 'utf8').matchAll(/^```js\n([^]*?)^```/gm)].map((match) => match[1]);
  assert.equal(examples.length, 4);
  for (const example of examples) {
    const code = example.replaceAll('http://localhost:8082/', URL_OF_GATEWAY).replaceAll('orders', topic);
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], { cwd: root });
    assert.notEqual(stdout, '');
  }
});

/** Produces numbers, some at a time, until `count` are there. */
async function produceNumbers(gateway, topic, count, pauseMs = 5) {
  for (let number = 0; number < count; number += 10) {
    const values = Array.from({ length: 10 }, (_, index) => ({ value: number + index }));
    await gateway.produce(topic, values);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

const sorted = (numbers) => [...numbers].sort((a, b) => a - b);

test('live: a stream whose connection breaks again and again has each record once, in order', { skip }, async (t) => {
  const gateway = client(t, URL_OF_GATEWAY);
  const way = await relay(t);
  const { topic } = names();
  await gateway.produce(topic, [{ value: 'old', partition: 0 }]);
  let reconnects = 0;
  let producing;
  const records = stream(way.url, topic, {
    retryMinMs: 5,
    limit: 1000,
    onEvent: (name) => name === 'ready' && (producing ??= produceNumbers(gateway, topic, 1000)),
    onState: (state) => state === 'waiting' && reconnects++,
  });
  const cutting = setInterval(way.cut, 50);
  const values = [];
  const next = new Map();
  for await (const { partition, offset, value } of records) {
    assert.equal(offset, next.get(partition) ?? offset);
    next.set(partition, offset + 1);
    values.push(value);
  }
  clearInterval(cutting);
  await producing;
  assert.deepEqual(sorted(values), Array.from({ length: 1000 }, (_, index) => index));
  assert.ok(reconnects > 2, `${reconnects} reconnects`);
});

test('live: a token goes on another day', { skip }, async (t) => {
  const gateway = client(t, URL_OF_GATEWAY);
  const { topic } = names();
  await produceNumbers(gateway, topic, 50, 0);
  const first = stream(URL_OF_GATEWAY, topic, { offset: 'earliest' });
  const values = [];
  for await (const { value } of first) if (values.push(value) === 17) break;
  for await (const { value } of stream(URL_OF_GATEWAY, topic, { token: first.token, until: 'end' })) values.push(value);
  assert.deepEqual(sorted(values), Array.from({ length: 50 }, (_, index) => index));
});

test('live: members of a group go on where the acknowledgements of others ended', { skip, timeout: 60_000 }, async (t) => {
  const gateway = client(t, URL_OF_GATEWAY);
  const { topic, group } = names();
  await produceNumbers(gateway, topic, 40, 0);
  const options = { group, ack: 'client', offset: 'earliest' };
  const values = [];
  for await (const records of stream(URL_OF_GATEWAY, topic, options).batches()) {
    values.push(...records.map(({ value }) => value));
    if (values.length >= 40) await gateway.produce(topic, [{ value: 40, partition: 0 }]);
    if (values.includes(40)) break; // before it asks for more: this batch comes again
  }
  for await (const { value } of stream(URL_OF_GATEWAY, topic, options)) {
    values.push(value);
    break;
  }
  assert.deepEqual(sorted(values), [...Array(41).keys(), 40]);
});

test('live: the console program follows a topic', { skip }, async (t) => {
  const gateway = client(t, URL_OF_GATEWAY);
  const { topic } = names();
  await gateway.produce(topic, [{ value: 'a', partition: 0 }, { value: { b: 1 }, key: 'k', partition: 0 }]);
  const running = execFile(process.execPath, [PROGRAM, URL_OF_GATEWAY, 'stream', 'json', topic, 'earliest']);
  t.after(() => running.kill());
  let out = '';
  running.stdout.on('data', (text) => (out += text));
  await until(() => out.includes('@1'));
  assert.equal(out, `${topic}-0@0: 'a'\n${topic}-0@1: { key: 'k', value: { b: 1 } }\n`);
  running.kill('SIGINT');
  assert.equal(await new Promise((resolve) => running.on('exit', resolve)), 0);
});
