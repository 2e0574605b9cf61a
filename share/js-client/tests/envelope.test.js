import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Assembler, decodeReply, encodeRequest, fromBase64, toBase64 } from '../src/envelope.js';
import { GatewayError } from '../src/errors.js';
import { errorOf } from '../src/reply.js';

/** The reply that these messages make. */
function read(...messages) {
  const assembler = new Assembler();
  let reply;
  for (const message of messages) reply = assembler.add(decodeReply(message));
  return reply;
}

test('a request is written byte for byte', () => {
  const head = { id: '124', method: 'POST', path: '/topics/test', type: 'application/vnd.kafka.binary.v1+json', accept: undefined };
  assert.deepEqual(encodeRequest(head, '{"records":[{"value":"S2Fma2E="}]}', 65536), [
    '{"id":"124","method":"POST","path":"/topics/test","type":"application/vnd.kafka.binary.v1+json"}{"records":[{"value":"S2Fma2E="}]}',
  ]);
});

test('a long request is cut into parts within the limit, on code points, and joins to the same text', () => {
  for (const body of ['x'.repeat(5000), '😀é'.repeat(900), `${'a'.repeat(100)}${' '.repeat(120)}b`.repeat(20)]) {
    const messages = encodeRequest({ id: 'ä', method: 'POST', path: '/t' }, body, 300);
    assert.ok(messages.length > 5);
    let joined = '';
    messages.forEach((message, at) => {
      assert.ok(Buffer.byteLength(message) <= 300);
      const end = message.indexOf('}') + 1;
      const head = JSON.parse(message.slice(0, end));
      const last = at === messages.length - 1;
      assert.deepEqual(head, { id: 'ä', ...(at === 0 && { method: 'POST', path: '/t' }), ...(!last && { continue: true }) });
      if (at > 0) assert.doesNotMatch(message.slice(end), /^\s/);
      joined += message.slice(end);
    });
    assert.equal(joined, body);
  }
});

test('a request at the limit is one message, one byte more is two', () => {
  const head = { id: '1' };
  const room = 100 - JSON.stringify(head).length;
  assert.equal(encodeRequest(head, 'x'.repeat(room), 100).length, 1);
  assert.equal(encodeRequest(head, 'x'.repeat(room + 1), 100).length, 2);
});

test('the three reply forms', () => {
  const detached = read('{"code":200,"id":"123","type":"application/vnd.kafka.v1+json"}["test","jsontest"]');
  assert.deepEqual([detached.id, detached.code, detached.type, detached.body], ['123', 200, 'application/vnd.kafka.v1+json', ['test', 'jsontest']]);
  assert.deepEqual(read('{"id": "1", "data": ["test","jsontest"]}').body, ['test', 'jsontest']);
  assert.deepEqual(read('{"id": "1", "detached": true}\n["test","jsontest"]').body, ['test', 'jsontest']);
  assert.equal(read('{"id": "3", "code": 404, "data": {"error_code":40401}}').code, 404);
  assert.equal(read('{"code":204,"id":"4"}').body, undefined);
  assert.equal(read('{"id": "4", "code": 204}').code, 204);
});

test('parts are joined in the three forms', () => {
  const joined = 'part-one part-two part-three';
  assert.equal(
    read(
      '{"code":200,"continue":true,"id":"2","type":"text/plain"}part-one ',
      '{"code":200,"continue":true,"id":"2","type":"text/plain"}part-two ',
      '{"code":200,"id":"2","type":"text/plain"}part-three',
    ).body,
    joined,
  );
  assert.equal(
    read('{"id": "2", "continue":true, "data": "part-one "}', '{"id": "2", "continue":true, "data": "part-two "}', '{"id": "2", "data": "part-three"}').body,
    joined,
  );
  assert.equal(
    read('{"id": "2", "continue":true, "detached": true}\npart-one ', '{"id": "2", "continue":true, "detached": true}\npart-two ', '{"id": "2", "detached": true}\npart-three').body,
    joined,
  );
  assert.deepEqual(read('{"id": "2", "continue":true, "data": "[{\\"a\\""}', '{"id": "2", "data": ":1}]"}').body, [{ a: 1 }]);
});

test('the head ends at its own brace', () => {
  const reply = read('{"code":200,"id":"}{\\"","type":"application/json"}{"a":"}{\\"\\\\"}');
  assert.equal(reply.id, '}{"');
  assert.deepEqual(reply.body, { a: '}{"\\' });
  assert.equal(read(' \r\n{"code":200,"id":"","type":"text/plain"}\n Hi').text, '\n Hi');
});

test('binary messages, base64 content, characters split across parts', () => {
  const bytes = (text) => new Uint8Array(Buffer.from(text));
  assert.equal(read(bytes('{"code":200,"id":"ä","type":"text/plain"}ö')).body, 'ö');
  assert.equal(read(bytes('{"code":200,"id":"ä","type":"text/plain"}ö')).id, 'ä');
  const euro = Buffer.from('€');
  const first = Buffer.concat([bytes('{"code":200,"continue":true,"id":"1","type":"text/plain"}'), euro.subarray(0, 1)]);
  const second = Buffer.concat([bytes('{"code":200,"id":"1","type":"text/plain"}'), euro.subarray(1)]);
  assert.equal(read(new Uint8Array(first), new Uint8Array(second)).text, '€');
  assert.deepEqual([...read('{"id": "1", "data": "/w==", "encoding": "base64"}').bytes], [255]);
  const raw = new Uint8Array([...bytes('{"code":200,"id":"1","type":"application/octet-stream"}'), 0xff, 0x7b]);
  assert.deepEqual([...read(raw).bytes], [0xff, 0x7b]);
});

test('what is no envelope with an id is bare', () => {
  for (const message of ['', ' ', 'X', 'not json', '[]', '["a"]', '{"error_code":400}', '{"id":"1"', '{"id":7}', '{"id":"1","data":"%","encoding":"base64"}', '{bad}', '{"heartbeat": "x", "time": 1}']) {
    assert.equal(decodeReply(message), undefined, message);
  }
  assert.equal(decodeReply(new Uint8Array([0xff, 0xfe])), undefined);
});

test('__proto__ in a reply is data and changes no prototype (S14)', () => {
  const text = '[{"key":null,"value":{"__proto__":{"polluted":1}},"partition":0,"offset":0}]';
  for (const message of [`{"code":200,"id":"1","type":"application/json"}${text}`, `{"id": "1", "data": ${text}}`]) {
    const [record] = read(message).body;
    assert.ok(Object.hasOwn(record.value, '__proto__'));
    assert.equal(Object.getPrototypeOf(record), Object.prototype);
  }
  assert.equal(decodeReply('{"__proto__":{"id":"1"}}'), undefined);
  const reply = read('{"code":200,"id":"1","headers":{"__proto__":{"polluted":1}}}');
  assert.ok(reply.headers);
  assert.equal({}.polluted, undefined);
});

test('errors have status, error_code and a message that names the request', () => {
  const error = errorOf(read('{"code":404,"id":"127","type":"application/vnd.kafka.v1+json"}{"error_code":40401,"message":"Topic not found."}'), 'GET /topics/nope');
  assert.ok(error instanceof GatewayError && error instanceof Error);
  assert.deepEqual([error.code, error.status, error.error_code, error.retriable], ['REPLY', 404, 40401, false]);
  assert.equal(error.message, 'Topic not found. (GET /topics/nope: 40401)');
  assert.equal(errorOf(read('{"code":503,"id":"1","type":"application/json"}<html>'), 'GET /').retriable, true);
  assert.throws(() => read('{"code":200,"id":"1","type":"application/json"}<html>').body, { code: 'BAD_REPLY' });
});

test('base64 of text and bytes', () => {
  assert.equal(toBase64('Kafka'), 'S2Fma2E=');
  assert.equal(toBase64(new Uint8Array([255, 0])), '/wA=');
  assert.deepEqual([...fromBase64('/wA=')], [255, 0]);
});
