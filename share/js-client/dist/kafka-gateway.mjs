// Kafka Gateway client. SPDX-License-Identifier: Apache-2.0. Made by scripts/build.js from src/; do not edit.
class GatewayError extends Error {
constructor(code, message, { status = 0, error_code, reply, closeCode, cause } = {}) {
super(message, cause === undefined ? undefined : { cause });
this.name = 'GatewayError';
this.code = code;
this.status = status;
this.error_code = error_code;
this.reply = reply;
this.closeCode = closeCode;
}
get retriable() {
if (this.code === 'REPLY') return this.status >= 500 || this.status === 429 || this.status === 408;
return this.code === 'LOST' || this.code === 'TIMEOUT' || this.code === 'UNREACHABLE';
}
}
function backoff(attempt, minMs, maxMs) {
return Math.min(maxMs, minMs * 2 ** Math.min(attempt, 30)) * (0.5 + Math.random() / 2);
}
function delay(ms, signal) {
return new Promise((resolve) => {
const done = () => {
clearTimeout(timer);
signal?.removeEventListener('abort', done);
resolve();
};
const timer = setTimeout(done, ms);
if (signal?.aborted) done();
else signal?.addEventListener('abort', done);
});
}
const FRAMEWORK = '5.0.7-kafka-gateway-client';
function address(base, parameters) {
const url = new URL(base);
url.hash = '';
const query = Object.entries(parameters)
.filter(([name]) => !url.searchParams.has(name))
.map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
url.search = [url.search.slice(1), ...query].filter(Boolean).join('&');
return url.href;
}
function opening(transport, trackingId) {
return {
'X-Atmosphere-tracking-id': trackingId,
'X-Atmosphere-Framework': FRAMEWORK,
'X-Atmosphere-Transport': transport,
'X-Atmosphere-SimpleRestProtocolDetached': 'true',
};
}
function readHandshake(text) {
const [trackingId, interval, keepAliveText] = text.split('|');
if (!/^[\w-]{8,}$/.test(trackingId)) {
throw new GatewayError('UNREACHABLE', 'the server did not send the handshake of a Kafka gateway: check the address');
}
return { trackingId, keepAliveMs: Number(interval) || 0, keepAliveText };
}
function expect(response, type) {
if (response.status === 200 && (response.headers.get('content-type') ?? '').startsWith(type)) return;
throw new GatewayError('UNREACHABLE', `the server answered ${response.status} to the opening request`, {
status: response.status,
});
}
class Pusher {
#waiting = [];
#busy = false;
#ended = false;
constructor(peer, trackingId, failed) {
this.peer = peer;
this.trackingId = trackingId;
this.failed = failed;
}
send(text) {
this.#waiting.push(text);
if (!this.#busy) void this.#run();
}
async #run() {
this.#busy = true;
try {
for (let text; !this.#ended && (text = this.#waiting.shift()) !== undefined; ) {
const response = await this.#post('polling', text);
if (response.status !== 200 || (await response.text()) !== '') throw new Error(`a push was answered ${response.status}`);
}
} catch (cause) {
if (!this.#ended) this.failed(cause);
}
this.#busy = false;
}
leave() {
this.#ended = true;
this.#post('close', '').catch(() => {});
}
#post(transport, body) {
const url = address(this.peer.url, {
'X-Atmosphere-tracking-id': this.trackingId,
'X-Atmosphere-Framework': FRAMEWORK,
'X-Atmosphere-Transport': transport,
});
const headers = { ...this.peer.headers, 'Content-Type': 'text/plain;charset=UTF-8' };
return fetch(url, { method: 'POST', headers, body, keepalive: transport === 'close' });
}
}
const EMPTY_PAUSE_MS = 200;
const HANDSHAKE = /^[0-9a-f-]{36}\|\d+\|/;
async function openLongPolling(peer) {
const stop = new AbortController();
const giveUp = () => stop.abort();
const poll = async (trackingId) => {
const url = address(peer.url, {
...opening('long-polling', trackingId),
'X-Atmosphere-TrackMessageSize': 'true',
'X-atmo-protocol': 'true',
});
const response = await fetch(url, { headers: peer.headers, cache: 'no-store', signal: stop.signal });
expect(response, '');
return readTracked(await response.text());
};
peer.signal.addEventListener('abort', giveUp);
const [first] = await poll('0').finally(() => peer.signal.removeEventListener('abort', giveUp));
const { trackingId, ...heartbeat } = readHandshake(first ?? '');
let ended = false;
const end = () => {
ended = true;
pusher.leave();
stop.abort();
};
const broken = (cause) => {
if (ended) return;
end();
peer.lost(new GatewayError('LOST', 'a long poll failed', { cause }));
};
const pusher = new Pusher(peer, trackingId, broken);
void (async () => {
while (!ended) {
const messages = await poll(trackingId);
if (messages.length === 0) {
peer.receive('');
await delay(EMPTY_PAUSE_MS, stop.signal);
}
for (const message of messages) {
if (HANDSHAKE.test(message)) throw new Error('the gateway does not know this connection any more');
if (!ended) peer.receive(message);
}
}
})().catch(broken);
return { send: (text) => pusher.send(text), close: end, ...heartbeat };
}
function readTracked(text) {
const messages = [];
for (let at = 0; at < text.length; ) {
const length = /^\s*(\d{1,10})\|/.exec(text.slice(at, at + 100));
const from = at + (length ? length[0].length : 0);
const to = length ? from + Number(length[1]) : text.length;
if (text.slice(from, to).trim() !== '') messages.push(text.slice(from, to));
at = to;
}
return messages;
}
async function openEvents(peer) {
const stop = new AbortController();
const giveUp = () => stop.abort();
peer.signal.addEventListener('abort', giveUp);
const url = address(peer.url, { ...opening('sse', '0'), 'X-atmo-protocol': 'true' });
const headers = { ...peer.headers, Accept: 'text/event-stream' };
try {
const response = await fetch(url, { headers, cache: 'no-store', signal: stop.signal });
expect(response, 'text/event-stream');
const events = readEvents((response.body));
const first = await events.next();
const { trackingId, ...heartbeat } = readHandshake(first.value ?? '');
let ended = false;
const end = () => {
ended = true;
pusher.leave();
stop.abort();
};
const broken = (cause) => {
if (ended) return;
end();
peer.lost(new GatewayError('LOST', 'the event stream ended', { cause }));
};
const pusher = new Pusher(peer, trackingId, broken);
void (async () => {
for await (const message of events) {
if (ended) return;
peer.receive(message);
}
})().then(broken, broken);
return { send: (text) => pusher.send(text), close: end, ...heartbeat };
} catch (error) {
stop.abort();
throw error;
} finally {
peer.signal.removeEventListener('abort', giveUp);
}
}
async function* readEvents(body) {
const reader = body.getReader();
const decoder = new TextDecoder();
let rest = '';
let data = [];
for (;;) {
const { done, value } = await reader.read();
if (done) return;
const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
rest = (lines.pop());
for (const line of lines) {
if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
else if (line === '' && data.length > 0) {
yield data.join('\n');
data = [];
}
}
}
}
function openWebSocket(peer) {
return new Promise((resolve, reject) => {
const url = address(peer.url.replace(/^http/, 'ws'), opening('websocket', '0'));
const socket = peer.openSocket(url, peer.headers);
socket.binaryType = 'arraybuffer';
let open = false;
peer.signal.addEventListener('abort', () => open || socket.close(), { once: true });
socket.onopen = () => {
open = true;
resolve({
send: (text) => socket.send(text),
close() {
socket.onmessage = socket.onclose = null;
socket.close(1000);
},
keepAliveText: '',
});
};
socket.onmessage = ({ data }) => peer.receive(typeof data === 'string' ? data : new Uint8Array(data));
socket.onclose = (event) => {
const why = `${event.code}${event.reason && ' ' + event.reason}`;
const status = (event).status;
if (open) peer.lost(new GatewayError('LOST', `the connection was closed (${why})`, { closeCode: event.code }));
else reject(new GatewayError('UNREACHABLE', `no WebSocket connection (${why})`, { status }));
};
});
}
const OPENERS = { websocket: openWebSocket, sse: openEvents, 'long-polling': openLongPolling };
const STABLE_MS = 5000;
const LOYAL_ATTEMPTS = 3;
const PROBE_ANSWER_MS = 15000;
const PROBE = '{"id":"probe","method":"GET","path":"/"}';
class Connection {
state = 'connecting';
#link;
transport;
#closing = new AbortController();
#lost = () => {};
#settings;
#heard = 0;
#sent = 0;
#probed = 0;
constructor(settings) {
for (const name of settings.transports) {
if (!Object.hasOwn(OPENERS, name)) {
throw new TypeError(`unknown transport "${name}": use ${Object.keys(OPENERS).join(', ')}`);
}
}
this.#settings = settings;
void this.#run();
}
send(text) {
this.#sent = performance.now();
this.#link?.send(text);
}
close(error) {
if (this.state === 'closed') return;
this.#closing.abort();
this.#link?.close();
this.#lost(error ?? new GatewayError('CLOSED', 'closed'));
this.#enter('closed', error);
}
#enter(state, error) {
this.state = state;
this.#settings.onState(state, error);
}
async #run() {
const { retries, retryMinMs, retryMaxMs } = this.#settings;
for (let attempt = 0; this.state !== 'closed'; attempt++) {
let error;
try {
const opened = performance.now();
error = await this.#stay(attempt);
if (performance.now() - opened >= STABLE_MS) attempt = 0;
} catch (cause) {
error = (cause);
}
if (this.#closing.signal.aborted) return;
if (error.status === 401 || error.status === 403 || attempt >= retries) return this.close(error);
this.#enter('waiting', error);
await delay(backoff(attempt, retryMinMs, retryMaxMs), this.#closing.signal);
if (this.#closing.signal.aborted) return;
this.#enter('connecting');
}
}
async #stay(attempt) {
const loyal = this.transport && attempt < LOYAL_ATTEMPTS;
const names = loyal ? [(this.transport)] : this.#settings.transports;
const broken = new Promise((resolve) => (this.#lost = resolve));
const lost = this.#lost;
const link = await this.#openFirst(names, lost);
if (this.#closing.signal.aborted) link.close();
this.#closing.signal.throwIfAborted();
this.#link = link;
const watch = this.#watch(link, lost);
try {
this.#enter('open');
return await broken;
} finally {
clearInterval(watch);
this.#link = undefined;
}
}
async #openFirst(names, lost) {
const failures = [];
let status = 0;
for (const name of names) {
try {
const link = await this.#openOne(name, lost);
this.transport = name;
return link;
} catch (error) {
if (this.#closing.signal.aborted) throw error;
failures.push(`${name}: ${describe(error)}`);
status = error instanceof GatewayError && error.status ? error.status : status;
if (status === 401 || status === 403) break;
}
}
throw new GatewayError('UNREACHABLE', `cannot connect to ${this.#settings.url} (${failures.join('; ')})`, { status });
}
async #openOne(name, lost) {
const { url, headers, openSocket, openTimeoutMs, onMessage } = this.#settings;
const limit = new AbortController();
const stop = () => limit.abort();
const timer = setTimeout(stop, openTimeoutMs);
this.#closing.signal.addEventListener('abort', stop);
let gone = false;
try {
return await OPENERS[name]({
url,
headers,
openSocket,
signal: limit.signal,
receive: (message) => {
if (gone || this.state === 'closed') return;
this.#heard = performance.now();
this.#probed = 0;
if (message.length > 0) onMessage(message);
},
lost: (error) => {
gone = true;
lost(error);
},
});
} catch (error) {
if (limit.signal.aborted) throw new Error(`no answer within ${openTimeoutMs} ms`);
throw error;
} finally {
clearTimeout(timer);
this.#closing.signal.removeEventListener('abort', stop);
}
}
#watch(link, lost) {
const { silenceMs } = this.#settings;
const keepAliveMs = link.keepAliveMs ?? this.#settings.keepAliveMs;
this.#heard = this.#sent = performance.now();
this.#probed = 0;
return setInterval(() => {
const now = performance.now();
if (keepAliveMs > 0 && now - this.#sent >= keepAliveMs) this.send(link.keepAliveText ?? '');
if (silenceMs <= 0 || now - this.#heard < silenceMs) return;
if (this.#probed === 0) {
this.#probed = now;
this.send(PROBE);
} else if (now - this.#probed >= Math.min(PROBE_ANSWER_MS, silenceMs)) {
link.close();
lost(new GatewayError('LOST', `nothing came from the gateway for ${Math.round(now - this.#heard)} ms`));
}
}, Math.max(10, Math.min(5000, silenceMs / 5 || 5000, keepAliveMs / 5 || 5000)));
}
}
function describe(error) {
const cause = error.cause?.code ?? error.cause?.message;
return cause ? `${error.message} (${cause})` : error.message;
}
class Consumer {
#gateway;
#path;
#accept;
constructor(gateway, group, instance, format = 'binary') {
this.group = group;
this.instance = instance;
this.#gateway = gateway;
this.#path = `/consumers/${encodeURIComponent(group)}/instances/${encodeURIComponent(instance)}`;
this.#accept = `application/vnd.kafka.${format}.v2+json`;
}
async subscribe(topics) {
const body = topics instanceof RegExp ? { topic_pattern: topics.source } : { topics: [topics].flat() };
await this.#call('POST', '/subscription', body);
}
async read({ waitMs, maxBytes, signal } = {}) {
const query = [waitMs === undefined ? '' : `timeout=${waitMs}`, maxBytes === undefined ? '' : `max_bytes=${maxBytes}`];
const path = `${this.#path}/records?${query.filter(Boolean).join('&')}`.replace(/\?$/, '');
return (await this.#gateway.request({ path, accept: this.#accept, signal })).body;
}
async commit(offsets) {
await this.#call('POST', '/offsets', offsets && { offsets });
}
async close() {
await this.#call('DELETE', '');
}
#call(method, path, body) {
const type = body === undefined ? undefined : 'application/vnd.kafka.v2+json';
return this.#gateway.request({ method, path: this.#path + path, type, body });
}
}
const JSON_TYPE = /^application\/(?:[^;]*\+)?json\b/i;
class Reply {
#content;
#value;
constructor(head, content, value) {
this.id = head.id;
this.code = typeof head.code === 'number' ? head.code : 200;
this.type = head.type;
this.headers = head.headers ?? {};
this.cursor = head.cursor;
this.event = head.event;
this.#content = content;
this.#value = value;
}
get text() {
return typeof this.#content === 'string' ? this.#content : new TextDecoder().decode(this.#content);
}
get bytes() {
return typeof this.#content === 'string' ? new TextEncoder().encode(this.#content) : this.#content;
}
get body() {
if (this.#value === undefined && this.#content.length > 0) this.#value = this.#parse();
return this.#value;
}
#parse() {
const text = this.text;
if (this.type !== undefined && !JSON_TYPE.test(this.type)) return text;
try {
return JSON.parse(text);
} catch (cause) {
if (this.type === undefined) return text;
throw new GatewayError('BAD_REPLY', `the reply to request ${this.id} says ${this.type} but is not JSON`, {
reply: this,
cause,
});
}
}
}
function errorOf(reply, request) {
let body;
try {
body = reply.body;
} catch {
}
const known = body !== null && typeof body === 'object';
const error_code = known && typeof body.error_code === 'number' ? body.error_code : undefined;
const text = known && typeof body.message === 'string' ? body.message : `HTTP status ${reply.code}`;
return new GatewayError('REPLY', `${text} (${request}: ${error_code ?? reply.code})`, {
status: reply.code,
error_code,
reply,
});
}
const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();
const fromLatin1 = new TextDecoder('latin1');
function encodeRequest(head, body, limit) {
const whole = JSON.stringify(head) + body;
if (whole.length * 3 <= limit || utf8.encode(whole).length <= limit) return [whole];
const messages = [];
const bytes = utf8.encode(body);
let prefix = JSON.stringify({ ...head, continue: true });
for (let at = 0; at < bytes.length; ) {
const room = Math.max(limit - utf8.encode(prefix).length, 16);
const end = cut(bytes, at, at + room);
if (end === bytes.length) prefix = JSON.stringify({ id: head.id });
messages.push(prefix + fromUtf8.decode(bytes.subarray(at, end)));
prefix = JSON.stringify({ id: head.id, continue: true });
at = end;
}
return messages;
}
function cut(bytes, from, to) {
if (to >= bytes.length) return bytes.length;
let end = to;
if (bytes[end] <= 0x20) do end--; while (end > from && bytes[end] <= 0x20);
while (end > from && (bytes[end] & 0xc0) === 0x80) end--;
return end > from ? end : to;
}
function decodeReply(message) {
const text = typeof message === 'string' ? message : fromLatin1.decode(message);
const start = text.search(/\S/);
const end = start < 0 ? -1 : objectEnd(text, start);
if (end < 0) return undefined;
let head;
try {
head = JSON.parse(typeof message === 'string' ? text.slice(start, end) : fromUtf8.decode(message.subarray(start, end)));
if (typeof head.id !== 'string') return undefined;
if (Object.hasOwn(head, 'data')) return embedded(head);
} catch {
return undefined;
}
let content = typeof message === 'string' ? message.slice(end) : message.subarray(end);
if (head.detached === true) {
const lineEnd = /^[ \t]*\r?\n/.exec(text.slice(end, end + 1000));
if (lineEnd) content = content.slice(lineEnd[0].length);
}
return { head, content };
}
function embedded(head) {
if (head.encoding === 'base64') return { head, content: fromBase64(head.data) };
if (typeof head.data !== 'string') return { head, content: JSON.stringify(head.data), value: head.data };
return head.continue === true ? { head, content: head.data } : { head, content: head.data, value: head.data };
}
function objectEnd(text, start) {
if (text[start] !== '{') return -1;
let depth = 0;
for (let at = start; at < text.length; at++) {
const char = text.charCodeAt(at);
if (char === 0x22) {
for (at++; at < text.length && text.charCodeAt(at) !== 0x22; at++) if (text.charCodeAt(at) === 0x5c) at++;
} else if (char === 0x7b) depth++;
else if (char === 0x7d && --depth === 0) return at + 1;
}
return -1;
}
class Assembler {
#contents = [];
add({ head, content, value }) {
const more = head.continue === true || head.continue === 'true';
if (!more && this.#contents.length === 0) return new Reply(head, content, value);
this.#contents.push(content);
if (more) return undefined;
const contents = this.#contents.splice(0);
if (contents.every((piece) => typeof piece === 'string')) return new Reply(head, contents.join(''));
return new Reply(head, joinBytes(contents.map((piece) => (typeof piece === 'string' ? utf8.encode(piece) : piece))));
}
}
function joinBytes(pieces) {
const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
let at = 0;
for (const piece of pieces) {
whole.set(piece, at);
at += piece.length;
}
return whole;
}
function fromBase64(text) {
return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
function toBase64(data) {
let latin1 = '';
for (const byte of typeof data === 'string' ? utf8.encode(data) : data) latin1 += String.fromCharCode(byte);
return btoa(latin1);
}
const UNKNOWN_INSTANCE = 40403;
const EXISTING_INSTANCE = 40902;
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 5000;
const CREATE_ATTEMPTS = 3;
const FAREWELL_MS = 5000;
class Subscription {
received = 0;
#port;
#options;
#path;
#query;
#instancePath;
#type;
#buffer = [];
#buffered = 0;
#bufferChars;
#epoch = 0;
#instance = 'no';
#asked = false;
#running = false;
#paused = 'no';
#ended = false;
#error;
#wake = () => {};
#started = () => {};
#closing;
#abort = () => void this.close();
constructor(port, options) {
const { group, instance, topic = '', topics, format = 'binary', maxBytes, bufferChars = 8 << 20 } = options;
for (const [name, value] of Object.entries({ group, instance, topic: topics ? 'many' : topic })) {
if (typeof value !== 'string' || value === '') throw new TypeError(`subscribe needs a ${name}`);
}
const inside = `consumers/${encodeURIComponent(group)}/instances/${encodeURIComponent(instance)}`;
this.#port = port;
this.#options = options;
this.#bufferChars = bufferChars;
this.#instancePath = `/${inside}`;
this.#path = `/ws/${inside}/${topics ? 'records' : `topics/${encodeURIComponent(topic)}`}`;
this.#query = maxBytes === undefined ? '' : `?max_bytes=${maxBytes}`;
this.#type = `application/vnd.kafka.${format}.${topics ? 'v2' : 'v1'}+json`;
}
get id() {
return this.#port.id;
}
get closed() {
return this.#ended;
}
async start() {
const { signal, timeoutMs = 60000, onRecords } = this.#options;
const started = new Promise((resolve, reject) => {
this.#started = (error) => (error ? reject(error) : resolve(undefined));
});
const timer = setTimeout(() => {
this.#fail(new GatewayError('TIMEOUT', `no answer to the subscription within ${timeoutMs} ms`));
}, timeoutMs);
signal?.addEventListener('abort', this.#abort);
if (signal?.aborted) this.#abort();
else if (this.#port.isOpen()) this.connected();
try {
await started;
} catch (error) {
throw signal?.aborted ? signal.reason : error;
} finally {
clearTimeout(timer);
}
if (onRecords) void this.#pump(onRecords);
return this;
}
async *batches() {
try {
for (;;) {
const next = this.#buffer.shift();
if (next) {
this.#buffered -= next.size;
this.#resume();
yield next.records;
} else if (this.#error) throw this.#error;
else if (this.#ended) return;
else await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
}
} finally {
await this.close();
}
}
async *[Symbol.asyncIterator]() {
for await (const records of this.batches()) yield* records;
}
async commit() {
return (await this.#port.request({ method: 'POST', path: `${this.#instancePath}/offsets` })).body;
}
close() {
this.#closing ??= this.#leave();
return this.#closing;
}
end(error) {
if (this.#ended) return;
this.#ended = true;
this.#error = error;
this.#epoch++;
this.#port.forget(this);
this.#options.signal?.removeEventListener('abort', this.#abort);
this.#started(error ?? new GatewayError('CLOSED', 'the subscription was closed before it started'));
this.#wake();
}
connected() {
if (this.#paused === 'no') void this.#establish();
else this.#resume();
}
disconnected() {
this.#epoch++;
this.#asked = false;
}
#fail(error) {
this.#closing ??= this.#leave(error);
}
async #leave(error) {
if (!error) this.#buffer = [];
this.end(error);
const paths = [];
if (this.#asked) paths.push(this.#path);
if (this.#instance === 'made') paths.push(this.#instancePath);
for (const path of paths) {
if (!this.#port.isOpen()) return;
await this.#port.request({ method: 'DELETE', path, timeoutMs: FAREWELL_MS }).catch(() => {});
}
}
async #establish() {
const epoch = ++this.#epoch;
for (let attempt = 0; epoch === this.#epoch; attempt++) {
try {
if (this.#options.create && this.#instance === 'no') await this.#create(this.#options.create);
if (epoch !== this.#epoch) return;
await this.#open(epoch);
this.#running = true;
return this.#started();
} catch (cause) {
if (epoch !== this.#epoch) return;
const error = (cause);
const gone = error.error_code === UNKNOWN_INSTANCE && this.#options.create && attempt < CREATE_ATTEMPTS;
if (gone) this.#instance = 'no';
else if (!this.#running || !error.retriable) return this.#fail(error);
await delay(backoff(attempt, RETRY_MIN_MS, RETRY_MAX_MS));
}
}
}
async #create(settings) {
const { group, instance, topics, format = 'binary', timeoutMs } = this.#options;
const type = topics ? 'application/vnd.kafka.v2+json' : this.#type;
const post = (path, body) =>
this.#port.request({ method: 'POST', path, type, body, timeoutMs });
try {
const name = topics ? { name: instance } : { id: instance };
await post(`/consumers/${encodeURIComponent(group)}`, { ...settings, ...name, format });
this.#instance = 'made';
} catch (error) {
if (!(error instanceof GatewayError && error.error_code === EXISTING_INSTANCE)) throw error;
this.#instance = 'found';
}
if (topics) await post(`${this.#instancePath}/subscription`, { topics });
}
#open(epoch) {
return new Promise((resolve, reject) => {
let first = true;
this.#asked = true;
const head = { id: this.id, method: 'GET', path: this.#path + this.#query, accept: this.#type };
this.#port.call(head, (reply) => {
if (this.#ended) return;
try {
if (reply.code >= 400) throw errorOf(reply, `GET ${this.#path}`);
this.#deliver(reply);
} catch (error) {
if (first) {
this.#asked = false;
reject(error);
} else queueMicrotask(() => this.#options.onError?.((error)));
}
if (first && epoch === this.#epoch) resolve();
first = false;
});
});
}
#deliver(reply) {
const body = reply.body;
const records = Array.isArray(body) ? body : body === undefined ? [] : [body];
if (records.length === 0) return;
const size = reply.text.length;
this.received += records.length;
this.#buffer.push({ records, size });
this.#buffered += size;
this.#wake();
if (this.#buffered > this.#bufferChars && this.#paused === 'no') void this.#pause();
}
async #pause() {
this.#paused = 'unsubscribing';
await this.#port.request({ method: 'DELETE', path: this.#path, timeoutMs: FAREWELL_MS }).catch(() => {});
this.#paused = 'yes';
this.#resume();
}
#resume() {
if (this.#paused !== 'yes' || this.#ended || this.#buffered > this.#bufferChars / 4 || !this.#port.isOpen()) return;
this.#paused = 'no';
void this.#establish();
}
async #pump(onRecords) {
try {
for await (const records of this.batches()) await onRecords(records, this);
} catch (error) {
if (!(error instanceof GatewayError && this.#options.onError)) throw error;
this.#options.onError(error);
}
}
}
const TOO_BIG = 1009;
class Gateway {
#connection;
#options;
#nextId = 0;
#queue = new Set();
#queued = 0;
#pending = new Map();
#slots = new Map();
#subscriptions = new Set();
#watchers = new Set();
#error;
#abort = () => void this.close();
constructor(url, options, openSocket) {
const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
const { signal } = options;
this.#options = {
timeoutMs: 60000,
maxMessageBytes: 65536,
maxInFlight: 128,
maxQueueChars: 16 << 20,
...(given),
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
...(given),
...httpAddress(url, options.headers),
onMessage: (message) => this.#receive(message),
onState: (state, error) => this.#changed(state, error),
});
signal?.addEventListener('abort', this.#abort);
if (signal?.aborted) void this.close();
}
get state() {
return this.#connection.state;
}
get transport() {
return this.#connection.transport;
}
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
resolve: (reply) => {
settle();
if (reply.code >= 400) reject(errorOf(reply, `${method} ${path}`));
else resolve(reply);
this.#flush();
},
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
async topics() {
return (await this.request({ path: '/topics', idempotent: true })).body;
}
async produce(topic, records, { format = 'json', schemas, signal, timeoutMs } = {}) {
const replacer = format === 'binary' ? base64Bytes : undefined;
const reply = await this.request({
method: 'POST',
path: `/topics/${encodeURIComponent(topic)}`,
type: `application/vnd.kafka.${format}.v2+json`,
accept: 'application/vnd.kafka.v2+json',
body: JSON.stringify({ ...schemas, records: replacer ? records.map(replacer) : records }),
signal,
timeoutMs,
});
return reply.body;
}
async createConsumer(group, { name, format = 'binary', settings } = {}) {
const reply = await this.request({
method: 'POST',
path: `/consumers/${encodeURIComponent(group)}`,
type: 'application/vnd.kafka.v2+json',
body: { ...settings, name, format },
});
return new Consumer(this, group, reply.body.instance_id, format);
}
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
async close() {
await Promise.all([...this.#subscriptions].map((subscription) => subscription.close()));
this.#connection.close();
}
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
#lost(error) {
for (const subscription of this.#subscriptions) subscription.disconnected();
this.#slots.clear();
const again = [];
for (const waiting of [...this.#pending.values()]) {
const { method, path } = waiting.head;
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
#flush() {
for (const waiting of this.#queue) {
if (this.state !== 'open' || this.#pending.size >= this.#options.maxInFlight) return;
this.#queue.delete(waiting);
this.#queued -= waiting.size;
this.#pending.set(waiting.head.id, waiting);
this.#call(waiting.head, waiting.resolve, waiting.body);
}
}
#call(head, receive, body = '') {
this.#slots.set(head.id, { assembler: new Assembler(), receive });
for (const message of encodeRequest(head, body, this.#options.maxMessageBytes)) {
this.#tell(this.#options.onTrace, 'sending', message);
this.#connection.send(message);
}
}
#tell(callback, ...values) {
if (callback) queueMicrotask(() => callback(...values));
}
#drop(waiting) {
if (this.#queue.delete(waiting)) this.#queued -= waiting.size;
if (this.#pending.delete(waiting.head.id)) this.#slots.delete(waiting.head.id);
}
#receive(message) {
this.#tell(this.#options.onTrace, 'received', message);
if (message === 'X') return;
const part = decodeReply(message);
if (part === undefined) {
const text = typeof message === 'string' ? message : new TextDecoder().decode(message);
if (!/^\s*\{\s*"heartbeat"/.test(text)) this.#tell(this.#options.onBare, text);
return;
}
const slot = this.#slots.get(part.head.id);
const reply = slot?.assembler.add(part);
if (reply) slot?.receive(reply);
}
}
function base64Bytes(record) {
const encoded = { ...record };
if (record.key instanceof Uint8Array) encoded.key = toBase64(record.key);
if (record.value instanceof Uint8Array) encoded.value = toBase64(record.value);
return encoded;
}
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
function connect(url = '/', options = {}) {
return new Gateway(url, options, (socketUrl, headers) => new WebSocket(address(socketUrl, headers)));
}

export { connect, Consumer, fromBase64, toBase64, GatewayError, Gateway, Reply, Subscription };
