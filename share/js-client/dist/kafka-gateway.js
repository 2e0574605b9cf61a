// Kafka Gateway client. SPDX-License-Identifier: Apache-2.0. Made by scripts/build.js from src/; do not edit.
const KafkaGateway = (() => {
'use strict';
function originHint(url, headers = {}) {const given = Object.entries(headers).find(([name]) => name.toLowerCase() === 'origin');const origin = given ? given[1] : globalThis.location?.origin;if (!origin || origin === 'null' || origin === new URL(url, origin).origin) return '';return `; the gateway has to allow ${given ? 'this' : "this page's"} origin: access.control.allow.origin=${origin}`}
function originGiven(url, headers) {return Object.keys(headers).some((name) => name.toLowerCase() === 'origin') ? originHint(url, headers) : ''}
class GatewayError extends Error {constructor(code, message, { status = 0, error_code, reply, closeCode, cause } = {}) {super(message, cause === undefined ? undefined : { cause });this.name = 'GatewayError';this.code = code;this.status = status;this.error_code = error_code;this.reply = reply;this.closeCode = closeCode}
get retriable() {if (this.code === 'REPLY') return this.status >= 500 || this.status === 429 || this.status === 408;return this.code === 'LOST' || this.code === 'TIMEOUT' || this.code === 'UNREACHABLE'}}
class RefusedUpgrade extends GatewayError {}
async function askPlainly(url, headers, signal) {try {return await fetch(url, { headers, cache: 'no-store', signal })} catch (cause) {throw new GatewayError('LOST', `The gateway cannot be reached: ${(cause).message}${originHint(url)}`, { cause })}}
function backoff(attempt, minMs, maxMs) {return Math.min(maxMs, minMs * 2 ** Math.min(attempt, 30)) * (0.5 + Math.random() / 2)}
function delay(ms, signal) {return new Promise((resolve) => {const done = () => {clearTimeout(timer);signal?.removeEventListener('abort', done);resolve()};const timer = setTimeout(done, ms);if (signal?.aborted) done();else signal?.addEventListener('abort', done)})}
const FRAMEWORK = '5.0.7-kafka-gateway-client';function address(base, parameters) {const url = new URL(base);url.hash = '';const query = Object.entries(parameters)
.filter(([name]) => !url.searchParams.has(name))
.map(([name, value]) => `${name}=${encodeURIComponent(value)}`);url.search = [url.search.slice(1), ...query].filter(Boolean).join('&');return url.href}
function opening(transport, trackingId) {return {'X-Atmosphere-tracking-id': trackingId,
'X-Atmosphere-Framework': FRAMEWORK,
'X-Atmosphere-Transport': transport,
'X-Atmosphere-SimpleRestProtocolDetached': 'true',}}
function readHandshake(text) {const [trackingId, interval, keepAliveText] = text.split('|');if (!/^[\w-]{8,}$/.test(trackingId)) {throw new GatewayError('UNREACHABLE', 'the server did not send the handshake of a Kafka gateway: check the address')}
return { trackingId, keepAliveMs: Number(interval) || 0, keepAliveText }}
function expect(response, type) {if (response.status === 200 && (response.headers.get('content-type') ?? '').startsWith(type)) return;throw new GatewayError('UNREACHABLE', `the server answered ${response.status} to the opening request`, {status: response.status,})}
class Pusher {#_0 = [];#_1 = false;#_2 = false;constructor(peer, trackingId, failed) {this.peer = peer;this.trackingId = trackingId;this.failed = failed}
send(text) {this.#_0.push(text);if (!this.#_1) void this.#_3()}
async #_3() {this.#_1 = true;try {for (let text; !this.#_2 && (text = this.#_0.shift()) !== undefined; ) {const response = await this.#_4('polling', text);if (response.status !== 200 || (await response.text()) !== '') throw new Error(`a push was answered ${response.status}`)}} catch (cause) {if (!this.#_2) this.failed(cause)}
this.#_1 = false}
leave() {this.#_2 = true;this.#_4('close', '').catch(() => {})}
#_4(transport, body) {const url = address(this.peer.url, {'X-Atmosphere-tracking-id': this.trackingId,
'X-Atmosphere-Framework': FRAMEWORK,
'X-Atmosphere-Transport': transport,});const headers = { ...this.peer.headers, 'Content-Type': 'text/plain;charset=UTF-8' };return fetch(url, { method: 'POST', headers, body, keepalive: transport === 'close' })}}
const EMPTY_PAUSE_MS = 200;const HANDSHAKE = /^[0-9a-f-]{36}\|\d+\|/;async function openLongPolling(peer) {const stop = new AbortController();const giveUp = () => stop.abort();const poll = async (trackingId) => {const url = address(peer.url, {...opening('long-polling', trackingId),
'X-Atmosphere-TrackMessageSize': 'true',
'X-atmo-protocol': 'true',});const response = await fetch(url, { headers: peer.headers, cache: 'no-store', signal: stop.signal });expect(response, '');return readTracked(await response.text())};peer.signal.addEventListener('abort', giveUp);const [first] = await poll('0').finally(() => peer.signal.removeEventListener('abort', giveUp));const { trackingId, ...heartbeat } = readHandshake(first ?? '');let ended = false;const end = () => {ended = true;pusher.leave();stop.abort()};const broken = (cause) => {if (ended) return;end();peer.lost(new GatewayError('LOST', 'a long poll failed', { cause }))};const pusher = new Pusher(peer, trackingId, broken);void (async () => {while (!ended) {const messages = await poll(trackingId);if (messages.length === 0) {peer.receive('');await delay(EMPTY_PAUSE_MS, stop.signal)}
for (const message of messages) {if (HANDSHAKE.test(message)) throw new Error('the gateway does not know this connection any more');if (!ended) peer.receive(message)}}})().catch(broken);return { send: (text) => pusher.send(text), close: end, ...heartbeat }}
function readTracked(text) {const messages = [];for (let at = 0; at < text.length; ) {const length = /^\s*(\d{1,10})\|/.exec(text.slice(at, at + 100));const from = at + (length ? length[0].length : 0);const to = length ? from + Number(length[1]) : text.length;if (text.slice(from, to).trim() !== '') messages.push(text.slice(from, to));at = to}
return messages}
async function openEvents(peer) {const stop = new AbortController();const giveUp = () => stop.abort();peer.signal.addEventListener('abort', giveUp);const url = address(peer.url, { ...opening('sse', '0'), 'X-atmo-protocol': 'true' });const headers = { ...peer.headers, Accept: 'text/event-stream' };try {const response = await fetch(url, { headers, cache: 'no-store', signal: stop.signal });expect(response, 'text/event-stream');const events = readEvents((response.body));const first = await events.next();const { trackingId, ...heartbeat } = readHandshake(first.value ?? '');let ended = false;const end = () => {ended = true;pusher.leave();stop.abort()};const broken = (cause) => {if (ended) return;end();peer.lost(new GatewayError('LOST', 'the event stream ended', { cause }))};const pusher = new Pusher(peer, trackingId, broken);void (async () => {for await (const message of events) {if (ended) return;peer.receive(message)}})().then(broken, broken);return { send: (text) => pusher.send(text), close: end, ...heartbeat }} catch (error) {stop.abort();throw error} finally {peer.signal.removeEventListener('abort', giveUp)}}
async function* readEvents(body) {const reader = body.getReader();const decoder = new TextDecoder();let rest = '';let data = [];for (;;) {const { done, value } = await reader.read();if (done) return;const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);rest = (lines.pop());for (const line of lines) {if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));else if (line === '' && data.length > 0) {yield data.join('\n');data = []}}}}
function openWebSocket(peer) {return new Promise((resolve, reject) => {const url = address(peer.url.replace(/^http/, 'ws'), opening('websocket', '0'));const socket = peer.openSocket(url, peer.headers);socket.binaryType = 'arraybuffer';let open = false;peer.signal.addEventListener('abort', () => open || socket.close(), { once: true });socket.onopen = () => {open = true;resolve({send: (text) => socket.send(text),
close() {socket.onmessage = socket.onclose = null;socket.close(1000)},
keepAliveText: '',})};socket.onmessage = ({ data }) => peer.receive(typeof data === 'string' ? data : new Uint8Array(data));socket.onclose = (event) => {const why = `${event.code}${event.reason && ' ' + event.reason}`;const status = (event).status;if (open) peer.lost(new GatewayError('LOST', `the connection was closed (${why})`, { closeCode: event.code }));else if (status || !globalThis.location || peer.signal.aborted) {reject(new GatewayError('UNREACHABLE', `no WebSocket connection (${why})`, { status }))} else void whyNot(peer, `no WebSocket connection (${why})`).then(reject)}})}
async function whyNot(peer, text) {try {const response = await askPlainly(peer.url, peer.headers, peer.signal);void response.body?.cancel();const { status } = response;if (status !== 401 && status !== 403) return new RefusedUpgrade('UNREACHABLE', text);return new GatewayError('UNREACHABLE', `${text}: the gateway answers ${status}; look at the credentials`, { status })} catch {return new GatewayError('UNREACHABLE', text)}}
const OPENERS = { websocket: openWebSocket, sse: openEvents, 'long-polling': openLongPolling };const STABLE_MS = 5000;const LOYAL_ATTEMPTS = 3;const PROBE_ANSWER_MS = 15000;const PROBE = '{"id":"probe","method":"GET","path":"/"}';class Connection {state = 'connecting';#_5;transport;#_6 = new AbortController();#_7 = () => {};#_8;#_9 = 0;#a = 0;#b = 0;constructor(settings) {for (const name of settings.transports) {if (!Object.hasOwn(OPENERS, name)) {throw new TypeError(`unknown transport "${name}": use ${Object.keys(OPENERS).join(', ')}`)}}
this.#_8 = settings;void this.#_3()}
send(text) {this.#a = performance.now();this.#_5?.send(text)}
close(error) {if (this.state === 'closed') return;this.#_6.abort();this.#_5?.close();this.#_7(error ?? new GatewayError('CLOSED', 'closed'));this.#c('closed', error)}
#c(state, error) {this.state = state;this.#_8.onState(state, error)}
async #_3() {const { retries, retryMinMs, retryMaxMs } = this.#_8;for (let attempt = 0; this.state !== 'closed'; attempt++) {let error;try {const opened = performance.now();error = await this.#d(attempt);if (performance.now() - opened >= STABLE_MS) attempt = 0} catch (cause) {error = (cause)}
if (this.#_6.signal.aborted) return;if (error.status === 401 || error.status === 403 || attempt >= retries) return this.close(error);this.#c('waiting', error);await delay(backoff(attempt, retryMinMs, retryMaxMs), this.#_6.signal);if (this.#_6.signal.aborted) return;this.#c('connecting')}}
async #d(attempt) {const loyal = this.transport && attempt < LOYAL_ATTEMPTS;const names = loyal ? [(this.transport)] : this.#_8.transports;const broken = new Promise((resolve) => (this.#_7 = resolve));const lost = this.#_7;const link = await this.#e(names, lost);if (this.#_6.signal.aborted) link.close();this.#_6.signal.throwIfAborted();this.#_5 = link;const watch = this.#f(link, lost);try {this.#c('open');return await broken} finally {clearInterval(watch);this.#_5 = undefined}}
async #e(names, lost) {const failures = [];let status = 0;let answered = false;for (const name of names) {try {const link = await this.#g(name, lost);this.transport = name;return link} catch (error) {if (this.#_6.signal.aborted) throw error;failures.push(`${name}: ${describe(error)}`);status = error instanceof GatewayError && error.status ? error.status : status;answered ||= error instanceof RefusedUpgrade;if (status === 401 || status === 403) break}}
const { url, headers } = this.#_8;const hint = status === 0 && !answered ? originHint(url) : status === 403 ? originGiven(url, headers) : '';throw new GatewayError('UNREACHABLE', `cannot connect to ${url} (${failures.join('; ')}${hint})`, { status })}
async #g(name, lost) {const { url, headers, openSocket, openTimeoutMs, onMessage } = this.#_8;const limit = new AbortController();const stop = () => limit.abort();const timer = setTimeout(stop, openTimeoutMs);this.#_6.signal.addEventListener('abort', stop);let gone = false;try {return await OPENERS[name]({url,
headers,
openSocket,
signal: limit.signal,
receive: (message) => {if (gone || this.state === 'closed') return;this.#_9 = performance.now();this.#b = 0;if (message.length > 0) onMessage(message)},
lost: (error) => {gone = true;lost(error)},})} catch (error) {if (limit.signal.aborted) throw new Error(`no answer within ${openTimeoutMs} ms`);throw error} finally {clearTimeout(timer);this.#_6.signal.removeEventListener('abort', stop)}}
#f(link, lost) {const { silenceMs } = this.#_8;const keepAliveMs = link.keepAliveMs ?? this.#_8.keepAliveMs;this.#_9 = this.#a = performance.now();this.#b = 0;return setInterval(() => {const now = performance.now();if (keepAliveMs > 0 && now - this.#a >= keepAliveMs) this.send(link.keepAliveText ?? '');if (silenceMs <= 0 || now - this.#_9 < silenceMs) return;if (this.#b === 0) {this.#b = now;this.send(PROBE)} else if (now - this.#b >= Math.min(PROBE_ANSWER_MS, silenceMs)) {link.close();lost(new GatewayError('LOST', `nothing came from the gateway for ${Math.round(now - this.#_9)} ms`))}}, Math.max(10, Math.min(5000, silenceMs / 5 || 5000, keepAliveMs / 5 || 5000)))}}
function describe(error) {const cause = error.cause?.code ?? error.cause?.message;return cause ? `${error.message} (${cause})` : error.message}
class Consumer {#h;#i;#j;constructor(gateway, group, instance, format = 'binary') {this.group = group;this.instance = instance;this.#h = gateway;this.#i = `/consumers/${encodeURIComponent(group)}/instances/${encodeURIComponent(instance)}`;this.#j = `application/vnd.kafka.${format}.v2+json`}
async subscribe(topics) {const body = topics instanceof RegExp ? { topic_pattern: topics.source } : { topics: [topics].flat() };await this.#k('POST', '/subscription', body)}
async read({ waitMs, maxBytes, signal } = {}) {const query = [waitMs === undefined ? '' : `timeout=${waitMs}`, maxBytes === undefined ? '' : `max_bytes=${maxBytes}`];const path = `${this.#i}/records?${query.filter(Boolean).join('&')}`.replace(/\?$/, '');return (await this.#h.request({ path, accept: this.#j, signal })).body}
async commit(offsets) {await this.#k('POST', '/offsets', offsets && { offsets })}
async close() {await this.#k('DELETE', '')}
#k(method, path, body) {const type = body === undefined ? undefined : 'application/vnd.kafka.v2+json';return this.#h.request({ method, path: this.#i + path, type, body })}}
const JSON_TYPE = /^application\/(?:[^;]*\+)?json\b/i;class Reply {#l;#m;constructor(head, content, value) {this.id = head.id;this.code = typeof head.code === 'number' ? head.code : 200;this.type = head.type;this.headers = head.headers ?? {};this.cursor = head.cursor;this.event = head.event;this.#l = content;this.#m = value}
get text() {return typeof this.#l === 'string' ? this.#l : new TextDecoder().decode(this.#l)}
get bytes() {return typeof this.#l === 'string' ? new TextEncoder().encode(this.#l) : this.#l}
get body() {if (this.#m === undefined && this.#l.length > 0) this.#m = this.#n();return this.#m}
#n() {const text = this.text;if (this.type !== undefined && !JSON_TYPE.test(this.type)) return text;try {return JSON.parse(text)} catch (cause) {if (this.type === undefined) return text;throw new GatewayError('BAD_REPLY', `the reply to request ${this.id} says ${this.type} but is not JSON`, {reply: this,
cause,})}}}
function errorOf(reply, request) {let body;try {body = reply.body} catch {}
const known = body !== null && typeof body === 'object';const error_code = known && typeof body.error_code === 'number' ? body.error_code : undefined;const text = known && typeof body.message === 'string' ? body.message : `HTTP status ${reply.code}`;return new GatewayError('REPLY', `${text} (${request}: ${error_code ?? reply.code})`, {status: reply.code,
error_code,
reply,})}
const utf8 = new TextEncoder();const fromUtf8 = new TextDecoder();const fromLatin1 = new TextDecoder('latin1');function encodeRequest(head, body, limit) {const whole = JSON.stringify(head) + body;if (whole.length * 3 <= limit || utf8.encode(whole).length <= limit) return [whole];const messages = [];const bytes = utf8.encode(body);let prefix = JSON.stringify({ ...head, continue: true });for (let at = 0; at < bytes.length; ) {const room = Math.max(limit - utf8.encode(prefix).length, 16);const end = cut(bytes, at, at + room);if (end === bytes.length) prefix = JSON.stringify({ id: head.id });messages.push(prefix + fromUtf8.decode(bytes.subarray(at, end)));prefix = JSON.stringify({ id: head.id, continue: true });at = end}
return messages}
function cut(bytes, from, to) {if (to >= bytes.length) return bytes.length;let end = to;if (bytes[end] <= 0x20) do end--; while (end > from && bytes[end] <= 0x20);while (end > from && (bytes[end] & 0xc0) === 0x80) end--;return end > from ? end : to}
function decodeReply(message) {const text = typeof message === 'string' ? message : fromLatin1.decode(message);const start = text.search(/\S/);const end = start < 0 ? -1 : objectEnd(text, start);if (end < 0) return undefined;let head;try {head = JSON.parse(typeof message === 'string' ? text.slice(start, end) : fromUtf8.decode(message.subarray(start, end)));if (typeof head.id !== 'string') return undefined;if (Object.hasOwn(head, 'data')) return embedded(head)} catch {return undefined}
let content = typeof message === 'string' ? message.slice(end) : message.subarray(end);if (head.detached === true) {const lineEnd = /^[ \t]*\r?\n/.exec(text.slice(end, end + 1000));if (lineEnd) content = content.slice(lineEnd[0].length)}
return { head, content }}
function embedded(head) {if (head.encoding === 'base64') return { head, content: fromBase64(head.data) };if (typeof head.data !== 'string') return { head, content: JSON.stringify(head.data), value: head.data };return head.continue === true ? { head, content: head.data } : { head, content: head.data, value: head.data }}
function objectEnd(text, start) {if (text[start] !== '{') return -1;let depth = 0;for (let at = start; at < text.length; at++) {const char = text.charCodeAt(at);if (char === 0x22) {for (at++; at < text.length && text.charCodeAt(at) !== 0x22; at++) if (text.charCodeAt(at) === 0x5c) at++} else if (char === 0x7b) depth++;else if (char === 0x7d && --depth === 0) return at + 1}
return -1}
class Assembler {#o = [];add({ head, content, value }) {const more = head.continue === true || head.continue === 'true';if (!more && this.#o.length === 0) return new Reply(head, content, value);this.#o.push(content);if (more) return undefined;const contents = this.#o.splice(0);if (contents.every((piece) => typeof piece === 'string')) return new Reply(head, contents.join(''));return new Reply(head, joinBytes(contents.map((piece) => (typeof piece === 'string' ? utf8.encode(piece) : piece))))}}
function joinBytes(pieces) {const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));let at = 0;for (const piece of pieces) {whole.set(piece, at);at += piece.length}
return whole}
function fromBase64(text) {return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))}
function toBase64(data) {let latin1 = '';for (const byte of typeof data === 'string' ? utf8.encode(data) : data) latin1 += String.fromCharCode(byte);return btoa(latin1)}
const UNKNOWN_INSTANCE = 40403;const EXISTING_INSTANCE = 40902;const RETRY_MIN_MS = 250;const RETRY_MAX_MS = 5000;const CREATE_ATTEMPTS = 3;const FAREWELL_MS = 5000;const SESSION_TIMEOUT = 'session.timeout.ms';const SESSION_TIMEOUT_MS = 6000;const ASSIGNED_MS = 60000;const ASSIGNED_READ_MS = 500;const V2 = 'application/vnd.kafka.v2+json';class Subscription {received = 0;#p;#q;#i;#r;#s;#t;#u = [];#v = 0;#w;#x = 0;#y = 'no';#z = false;#_10 = false;#_11 = new Map();#_12 = false;#_13 = 'no';#_2 = false;#_14;#_15 = () => {};#_16 = () => {};#_6;#_17 = () => void this.close();constructor(port, options) {const { group, instance, topic = '', topics, format = 'binary', maxBytes, bufferChars = 8 << 20 } = options;for (const [name, value] of Object.entries({ group, instance, topic: topics ? 'many' : topic })) {if (typeof value !== 'string' || value === '') throw new TypeError(`subscribe needs a ${name}`)}
const inside = `consumers/${encodeURIComponent(group)}/instances/${encodeURIComponent(instance)}`;this.#p = port;this.#q = options;this.#w = bufferChars;this.#s = `/${inside}`;this.#i = `/ws/${inside}/${topics ? 'records' : `topics/${encodeURIComponent(topic)}`}`;this.#r = maxBytes === undefined ? '' : `?max_bytes=${maxBytes}`;this.#t = `application/vnd.kafka.${format}.${topics ? 'v2' : 'v1'}+json`}
get id() {return this.#p.id}
get closed() {return this.#_2}
async start() {const { signal, timeoutMs = 60000, onRecords } = this.#q;const started = new Promise((resolve, reject) => {this.#_16 = (error) => (error ? reject(error) : resolve(undefined))});const timer = setTimeout(() => {this.#_18(new GatewayError('TIMEOUT', `no answer to the subscription within ${timeoutMs} ms`))}, timeoutMs);signal?.addEventListener('abort', this.#_17);if (signal?.aborted) this.#_17();else if (this.#p.isOpen()) this.connected();try {await started} catch (error) {throw signal?.aborted ? signal.reason : error} finally {clearTimeout(timer)}
if (onRecords) void this.#_19(onRecords);return this}
async *batches() {try {for (;;) {const next = this.#u.shift();if (next) {this.#v -= next.size;this.#_1a();yield next.records} else if (this.#_14) throw this.#_14;else if (this.#_2) return;else await new Promise((resolve) => (this.#_15 = () => resolve(undefined)))}} finally {await this.close()}}
async *[Symbol.asyncIterator]() {for await (const records of this.batches()) yield* records}
async commit() {return (await this.#p.request({ method: 'POST', path: `${this.#s}/offsets` })).body}
close() {this.#_6 ??= this.#_1b();return this.#_6}
end(error) {if (this.#_2) return;this.#_2 = true;this.#_14 = error;this.#x++;this.#p.forget(this);this.#q.signal?.removeEventListener('abort', this.#_17);this.#_16(error ?? new GatewayError('CLOSED', 'the subscription was closed before it started'));this.#_15()}
connected() {if (this.#_13 === 'no') void this.#_1c();else this.#_1a()}
disconnected() {this.#x++;this.#z = false}
#_18(error) {this.#_6 ??= this.#_1b(error)}
async #_1b(error) {if (!error) this.#u = [];this.end(error);const paths = [];if (this.#z) paths.push(this.#i);if (this.#y === 'made') paths.push(this.#s);for (const path of paths) {if (!this.#p.isOpen()) return;await this.#p.request({ method: 'DELETE', path, timeoutMs: FAREWELL_MS }).catch(() => {})}}
async #_1c() {const epoch = ++this.#x;for (let attempt = 0; epoch === this.#x; attempt++) {try {if (this.#q.create && this.#y === 'no') await this.#_1d(this.#q.create);if (epoch === this.#x && this.#_12) await this.#_1e(epoch);if (epoch !== this.#x) return;await this.#_1f(epoch);this.#_10 = true;return this.#_16()} catch (cause) {if (epoch !== this.#x) return;const error = (cause);const gone = error.error_code === UNKNOWN_INSTANCE && this.#q.create && attempt < CREATE_ATTEMPTS;if (gone) this.#y = 'no';else if (!this.#_10 || !error.retriable) return this.#_18(error);await delay(backoff(attempt, RETRY_MIN_MS, RETRY_MAX_MS))}}}
async #_1d(settings) {const { group, instance, topics, format = 'binary', timeoutMs } = this.#q;const type = topics ? V2 : this.#t;const post = (path, body) =>
this.#p.request({ method: 'POST', path, type, body, timeoutMs });try {const body = { ...settings, ...(topics ? { name: instance } : { id: instance }), format };const path = `/consumers/${encodeURIComponent(group)}`;const short = SESSION_TIMEOUT in settings ? body : { ...body, [SESSION_TIMEOUT]: SESSION_TIMEOUT_MS };await post(path, short).catch((error) => {if (short !== body && error instanceof GatewayError && error.status === 422 && error.message.includes(SESSION_TIMEOUT)) return post(path, body);throw error});this.#y = 'made';this.#_12 = topics !== undefined && this.#_11.size > 0} catch (error) {if (!(error instanceof GatewayError && error.error_code === EXISTING_INSTANCE)) throw error;this.#y = 'found'}
if (topics) await post(`${this.#s}/subscription`, { topics })}
async #_1e(epoch) {const port = this.#p;const ask = (method, path, body, accept = V2) =>
port.request({ method, path: this.#s + path, type: body === undefined ? undefined : V2, accept, body });const wanted = new Map(this.#_11);const until = performance.now() + ASSIGNED_MS;let assigned = [];while (assigned.length === 0 && epoch === this.#x && performance.now() < until) {const reply = await ask('GET', `/records?timeout=${ASSIGNED_READ_MS}&max_bytes=1`, undefined, this.#t);for (const record of reply.body) {const place = placeOf(record);if (!wanted.has(place)) wanted.set(place, { topic: record.topic, partition: record.partition, offset: record.offset })}
assigned = (await ask('GET', '/assignments', undefined)).body.partitions}
const partitions = assigned.filter((each) => wanted.has(placeOf(each)));if (partitions.length > 0) {const stored = (await ask('GET', '/offsets', { partitions })).body.offsets;const committed = new Map(stored.map((each) => [placeOf(each), each.offset]));const offsets = partitions.map((each) => {const place = placeOf(each);const seen = (wanted.get(place)).offset;return { topic: each.topic, partition: each.partition, offset: Math.max(seen, committed.get(place) ?? 0) }});await ask('POST', '/positions', { offsets })}
this.#_12 = false}
#_1f(epoch) {return new Promise((resolve, reject) => {let first = true;this.#z = true;const head = { id: this.id, method: 'GET', path: this.#i + this.#r, accept: this.#t };this.#p.call(head, (reply) => {if (this.#_2) return;try {if (reply.code >= 400) throw errorOf(reply, `GET ${this.#i}`);this.#_1g(reply)} catch (error) {if (first) {this.#z = false;reject(error)} else queueMicrotask(() => this.#q.onError?.((error)))}
if (first && epoch === this.#x) resolve();first = false})})}
#_1g(reply) {const body = reply.body;const records = Array.isArray(body) ? body : body === undefined ? [] : [body];if (records.length === 0) return;const size = reply.text.length;this.received += records.length;for (const { topic, partition, offset } of records) {if (topic !== undefined) this.#_11.set(placeOf({ topic, partition }), { topic, partition, offset: offset + 1 })}
this.#u.push({ records, size });this.#v += size;this.#_15();if (this.#v > this.#w && this.#_13 === 'no') void this.#_1h()}
async #_1h() {this.#_13 = 'unsubscribing';await this.#p.request({ method: 'DELETE', path: this.#i, timeoutMs: FAREWELL_MS }).catch(() => {});this.#_13 = 'yes';this.#_1a()}
#_1a() {if (this.#_13 !== 'yes' || this.#_2 || this.#v > this.#w / 4 || !this.#p.isOpen()) return;this.#_13 = 'no';void this.#_1c()}
async #_19(onRecords) {try {for await (const records of this.batches()) await onRecords(records, this)} catch (error) {if (!(error instanceof GatewayError && this.#q.onError)) throw error;this.#q.onError(error)}}}
function placeOf({ topic, partition }) {return `${partition} ${topic}`}
const TOO_BIG = 1009;class Gateway {#_1i;#q;#_1j = 0;#_1k = new Set();#_1l = 0;#_1m = new Map();#_1n = new Map();#_1o = new Set();#_1p = new Set();#_14;#_17 = () => void this.close();constructor(url, options, openSocket) {const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));const { signal } = options;this.#q = {timeoutMs: 60000,
maxMessageBytes: 65536,
maxInFlight: 128,
maxQueueChars: 16 << 20,
...(given),};this.#_1i = new Connection({transports: ['websocket', 'sse', 'long-polling'],
openTimeoutMs: 10000,
retryMinMs: 500,
retryMaxMs: 30000,
retries: Infinity,
silenceMs: 75000,
keepAliveMs: 30000,
openSocket,
...(given),
...httpAddress(url, options.headers),
onMessage: (message) => this.#_1q(message),
onState: (state, error) => this.#_1r(state, error),});signal?.addEventListener('abort', this.#_17);if (signal?.aborted) void this.close()}
get state() {return this.#_1i.state}
get transport() {return this.#_1i.transport}
opened(signal) {return new Promise((resolve, reject) => {const look = () => {if (signal?.aborted) reject(signal.reason);else if (this.state === 'open') resolve();else if (this.state === 'closed') reject(this.#_1s());else return;this.#_1p.delete(look);signal?.removeEventListener('abort', look)};this.#_1p.add(look);signal?.addEventListener('abort', look);look()})}
request(options) {return new Promise((resolve, reject) => {const { method = 'GET', path = '/', accept, headers, body, idempotent = false, signal } = options;const timeoutMs = options.timeoutMs ?? this.#q.timeoutMs;if (this.state === 'closed') throw this.#_1s();if (signal?.aborted) throw signal.reason;if (ArrayBuffer.isView(body)) throw new TypeError('a body is text or a value for JSON: use toBase64 for bytes');const content = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body);const type = options.type ?? (body === undefined || typeof body === 'string' ? undefined : 'application/json');const size = content.length + path.length;if (this.#_1l > 0 && this.#_1l + size > this.#q.maxQueueChars) {throw new GatewayError('QUEUE_FULL', 'too many requests wait to be sent: await earlier ones first, or raise maxQueueChars')}
const head = { id: String(this.#_1j++), method, path, type, accept, headers };const settle = () => {clearTimeout(timer);signal?.removeEventListener('abort', aborted);this.#_1t(waiting)};const waiting = {head,
body: content,
size,
idempotent,
resolve: (reply) => {settle();if (reply.code >= 400) reject(errorOf(reply, `${method} ${path}`));else resolve(reply);this.#_1u()},
reject: (error) => {settle();reject(error)},};const aborted = () => waiting.reject(signal?.reason);signal?.addEventListener('abort', aborted);const expired = () => {waiting.reject(new GatewayError('TIMEOUT', `no answer to ${method} ${path} within ${timeoutMs} ms`));this.#_1u()};const timer = timeoutMs > 0 ? setTimeout(expired, timeoutMs) : undefined;this.#_1k.add(waiting);this.#_1l += size;this.#_1u()})}
async topics() {return (await this.request({ path: '/topics', idempotent: true })).body}
async produce(topic, records, { format = 'json', schemas, signal, timeoutMs } = {}) {const reply = await this.request({method: 'POST',
path: `/topics/${encodeURIComponent(topic)}`,
type: `application/vnd.kafka.${format}.v2+json`,
accept: 'application/vnd.kafka.v2+json',
body: JSON.stringify({ ...schemas, records: records.map((record) => withoutBytes(record, format === 'binary')) }),
signal,
timeoutMs,});return reply.body}
async createConsumer(group, { name, format = 'binary', settings } = {}) {const reply = await this.request({method: 'POST',
path: `/consumers/${encodeURIComponent(group)}`,
type: 'application/vnd.kafka.v2+json',
body: { ...settings, name, format },});return new Consumer(this, group, reply.body.instance_id, format)}
async subscribe(options) {if (this.state === 'closed') throw this.#_1s();const id = String(this.#_1j++);const subscription = new Subscription(
{id,
isOpen: () => this.state === 'open',
request: (request) => this.request(request),
call: (head, receive) => this.#k(head, receive),
forget: (ended) => {this.#_1o.delete(ended);this.#_1n.delete(id)},},
options,
);this.#_1o.add(subscription);return subscription.start()}
async close() {await Promise.all([...this.#_1o].map((subscription) => subscription.close()));this.#_1i.close()}
#_1r(state, error) {if (state === 'open') {for (const subscription of this.#_1o) subscription.connected();this.#_1u()} else {this.#_7(error)}
if (state === 'closed') this.#_1v(error);for (const look of [...this.#_1p]) look();this.#_1w(this.#q.onState, state, error)}
#_7(error) {for (const subscription of this.#_1o) subscription.disconnected();this.#_1n.clear();const again = [];for (const waiting of [...this.#_1m.values()]) {const { method, path } = waiting.head;if (waiting.idempotent && error?.closeCode !== TOO_BIG) again.push(waiting);else if (this.state === 'closed') waiting.reject(this.#_1s());else {const text = `the connection broke before the answer to ${method} ${path}: ${error?.message ?? 'closed'}`;waiting.reject(new GatewayError('LOST', text, { closeCode: error?.closeCode, cause: error }))}}
this.#_1m.clear();if (again.length === 0) return;for (const waiting of again) this.#_1l += waiting.size;this.#_1k = new Set([...again, ...this.#_1k])}
#_1v(error) {this.#_14 = error;this.#q.signal?.removeEventListener('abort', this.#_17);for (const subscription of [...this.#_1o]) subscription.end(error);for (const waiting of [...this.#_1k]) waiting.reject(this.#_1s())}
#_1s() {if (this.#_14 === undefined) return new GatewayError('CLOSED', 'the connection to the gateway is closed');return new GatewayError('CLOSED', `the connection was given up: ${this.#_14.message}`, {status: this.#_14.status,
cause: this.#_14,})}
#_1u() {for (const waiting of this.#_1k) {if (this.state !== 'open' || this.#_1m.size >= this.#q.maxInFlight) return;this.#_1k.delete(waiting);this.#_1l -= waiting.size;this.#_1m.set(waiting.head.id, waiting);this.#k(waiting.head, waiting.resolve, waiting.body)}}
#k(head, receive, body = '') {this.#_1n.set(head.id, { assembler: new Assembler(), receive });for (const message of encodeRequest(head, body, this.#q.maxMessageBytes)) {this.#_1w(this.#q.onTrace, 'sending', message);this.#_1i.send(message)}}
#_1w(callback, ...values) {if (callback) queueMicrotask(() => callback(...values))}
#_1t(waiting) {if (this.#_1k.delete(waiting)) this.#_1l -= waiting.size;if (this.#_1m.delete(waiting.head.id)) this.#_1n.delete(waiting.head.id)}
#_1q(message) {this.#_1w(this.#q.onTrace, 'received', message);if (message === 'X') return;const part = decodeReply(message);if (part === undefined) {const text = typeof message === 'string' ? message : new TextDecoder().decode(message);if (!/^\s*\{\s*"heartbeat"/.test(text)) this.#_1w(this.#q.onBare, text);return}
const slot = this.#_1n.get(part.head.id);const reply = slot?.assembler.add(part);if (reply) slot?.receive(reply)}}
function withoutBytes(record, binary) {if (!binary && !record.headers) return record;const encoded = { ...record };if (binary) {encoded.key = inBase64(record.key);encoded.value = inBase64(record.value)}
if (record.headers) encoded.headers = record.headers.map(({ name, value }) => ({ name, value: inBase64(value) }));return encoded}
function inBase64(value) {return value instanceof Uint8Array ? toBase64(value) : value}
function httpAddress(text, headers = {}) {const url = new URL(text, globalThis.location?.href);const protocol = url.protocol.replace(/^ws/, 'http');if (protocol !== 'http:' && protocol !== 'https:') {throw new TypeError(`"${text}" is no address of a gateway: use http, https, ws or wss`)}
const credentials = url.username && toBase64(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`);url.username = url.password = '';return {url: protocol + url.href.slice(url.protocol.length),
headers: credentials ? { Authorization: `Basic ${credentials}`, ...headers } : headers,}}
const PROTOCOL = 'kafka-gateway';function subprotocols(headers) {const others = { ...headers };const name = Object.keys(others).find((each) => each.toLowerCase() === 'authorization');if (name === undefined) return { protocols: [], others };const proof = btoa(others[name]).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');delete others[name];return { protocols: [PROTOCOL, `authorization.${proof}`], others }}
function connect(url = '/', options = {}) {return new Gateway(url, options, (socketUrl, headers) => {const { protocols, others } = subprotocols(headers);return new WebSocket(address(socketUrl, others), protocols)})}

return { connect, Consumer, fromBase64, toBase64, GatewayError, Gateway, Reply, Subscription };
})();
