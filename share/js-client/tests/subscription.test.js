import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pair, take, TRANSPORTS, until } from './helpers.js';

const WANTED = { group: 'g', instance: 'i', topic: 'test', format: 'json' };
const CREATE = { ...WANTED, create: { 'auto.offset.reset': 'smallest' } };

for (const transport of TRANSPORTS) {
  test(`${transport}: records come in order over lost connections and a restart`, async (t) => {
    const { fake, gateway } = await pair(t, { transports: [transport] });
    fake.append('test', [0, 1]);
    const subscription = await gateway.subscribe(CREATE);
    const values = take(subscription, 8);
    fake.append('test', [2, 3]);
    await until(() => subscription.received === 4);
    fake.drop();
    fake.append('test', [4]);
    await until(() => subscription.received === 5);
    // The gateway restarts and has lost the instance; the new one starts at the beginning, as nothing was committed.
    fake.drop();
    fake.forget();
    await until(() => subscription.received === 10);
    fake.append('test', [5]);
    assert.deepEqual(await values, [0, 1, 2, 3, 4, 0, 1, 2]);
    await until(() => fake.instances.size === 0); // leaving the loop has closed it and deleted the instance
  });
}

test('the requests are those of the contract', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', []);
  const subscription = await gateway.subscribe({ ...CREATE, maxBytes: 1000 });
  assert.deepEqual(await subscription.commit(), [{ topic: 'test', partition: 0, consumed: -1, committed: -1 }]);
  await subscription.close();
  assert.deepEqual(fake.received, [
    '{"id":"1","method":"POST","path":"/consumers/g","type":"application/vnd.kafka.json.v1+json"}{"auto.offset.reset":"smallest","id":"i","format":"json","session.timeout.ms":6000}',
    '{"id":"0","method":"GET","path":"/ws/consumers/g/instances/i/topics/test?max_bytes=1000","accept":"application/vnd.kafka.json.v1+json"}',
    '{"id":"2","method":"POST","path":"/consumers/g/instances/i/offsets"}',
    '{"id":"3","method":"DELETE","path":"/ws/consumers/g/instances/i/topics/test"}',
    '{"id":"4","method":"DELETE","path":"/consumers/g/instances/i"}',
  ]);
});

test('several topics: an instance of v2', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', [1]);
  const subscription = await gateway.subscribe({ group: 'g', instance: 'i', topics: ['test'], format: 'json', create: {} });
  assert.deepEqual(await take(subscription, 1), [1]);
  await until(() => fake.instances.size === 0);
  assert.deepEqual(fake.received, [
    '{"id":"1","method":"POST","path":"/consumers/g","type":"application/vnd.kafka.v2+json"}{"name":"i","format":"json","session.timeout.ms":6000}',
    '{"id":"2","method":"POST","path":"/consumers/g/instances/i/subscription","type":"application/vnd.kafka.v2+json"}{"topics":["test"]}',
    '{"id":"0","method":"GET","path":"/ws/consumers/g/instances/i/records","accept":"application/vnd.kafka.json.v2+json"}',
    '{"id":"3","method":"DELETE","path":"/ws/consumers/g/instances/i/records"}',
    '{"id":"4","method":"DELETE","path":"/consumers/g/instances/i"}',
  ]);
});

test('a push that breaks off in its middle is not delivered; the next connection gets it whole', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', []);
  const subscription = await gateway.subscribe(CREATE);
  const [instance] = fake.instances.values();
  instance.to.connection.send(`{"code":200,"continue":true,"id":"${subscription.id}","type":"application/vnd.kafka.json.v1+json"}[{"key":null,"value":0`);
  fake.drop();
  fake.append('test', [0, 1]);
  assert.deepEqual(await take(subscription, 2), [0, 1]);
});

test('several subscriptions on one connection keep apart', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('a', []);
  fake.append('b', []);
  const [a, b] = await Promise.all(['a', 'b'].map((topic) => gateway.subscribe({ ...CREATE, instance: topic, topic })));
  fake.append('a', [1]);
  fake.append('b', [2]);
  assert.deepEqual(await Promise.all([take(a, 1), take(b, 1)]), [[1], [2]]);
});

test('refusals: 40401, 40403 without create, 40601', async (t) => {
  const { fake, gateway } = await pair(t);
  await assert.rejects(gateway.subscribe(WANTED), { status: 404, error_code: 40403 });
  await assert.rejects(gateway.subscribe(CREATE), { status: 404, error_code: 40401 });
  await until(() => fake.instances.size === 0); // the instance made for it is gone again
  fake.append('test', []);
  await gateway.request({ method: 'POST', path: '/consumers/g', type: 'application/json', body: { id: 'i', format: 'binary' } });
  await assert.rejects(gateway.subscribe(WANTED), { status: 406, error_code: 40601 });
  assert.ok(!fake.received.some((message) => message.includes('"DELETE"') && message.includes('/ws/')));
  await assert.rejects(gateway.subscribe({ ...WANTED, topic: '' }), /subscribe needs a topic/);
});

test('callbacks: one at a time, awaited, in order; errors on the way are told', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', [0]);
  const seen = [];
  const errors = [];
  let running = 0;
  const subscription = await gateway.subscribe({
    ...CREATE,
    async onRecords(records) {
      assert.equal(++running, 1);
      await new Promise((resolve) => setTimeout(resolve, 5));
      seen.push(...records.map(({ value }) => value));
      running--;
    },
    onError: (error) => errors.push(error.error_code),
  });
  fake.append('test', [1]);
  const [instance] = fake.instances.values();
  fake.reply(instance.to, 500, { error_code: 50002, message: 'Kafka error: x' });
  // Older gateways push single records.
  fake.reply(instance.to, 200, { key: null, value: 2, partition: 0, offset: 2 });
  fake.append('test', [3]);
  await until(() => seen.length === 4);
  assert.deepEqual(seen, [0, 1, 2, 3]);
  assert.deepEqual(errors, [50002]);
  await subscription.close();
});

test('after a reconnect: errors that pass are tried again, others end it', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', []);
  const errors = [];
  const subscription = await gateway.subscribe({ ...CREATE, onRecords() {}, onError: (error) => errors.push(error.error_code) });
  let refusals = 0;
  fake.intercept = (request) => {
    if (!request.path.startsWith('/ws') || ++refusals > 2) return false;
    fake.reply(request, 500, { error_code: 50002, message: 'Kafka error: starting' });
    return true;
  };
  fake.drop();
  fake.append('test', [1]);
  await until(() => subscription.received === 1);
  assert.equal(refusals, 3);
  fake.topics.clear();
  fake.drop();
  await until(() => errors.length > 0);
  assert.deepEqual(errors, [40401]);
  assert.ok(subscription.closed);
});

test('a slow reader makes it pause, and goes on without loss', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', []);
  const subscription = await gateway.subscribe({ ...CREATE, bufferChars: 1000 });
  for (let at = 0; at < 100; at++) fake.append('test', [at]);
  await until(() => [...fake.instances.values()][0].to === undefined);
  for (let at = 100; at < 200; at++) fake.append('test', [at]);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(subscription.received, 100);
  assert.deepEqual(await take(subscription, 200), Array.from({ length: 200 }, (_, at) => at));
});

test('a connection lost during the pause changes nothing', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', []);
  const subscription = await gateway.subscribe({ ...CREATE, bufferChars: 1000 });
  fake.append('test', Array.from({ length: 50 }, (_, at) => at));
  await until(() => [...fake.instances.values()][0].to === undefined);
  fake.drop();
  await until(() => fake.openings.length === 2 && gateway.state === 'open');
  fake.append('test', [50]);
  assert.equal(subscription.received, 50);
  assert.equal((await take(subscription, 51)).at(-1), 50);
});

test('ended by signal before the first answer: rejected, and the gateway is told', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', []);
  await gateway.opened();
  await gateway.request({ method: 'POST', path: '/consumers/g', type: 'application/json', body: { id: 'i', format: 'json' } });
  fake.intercept = ({ method, path }) => method === 'GET' && path.startsWith('/ws');
  const stop = new AbortController();
  const subscription = gateway.subscribe({ ...WANTED, signal: stop.signal });
  await until(() => fake.requests.some(({ path }) => path.startsWith('/ws')));
  stop.abort(new Error('changed my mind'));
  await assert.rejects(subscription, /changed my mind/);
  await until(() => fake.requests.some(({ method, path }) => method === 'DELETE' && path.startsWith('/ws')));
  await assert.rejects(gateway.subscribe({ ...WANTED, signal: stop.signal }), /changed my mind/);
  await assert.rejects(gateway.subscribe({ ...WANTED, timeoutMs: 20 }), { code: 'TIMEOUT' });
});

test('closing the gateway ends iterations', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', []);
  const subscription = await gateway.subscribe(CREATE);
  const all = take(subscription);
  await gateway.close();
  assert.deepEqual(await all, []);
  assert.equal(fake.instances.size, 0);
});

test('giving up the connection fails the iteration after what has come', async (t) => {
  const { fake, gateway } = await pair(t, { retries: 0 });
  fake.append('test', [1]);
  const subscription = await gateway.subscribe(CREATE);
  fake.drop();
  await until(() => gateway.state === 'closed');
  const seen = [];
  await assert.rejects(async () => {
    for await (const { value } of subscription) seen.push(value);
  }, { code: 'LOST' });
  assert.deepEqual(seen, [1]);
});

test('records with __proto__ and hostile text are data (S14)', async (t) => {
  const { fake, gateway } = await pair(t);
  fake.append('test', [JSON.parse('{"__proto__":{"polluted":true}}'), '<script>alert(1)</script>']);
  const [value, text] = await take(await gateway.subscribe({ ...CREATE, instance: '__proto__', group: '__proto__' }), 2);
  assert.ok(Object.hasOwn(value, '__proto__'));
  assert.equal(text, '<script>alert(1)</script>');
  assert.equal({}.polluted, undefined);
});
