import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeFrame, FrameReader } from '../src/node/frames.js';
import { NodeWebSocket } from '../src/node/websocket.js';
import { serverFrame, startGateway } from './fake-gateway.js';
import { pair, until } from './helpers.js';

/** Messages that these bytes make, fed in pieces of a size. */
function read(bytes, size) {
  const reader = new FrameReader();
  const messages = [];
  for (let at = 0; at < bytes.length; at += size) {
    for (const { opcode, payload } of reader.feed(bytes.subarray(at, at + size))) messages.push([opcode, payload.toString()]);
  }
  return messages;
}

test('frames in any pieces, fragments with control frames between, all lengths', () => {
  const long = 'x'.repeat(70000);
  const bytes = Buffer.concat([
    serverFrame(1, Buffer.from('')),
    serverFrame(1, Buffer.from('one '), false),
    serverFrame(9, Buffer.from('ping')),
    serverFrame(0, Buffer.from('two '), false),
    serverFrame(0, Buffer.from('three')),
    serverFrame(1, Buffer.from(long.slice(0, 300))),
    serverFrame(2, Buffer.from(long)),
  ]);
  for (const size of [1, 2, 3, 7, 1000, bytes.length]) {
    assert.deepEqual(read(bytes, size), [[1, ''], [9, 'ping'], [1, 'one two three'], [1, long.slice(0, 300)], [2, long]]);
  }
});

test('faults of the server have close codes', () => {
  const bad = [
    [1002, Buffer.from([0xc1, 0])], // reserved bit
    [1002, Buffer.from([0x81, 0x80, 0, 0, 0, 0])], // masked
    [1002, Buffer.from([0x83, 0])], // unknown opcode
    [1002, Buffer.from([0x80, 0])], // continuation of nothing
    [1002, Buffer.concat([serverFrame(1, Buffer.from('a'), false), serverFrame(1, Buffer.from('b'))])],
    [1002, Buffer.from([0x09, 0])], // fragmented ping
    [1002, Buffer.from([0x89, 126, 0, 126])], // long ping
    [1009, Buffer.from([0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0])],
  ];
  for (const [code, bytes] of bad) assert.throws(() => read(bytes, bytes.length), { code });
});

test('client frames are masked, and differently each time', () => {
  const frames = [encodeFrame(1, Buffer.from('abcdefgh')), encodeFrame(1, Buffer.from('abcdefgh'))];
  assert.ok(frames.every((frame) => frame[1] === 0x88));
  assert.ok(!frames[0].equals(frames[1]));
});

test('pings are answered, text that is not UTF-8 ends the connection with 1007', async (t) => {
  const { fake, gateway } = await pair(t, { transports: ['websocket'] });
  await gateway.opened();
  const [connection] = fake.connections;
  connection.raw(serverFrame(9, Buffer.from('are you there')));
  await until(() => connection.pongs[0] === 'are you there');
  connection.raw(serverFrame(1, Buffer.from([0xff])));
  await until(() => connection.closeCode === 1007);
  assert.deepEqual(await gateway.topics(), []);
});

test('a server that is none: other answers, wrong accept', async (t) => {
  const fake = await startGateway();
  t.after(() => fake.stop());
  fake.server.removeAllListeners('upgrade');
  for (const [answer, reason] of [
    ['HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', /answered 404/],
    ['HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n', /not that of a WebSocket server/],
    ['junk\r\n\r\n', /Parse Error/],
  ]) {
    fake.server.once('upgrade', (_, socket) => socket.end(answer));
    const event = await new Promise((resolve) => (new NodeWebSocket(`ws://127.0.0.1:${fake.port}/`).onclose = resolve));
    assert.equal(event.code, 1006);
    assert.match(event.reason, reason);
  }
});

const ws = await import('ws').catch(() => undefined);

test('it gets along with another implementation', { skip: ws ? false : 'the package ws is not installed' }, async (t) => {
  const server = new ws.WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true });
  t.after(() => server.close());
  let peer;
  let closed;
  server.on('connection', (socket, request) => {
    peer = { socket, headers: request.headers, pongs: 0 };
    socket.on('pong', () => peer.pongs++);
    socket.on('message', (data, binary) => socket.send(data, { binary }));
    socket.on('close', (code) => (closed = code));
  });
  await until(() => server.address());
  const socket = new NodeWebSocket(`ws://127.0.0.1:${server.address().port}/`, { 'X-Foo': 'bar' });
  const seen = [];
  socket.onmessage = ({ data }) => seen.push(data);
  await new Promise((resolve) => (socket.onopen = resolve));
  const texts = ['', 'é€😀', 'x'.repeat(125), 'y'.repeat(126), 'z'.repeat(65535), 'w'.repeat(65536), 'v'.repeat(3000000)];
  for (const text of texts) socket.send(text);
  await until(() => seen.length === texts.length);
  assert.deepEqual(seen, texts);
  assert.equal(peer.headers['x-foo'], 'bar');
  peer.socket.send('frag', { fin: false });
  peer.socket.ping('p');
  peer.socket.send('ment', { fin: true });
  peer.socket.send(Buffer.from([1, 2]));
  await until(() => seen.length === texts.length + 2 && peer.pongs === 1);
  assert.equal(seen.at(-2), 'fragment');
  assert.deepEqual([...seen.at(-1)], [1, 2]);
  const ended = new Promise((resolve) => (socket.onclose = resolve));
  socket.close(1000, 'done');
  assert.equal((await ended).code, 1000);
  await until(() => closed === 1000);
});
