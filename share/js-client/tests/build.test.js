import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { gzipSync } from 'node:zlib';
import { build } from '../scripts/build.js';
import * as library from '../src/index.js';
import { NodeWebSocket } from '../src/node/websocket.js';
import { startGateway } from './fake-gateway.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LIMIT_BYTES = 11 * 1024;

test('the built files are up to date, and at most 11 KB gzipped', () => {
  for (const [name, text] of Object.entries(build())) {
    assert.ok(readFileSync(join(ROOT, 'dist', name), 'utf8') === text, `dist/${name} is out of date: run npm run build`);
    const size = gzipSync(text, { level: 9 }).length;
    assert.ok(size <= LIMIT_BYTES, `dist/${name} has ${size} bytes gzipped`);
  }
});

test('the classic script sets KafkaGateway and works with the browser’s own interfaces', async (t) => {
  const fake = await startGateway();
  t.after(() => fake.stop());
  const offered = [];
  // What a page has; its WebSocket takes no headers.
  const page = vm.createContext({
    AbortController, ArrayBuffer, TextDecoder, TextEncoder, Uint8Array, URL, atob, btoa, clearInterval, clearTimeout, fetch,
    location: { href: fake.url }, performance, queueMicrotask, setInterval, setTimeout,
    WebSocket: class extends NodeWebSocket {
      constructor(url, protocols) {
        super(url);
        offered.push(...protocols);
      }
    },
  });
  vm.runInContext(readFileSync(join(ROOT, 'dist/kafka-gateway.js'), 'utf8'), page);
  const names = vm.runInContext('Object.keys(KafkaGateway)', page);
  assert.deepEqual([...names].sort(), Object.keys(library).sort());
  const gateway = vm.runInContext("KafkaGateway.connect('/', {headers: {Authorization: 'Basic dTpw'}})", page);
  assert.equal((await gateway.topics()).length, 0);
  assert.deepEqual(offered, ['kafka-gateway', `authorization.${Buffer.from('Basic dTpw').toString('base64url')}`]);
  assert.doesNotMatch(fake.openings[0].url, /Authorization/);
  await gateway.close();
});

test('the modules of record streams stand alone', async (t) => {
  const names = ['GatewayError', 'RecordStream', 'stream'];
  const page = vm.createContext({ AbortController, TextEncoder, URL });
  vm.runInContext(readFileSync(join(ROOT, 'dist/kafka-gateway-stream.js'), 'utf8'), page);
  assert.deepEqual([...vm.runInContext('Object.keys(KafkaGatewayStream)', page)].sort(), names);
  assert.throws(() => vm.runInContext("KafkaGatewayStream.stream('localhost:8082', 't')", page), /no address of a gateway/);
  for (const module of ['../dist/kafka-gateway-stream.mjs', '../src/stream.js', '../src/node/stream.js']) {
    assert.deepEqual(Object.keys(await import(module)).sort(), names);
  }
});

test('the module has the same names', async () => {
  const module = await import('../dist/kafka-gateway.mjs');
  assert.deepEqual(Object.keys(module).sort(), Object.keys(library).sort());
});

const tsc = join(ROOT, 'node_modules/.bin/tsc');

test('types check, and the declarations are up to date', { skip: existsSync(tsc) ? false : 'typescript is not installed' }, (t) => {
  const fresh = mkdtempSync(join(tmpdir(), 'types-'));
  t.after(() => rmSync(fresh, { recursive: true }));
  execFileSync(tsc, ['-p', ROOT, '--outDir', fresh]);
  const files = (folder) => readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.d.ts')).sort();
  assert.deepEqual(files(join(ROOT, 'types')), files(fresh), 'types/ is out of date: run npm run types');
  for (const name of files(fresh)) {
    assert.ok(readFileSync(join(ROOT, 'types', name), 'utf8') === readFileSync(join(fresh, name), 'utf8'), `types/${name} is out of date: run npm run types`);
  }
});

test('the lock file names no registry host', () => {
  assert.doesNotMatch(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'), /"resolved"|:\/\//);
});
