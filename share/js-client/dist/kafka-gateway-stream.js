// Kafka Gateway client. SPDX-License-Identifier: Apache-2.0. Made by scripts/build.js from src/; do not edit.
const KafkaGatewayStream = (() => {
'use strict';
class GatewayError extends Error {constructor(code, message, { status = 0, error_code, reply, closeCode, cause } = {}) {super(message, cause === undefined ? undefined : { cause });this.name = 'GatewayError';this.code = code;this.status = status;this.error_code = error_code;this.reply = reply;this.closeCode = closeCode}
get retriable() {if (this.code === 'REPLY') return this.status >= 500 || this.status === 429 || this.status === 408;return this.code === 'LOST' || this.code === 'TIMEOUT' || this.code === 'UNREACHABLE'}}
function backoff(attempt, minMs, maxMs) {return Math.min(maxMs, minMs * 2 ** Math.min(attempt, 30)) * (0.5 + Math.random() / 2)}
function delay(ms, signal) {return new Promise((resolve) => {const done = () => {clearTimeout(timer);signal?.removeEventListener('abort', done);resolve()};const timer = setTimeout(done, ms);if (signal?.aborted) done();else signal?.addEventListener('abort', done)})}
const MISSING_BEATS = 3;class RecordStream {#_0;#_1;#_2;#_3;#_4 = new AbortController();#_5 = false;#_6 = false;#_7;#_8;#_9 = new Map();#a = () => {};constructor(url, topics, options, openSocket) {const base = new URL(url.replace(/^ws/, 'http'), globalThis.location?.href);if (!base.protocol.startsWith('http')) throw new TypeError(`"${url}" is no address of a gateway: use http, https, ws or wss`);if (!base.pathname.endsWith('/')) base.pathname += '/';this.#_2 = { ...options.headers };if (base.username) {const bytes = new TextEncoder().encode(decodeURIComponent(`${base.username}:${base.password}`));this.#_2.Authorization ??= `Basic ${btoa(String.fromCharCode(...bytes))}`;base.username = base.password = ''}
this.#_0 = new URL(`topics/${[topics].flat().map(encodeURIComponent).join()}/stream`, base);this.#_1 = options;this.#_3 = openSocket;this.#_7 = options.limit;this.#_8 = options.token;options.signal?.addEventListener('abort', () => this.close(), { signal: this.#_4.signal });if (options.signal?.aborted) this.close()}
get token() {if (this.#_1.group !== undefined) return undefined;return this.#_9.size > 0 ? JSON.stringify([...this.#_9.values()]) : this.#_8}
close() {this.#_4.abort()}
async *[Symbol.asyncIterator]() {for await (const records of this.#b()) {for (const record of records) {this.#c([{ ...record, offset: record.offset + 1 }]);yield record;if (this.#_4.signal.aborted) return}}}
async *batches() {for await (const records of this.#b()) {this.#c(records.map((record) => ({ ...record, offset: record.offset + 1 })));yield records;if (this.#_4.signal.aborted) return}}
async forEach(onRecords) {for await (const records of this.batches()) await onRecords(records)}
async *#b() {if (this.#_5) throw new TypeError('A stream can be read once; open another one.');this.#_5 = true;const { retries = Infinity, retryMinMs = 500, retryMaxMs = 30000, onState } = this.#_1;const { signal } = this.#_4;let error;let failed = 0;try {while (!signal.aborted && !this.#_6) {onState?.('connecting');const events = this.#d();try {for (error = undefined; !signal.aborted; ) {const event = await next(events);if (event instanceof GatewayError) {error = event;break}
if (failed >= 0) onState?.('open');failed = -1;if (event.name) this.#e(event);else {if (this.#_7 !== undefined) this.#_7 -= event.data.length;yield event.data;this.#a()}
if (this.#_6) return}} finally {await events.return()}
if (signal.aborted || this.#_7 === 0) error = undefined;if (!error) return;if (!error.retriable || ++failed > retries) throw error;onState?.('waiting', error);await delay(backoff(failed, retryMinMs, retryMaxMs), signal)}} finally {this.close();onState?.('closed', error)}}
#e({ name, data }) {if (name === 'ready') this.#_9.clear();this.#c(name === 'gap' ? [{ ...data, offset: data.to }] : data.positions);this.#_6 = name === 'end' && Boolean(this.#_1.until || this.#_7 === 0);this.#_1.onEvent?.((name), data)}
#c(positions) {for (const { topic, partition, offset } of positions) {this.#_9.set(`${partition} ${topic}`, { topic, partition, offset })}}
async *#d() {const { ack, heartbeat = 15, since, offset, partitions, ...options } = this.#_1;const { token } = this;const url = new URL(this.#_0);const asked = {format: options.format ?? 'json',
key_format: options.key_format,
value_format: options.value_format,
offset: token ? undefined : offset,
since: token ? undefined : since instanceof Date ? since.getTime() : since,
partitions: partitions?.join(),
until: options.until,
limit: this.#_7,
group: options.group,
ack,
heartbeat,};for (const [name, value] of Object.entries(asked)) if (value !== undefined) url.searchParams.set(name, `${value}`);const silentMs = MISSING_BEATS * heartbeat * 1000;if (ack === 'client') yield* this.#f(url, silentMs / MISSING_BEATS);else yield* this.#g(url, token ? { 'Last-Event-ID': token } : {}, silentMs)}
async *#g(url, headers, silentMs) {const connection = new AbortController();const cut = () => connection.abort();this.#_4.signal.addEventListener('abort', cut);let timer = setTimeout(cut, silentMs);try {const response = await fetch(url, {headers: { ...this.#_2, ...headers, Accept: 'text/event-stream' },
cache: 'no-store',
signal: connection.signal,});if (!response.ok || !response.body) throw failure(await response.json().catch(() => ({})), response.status);const reader = response.body.getReader();const decoder = new TextDecoder();let text = '';let name = '';for (;;) {clearTimeout(timer);timer = setTimeout(cut, silentMs);const { value, done } = await reader.read();clearTimeout(timer);if (done) return;const lines = (text + decoder.decode(value, { stream: true })).split(/\r?\n/);text = (lines.pop());for (const line of lines) {if (line.startsWith('event: ')) name = line.slice(7);else if (line.startsWith('data: ')) yield { name, data: JSON.parse(line.slice(6)) };else if (!line) name = ''}}} finally {clearTimeout(timer);this.#_4.signal.removeEventListener('abort', cut);cut()}}
async *#f(url, beatMs) {const socket = this.#_3(url.href.replace(/^http/, 'ws'), this.#_2);const messages = [];let closed;let opened = false;let wake = () => {};socket.onopen = () => {opened = true};socket.onmessage = ({ data }) => {messages.push(data);wake()};socket.onclose = (event) => {closed = event;wake()};const stop = () => wake();this.#_4.signal.addEventListener('abort', stop);const beat = setInterval(() => opened && !closed && socket.send('{}'), beatMs);this.#a = () => {if (!closed) socket.send(`{"ack":${JSON.stringify([...this.#_9.values()])}}`)};try {while (!this.#_4.signal.aborted) {const message = messages.shift();if (message) {const data = JSON.parse(message);yield { name: data.event ?? '', data }} else if (closed) {if (closed.status) throw failure({}, closed.status);return} else await new Promise((resolve) => (wake = () => resolve(undefined)))}} finally {clearInterval(beat);this.#_4.signal.removeEventListener('abort', stop);this.#a = () => {};socket.close()}}}
async function next(events) {try {const { value } = await events.next();if (!value) return new GatewayError('LOST', 'The gateway ended the connection.');return value.name === 'error' ? failure(value.data) : value} catch (cause) {if (cause instanceof GatewayError) return cause;const code = cause instanceof SyntaxError ? 'BAD_REPLY' : 'LOST';return new GatewayError(code, `The connection broke: ${cause}`, { cause })}}
function failure({ error_code = 0, message, retriable }, status = error_code > 999 ? Math.trunc(error_code / 100) : error_code) {const text = `${message ?? `The gateway answered ${status}.`} (${error_code || status})`;return new GatewayError(retriable ? 'LOST' : 'REPLY', text, { status, error_code })}
function stream(url, topics, options = {}) {return new RecordStream(url, topics, options, (address) => new WebSocket(address))}

return { stream, GatewayError, RecordStream };
})();
