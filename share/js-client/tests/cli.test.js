import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { main } from '../src/cli/main.js';
import { startGateway } from './fake-gateway.js';
import { until } from './helpers.js';

const PROGRAM = fileURLToPath(new URL('../bin/client.js', import.meta.url));

/** The program as a process of its own, without a terminal. */
function run(args, input) {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  const result = { out: '', err: '', child, status: undefined };
  child.stdout.on('data', (text) => (result.out += text));
  child.stderr.on('data', (text) => (result.err += text));
  result.ended = new Promise((resolve) => child.on('close', (status) => resolve(Object.assign(result, { status }))));
  if (input !== undefined) child.stdin.end(input);
  return result;
}

async function fakeFor(t) {
  const fake = await startGateway();
  t.after(() => fake.stop());
  return fake;
}

test('a script on standard input: the dialogue that users know, answers only on standard output', async (t) => {
  const fake = await fakeFor(t);
  fake.append('test', []);
  const script = `list
create binary my_group my_instance
sub b my_group my_instance test
publish b test Hello   Kafka
pub j test {"a":1}
pub json test '"foo"'
read b my_group my_instance test
commit my_group my_instance
ls
unsub my_group my_instance test
ls
info nope
bogus
sub b g
pub x test y
pub j test {
del my_group my_instance
quit
list
`;
  const { out, err, status } = await run([fake.url], script).ended;
  assert.equal(status, 0, err);
  const lines = out.split('\n');
  // Pushes and replies are independent of each other.
  assert.ok(lines.includes("res2: [ 'Hello   Kafka' ]"));
  assert.deepEqual(
    lines.filter((line) => !line.startsWith('res2: [ ')),
    [
      'res0: ["test"]',
      `res1: {"instance_id":"my_instance","base_uri":"${fake.url}consumers/my_group/instances/my_instance"}`,
      'res2: []',
      'res3: {"offsets":[{"partition":0,"offset":0,"error_code":null,"error":null}],"key_schema_id":null,"value_schema_id":null}',
      'res4: {"offsets":[{"partition":0,"offset":1,"error_code":null,"error":null}],"key_schema_id":null,"value_schema_id":null}',
      'res5: {"offsets":[{"partition":0,"offset":2,"error_code":null,"error":null}],"key_schema_id":null,"value_schema_id":null}',
      'res6: []',
      'res7: [{"topic":"test","partition":0,"consumed":2,"committed":2}]',
      "Subscribed: { my_instance: { id: '2', mode: 'binary', group: 'my_group', topic: 'test' } }",
      'Subscribed: {}',
      'res9: {"error_code":40401,"message":"Topic not found."}',
      'Error: Unknown command: bogus',
      'Error: Missing arguments for sub',
      'Usage: sub mode group instance topic',
      'Error: Invalid arguments for pub',
      'Error: Invalid arguments for pub',
      '',
    ],
  );
  assert.equal(err, `Host URL: ${fake.url}\nConnecting using websocket ...\nConnected using websocket\nClosed\n`);
  assert.equal(fake.requests[1].body, '{"id":"my_instance","format":"binary","auto.offset.reset":"smallest"}');
  assert.deepEqual(fake.topics.get('test').map(({ value }) => value), ['SGVsbG8gICBLYWZrYQ==', { a: 1 }, 'foo']);
});

test('one command as arguments: exit status tells whether it worked', async (t) => {
  const fake = await fakeFor(t);
  assert.deepEqual((await run([fake.url, 'pub', 'json', 'test', '{"a": 1}']).ended).status, 0);
  const listed = await run(['--transport', 'sse', '--trace', fake.url.slice(0, -1), 'list']).ended;
  assert.equal(listed.out, 'res0: ["test"]\n');
  assert.match(listed.err, /Connected using sse\nTRACE: sending  {"id":"0","method":"GET","path":"\/topics"}\nTRACE: received {"code":200/);
  const refused = await run([fake.url, 'info', 'nope']).ended;
  assert.deepEqual([refused.status, refused.out], [1, 'res0: {"error_code":40401,"message":"Topic not found."}\n']);
  assert.equal((await run(['--transport', 'pigeon']).ended).status, 2);
  assert.equal((await run([fake.url, 'bogus']).ended).status, 2);
  assert.match((await run(['--help']).ended).out, /sub mode group instance topic/);
});

test('sub as arguments follows until it is interrupted, over a lost connection', async (t) => {
  const fake = await fakeFor(t);
  fake.append('test', []);
  assert.equal((await run([fake.url, 'cre', 'j', 'g', 'i']).ended).status, 0);
  const followed = run([fake.url, 'sub', 'j', 'g', 'i', 'test']);
  await until(() => followed.out.includes('res0: []\n'));
  fake.append('test', [{ a: { b: { c: { d: 1 } } } }]);
  await until(() => followed.out.includes('res0: [ { a: { b: { c: { d: 1 } } } } ]\n'));
  fake.drop();
  fake.append('test', ['\u001b[2J']);
  await until(() => followed.out.includes("res0: [ '\\x1B[2J' ]\n"));
  followed.child.kill('SIGINT');
  assert.equal((await followed.ended).status, 0);
  assert.match(followed.err, /Connection lost, trying again/);
});

test('no connection: it says why, and exits with 1', async (t) => {
  const fake = await startGateway();
  await fake.stop();
  const { status, out, err } = await run([fake.url, 'list']).ended;
  assert.deepEqual([status, out], [1, '']);
  assert.match(err, /ECONNREFUSED[^]*Unable to open a connection. Terminated.\n$/);
  const denying = await fakeFor(t);
  denying.refuse = new Set(['unauthorised']);
  const denied = await run(['--user', 'u:p', denying.url, 'list']).ended;
  assert.equal(denied.status, 1);
  assert.match(denied.err, /401/);
  assert.equal(denying.openings[0].headers.authorization, 'Basic dTpw');
});

test('--detached chooses the reply form', async (t) => {
  const fake = await fakeFor(t);
  fake.intercept = ({ connection }) => {
    connection.send('{"id": "0", "data": ["a"]}');
    return true;
  };
  assert.equal((await run(['--detached', 'false', fake.url, 'list']).ended).out, 'res0: ["a"]\n');
  assert.match(fake.openings[0].url, /X-Atmosphere-SimpleRestProtocolDetached=false&/);
  assert.doesNotMatch(fake.openings[0].url, /Detached=true/);
});

test('at a terminal: it asks for the transport, and shows the prompt again after each answer', async (t) => {
  const fake = await fakeFor(t);
  const terminal = { stdin: Object.assign(new PassThrough(), { isTTY: true }), stdout: new PassThrough(), stderr: new PassThrough() };
  let screen = '';
  terminal.stdout.on('data', (text) => (screen += text));
  const ended = main([fake.url], terminal, new AbortController().signal);
  await until(() => screen.includes('select: '));
  terminal.stdin.write('1\n');
  await until(() => screen.endsWith('> '));
  terminal.stdin.write('list\n');
  await until(() => /res0: \[\]\n[^\n]*> $/.test(screen));
  fake.onOpen = undefined;
  for (const connection of fake.connections) for (const text of ['junk\u001b[2J', '{"error_code":400}', '[1]']) connection.send(text);
  await until(() => screen.includes('Invalid response:  junk\\x1b[2J\n') && screen.includes('{"error_code":400}\n') && screen.includes('res*: [1]\n'));
  terminal.stdin.write('quit\n');
  assert.equal(await ended, 0);
  assert.ok(screen.startsWith(`Host URL: ${fake.url}\nSelect transport ...\n0: websocket\n1: sse\n`));
  assert.match(screen, /Connecting using sse ...\nConnected using sse\n/);
  assert.match(screen, /Closed\n$/);
});

test('a negative number is an argument, not an option', async (t) => {
  const fake = await fakeFor(t);
  fake.append('test', []);
  const followed = run([fake.url, 'stream', 'json', 'test', '-10']);
  t.after(() => followed.child.kill());
  await until(() => fake.openings.some(({ url }) => url.startsWith('/topics/test/stream') && url.includes('offset=-10')));
  const published = await run([fake.url, 'pub', 'json', 'test', '-5']).ended;
  assert.equal(published.status, 0, published.err);
  assert.ok(fake.requests.some(({ body }) => body.includes('{"value":-5}')));
  assert.equal((await run([fake.url, '--bogus']).ended).status, 2);
});
