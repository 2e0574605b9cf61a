import { askPlainly, GatewayError, originGiven, originHint } from './errors.js';
import { backoff, delay } from './time.js';

/** So many heartbeats may be missing before a connection counts as lost. */
const MISSING_BEATS = 3;

/**
 * @typedef {object} StreamRecord
 * @property {string} topic
 * @property {number} partition
 * @property {number} offset
 * @property {number} [timestamp] milliseconds since the epoch
 * @property {any} key
 * @property {any} value
 * @property {{name: string, value: string | null}[]} [headers] values in base64
 * @property {{error_code: number, message: string}} [error] why the key or value is null: the format cannot express it
 */

/** @typedef {{topic: string, partition: number, offset: number}} Position */

/**
 * @typedef {object} StreamOptions all are optional
 * @property {string} [format] of keys and values: `json` (default), `string`, `binary`, `avro`, `jsonschema`, `protobuf`
 * @property {string} [key_format] of the keys, if that is another one
 * @property {string} [value_format] of the values, if that is another one
 * @property {'latest' | 'earliest' | number} [offset] where to begin: after the newest record (default), at the oldest,
 *   at an offset, or with -N at the last N records of each partition
 * @property {Date | number | string} [since] begin at the first record of that time or later
 * @property {string} [token] begin where another stream was: its `token`. Wins over `offset` and `since`
 * @property {number[]} [partitions] only these, of one topic
 * @property {'end'} [until] finish at the end that the topics had when the stream was opened
 * @property {number} [limit] finish after so many records
 * @property {string} [group] share the topics with the other members of this consumer group; Kafka keeps the position
 * @property {'sent' | 'client'} [ack] with a group: what counts as delivered. `sent` (default): what the gateway has
 *   written; `client`: what was processed, which is when the next batch is asked for. It uses a WebSocket
 * @property {number} [heartbeat] seconds between two signs of life, 1 to 120; 15 by default
 * @property {Record<string, string>} [headers] of the requests, e.g. Authorization; a browser's WebSocket carries no others
 * @property {number} [retryMinMs] pause before connecting again, 500 by default; it doubles with each attempt
 * @property {number} [retryMaxMs] and grows up to this, 30000 by default
 * @property {number} [retries] how many attempts in a row may fail; no limit by default
 * @property {(text: string) => any} [parse] reads the JSON of what comes, JSON.parse by default; another one can keep
 *   numbers beyond 2^53 as they are
 * @property {AbortSignal} [signal] ends the stream
 * @property {(name: 'ready' | 'end' | 'gap', data: any) => void} [onEvent] what is told beside the records
 * @property {(state: 'connecting' | 'open' | 'waiting' | 'closed', error?: Error) => void} [onState]
 */

/** @typedef {(url: string, headers: Record<string, string>) => WebSocket} OpenSocket */

/**
 * Records of topics as they come, and on request the older ones before. Nothing is read before the loop asks for it.
 *
 * A connection that breaks is opened again where it was: no record is missing, none comes twice. (With a group: the
 * ones that do not count as delivered come again.)
 */
export class RecordStream {
  #url;
  #options;
  /** @type {(text: string) => any} */
  #parse;
  #headers;
  #openSocket;
  #stop = new AbortController();
  #begun = false;
  #over = false;
  /** @type {number | undefined} of `limit` */
  #left;
  /** @type {string | undefined} */
  #given;
  /** @type {Map<string, Position>} */
  #positions = new Map();
  #acknowledge = () => {};

  /**
   * @param {string} url
   * @param {string | string[]} topics
   * @param {StreamOptions} options
   * @param {OpenSocket} openSocket
   */
  constructor(url, topics, options, openSocket) {
    const base = new URL(url.replace(/^ws/, 'http'), globalThis.location?.href);
    if (!base.protocol.startsWith('http')) throw new TypeError(`"${url}" is no address of a gateway: use http, https, ws or wss`);
    if (!base.pathname.endsWith('/')) base.pathname += '/';
    this.#headers = { ...options.headers };
    if (base.username) {
      const bytes = new TextEncoder().encode(decodeURIComponent(`${base.username}:${base.password}`));
      this.#headers.Authorization ??= `Basic ${btoa(String.fromCharCode(...bytes))}`;
      base.username = base.password = '';
    }
    this.#url = new URL(`topics/${[topics].flat().map(encodeURIComponent).join()}/stream`, base);
    this.#options = options;
    this.#parse = options.parse ?? JSON.parse;
    this.#openSocket = openSocket;
    this.#left = options.limit;
    this.#given = options.token;
    options.signal?.addEventListener('abort', () => this.close(), { signal: this.#stop.signal });
    if (options.signal?.aborted) this.close();
  }

  /**
   * Where the stream is: behind the record, or batch, that was handed out last. Keep it to go on there another day.
   * Undefined until the beginning is known, and with a group.
   * @returns {string | undefined}
   */
  get token() {
    if (this.#options.group !== undefined) return undefined;
    return this.#positions.size > 0 ? JSON.stringify([...this.#positions.values()]) : this.#given;
  }

  /** Ends the stream, and the loop over it. */
  close() {
    this.#stop.abort();
  }

  /**
   * Record by record. Leaving the loop ends the stream.
   * @returns {AsyncGenerator<StreamRecord, void, void>}
   */
  async *[Symbol.asyncIterator]() {
    for await (const records of this.#batches()) {
      for (const record of records) {
        this.#move([{ ...record, offset: record.offset + 1 }]);
        yield record;
        if (this.#stop.signal.aborted) return;
      }
    }
  }

  /**
   * Batch by batch: what came together.
   * @returns {AsyncGenerator<StreamRecord[], void, void>}
   */
  async *batches() {
    for await (const records of this.#batches()) {
      this.#move(records.map((record) => ({ ...record, offset: record.offset + 1 })));
      yield records;
      if (this.#stop.signal.aborted) return;
    }
  }

  /**
   * Calls back with each batch, and waits for what the callback promises before it goes on.
   * @param {(records: StreamRecord[]) => unknown} onRecords
   * @returns {Promise<void>} resolves when the stream is over
   */
  async forEach(onRecords) {
    for await (const records of this.batches()) await onRecords(records);
  }

  /** @returns {AsyncGenerator<StreamRecord[], void, void>} */
  async *#batches() {
    if (this.#begun) throw new TypeError('A stream can be read once; open another one.');
    this.#begun = true;
    const { retries = Infinity, retryMinMs = 500, retryMaxMs = 30000, onState } = this.#options;
    const { signal } = this.#stop;
    /** @type {GatewayError | undefined} */
    let error;
    let failed = 0;
    try {
      while (!signal.aborted && !this.#over) {
        onState?.('connecting');
        const events = this.#connect();
        try {
          for (error = undefined; !signal.aborted; ) {
            const event = await next(events);
            if (event instanceof GatewayError) {
              error = event;
              break;
            }
            if (failed >= 0) onState?.('open');
            failed = -1;
            if (event.name) this.#told(event);
            else {
              if (this.#left !== undefined) this.#left -= event.data.length;
              yield event.data;
              this.#acknowledge();
            }
            if (this.#over) return;
          }
        } finally {
          await events.return();
        }
        if (signal.aborted || this.#left === 0) error = undefined;
        if (!error) return;
        if (!error.retriable || ++failed > retries) throw error;
        onState?.('waiting', error);
        await delay(backoff(failed, retryMinMs, retryMaxMs), signal);
      }
    } finally {
      this.close();
      onState?.('closed', error);
    }
  }

  /** @param {{name: string, data: any}} event one that is no batch */
  #told({ name, data }) {
    if (name === 'ready') this.#positions.clear();
    this.#move(name === 'gap' ? [{ ...data, offset: data.to }] : data.positions);
    this.#over = name === 'end' && Boolean(this.#options.until || this.#left === 0);
    this.#options.onEvent?.(/** @type {'ready' | 'end' | 'gap'} */ (name), data);
  }

  /** @param {Position[]} positions */
  #move(positions) {
    for (const { topic, partition, offset } of positions) {
      this.#positions.set(`${partition} ${topic}`, { topic, partition, offset });
    }
  }

  /** @returns {AsyncGenerator<{name: string, data: any}, void, void>} the events of one connection */
  async *#connect() {
    const { ack, heartbeat = 15, since, offset, partitions, ...options } = this.#options;
    const { token } = this;
    const url = new URL(this.#url);
    const asked = {
      format: options.format ?? 'json',
      key_format: options.key_format,
      value_format: options.value_format,
      offset: token ? undefined : offset,
      since: token ? undefined : since instanceof Date ? since.getTime() : since,
      partitions: partitions?.join(),
      until: options.until,
      limit: this.#left,
      group: options.group,
      ack,
      heartbeat,
    };
    for (const [name, value] of Object.entries(asked)) if (value !== undefined) url.searchParams.set(name, `${value}`);
    const silentMs = MISSING_BEATS * heartbeat * 1000;
    if (ack === 'client') yield* this.#readSocket(url, silentMs / MISSING_BEATS);
    else yield* this.#readResponse(url, token ? { 'Last-Event-ID': token } : {}, silentMs);
  }

  /**
   * @param {URL} url
   * @param {Record<string, string>} headers
   * @param {number} silentMs
   */
  async *#readResponse(url, headers, silentMs) {
    const connection = new AbortController();
    const cut = () => connection.abort();
    this.#stop.signal.addEventListener('abort', cut);
    // Only while something is awaited: what the application takes its time for is no silence.
    let timer = setTimeout(cut, silentMs);
    try {
      const response = await fetch(url, {
        headers: { ...this.#headers, ...headers, Accept: 'text/event-stream' },
        cache: 'no-store',
        signal: connection.signal,
      }).catch((cause) => {
        throw new GatewayError('LOST', `The gateway cannot be reached: ${cause.message}${originHint(url.href)}`, { cause });
      });
      if (!response.ok || !response.body) throw failure(await response.json().catch(() => ({})), response.status);
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      let text = '';
      let name = '';
      for (;;) {
        clearTimeout(timer);
        timer = setTimeout(cut, silentMs);
        const { value, done } = await reader.read();
        clearTimeout(timer);
        if (done) return;
        const lines = (text + decoder.decode(value, { stream: true })).split(/\r?\n/);
        text = /** @type {string} */ (lines.pop());
        for (const line of lines) {
          if (line.startsWith('event: ')) name = line.slice(7);
          else if (line.startsWith('data: ')) yield { name, data: this.#parse(line.slice(6)) };
          else if (!line) name = '';
        }
      }
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener('abort', cut);
      cut();
    }
  }

  /**
   * @param {URL} url
   * @param {number} beatMs
   */
  async *#readSocket(url, beatMs) {
    const socket = this.#openSocket(url.href.replace(/^http/, 'ws'), this.#headers);
    /** @type {string[]} */
    const messages = [];
    /** @type {{code: number, status?: number} | undefined} */
    let closed;
    let opened = false;
    let wake = () => {};
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = ({ data }) => {
      messages.push(data);
      wake();
    };
    socket.onclose = (event) => {
      closed = event;
      wake();
    };
    const stop = () => wake();
    this.#stop.signal.addEventListener('abort', stop);
    // What the client sends shows it, sooner or later, that nobody is there.
    const beat = setInterval(() => opened && !closed && socket.send('{}'), beatMs);
    this.#acknowledge = () => {
      if (!closed) socket.send(`{"ack":${JSON.stringify([...this.#positions.values()])}}`);
    };
    try {
      while (!this.#stop.signal.aborted) {
        const message = messages.shift();
        if (message) {
          const data = this.#parse(message);
          yield { name: data.event ?? '', data };
        } else if (closed) {
          if (closed.status) throw failure({}, closed.status, closed.status === 403 ? originGiven(url.href, this.#headers) : '');
          if (!opened && globalThis.location) await this.#askWhy(url);
          return;
        } else await new Promise((resolve) => (wake = () => resolve(undefined)));
      }
    } finally {
      clearInterval(beat);
      this.#stop.signal.removeEventListener('abort', stop);
      this.#acknowledge = () => {};
      socket.close();
    }
  }

  /**
   * Throws what speaks against this stream, which browsers do not tell of a WebSocket. Nothing is read by it: it is over
   * at once, and belongs to no group.
   * @param {URL} url
   */
  async #askWhy(url) {
    const plain = new URL(url);
    for (const name of ['group', 'ack', 'offset', 'since', 'limit']) plain.searchParams.delete(name);
    plain.searchParams.set('until', 'end');
    const response = await askPlainly(plain.href, { ...this.#headers, Accept: 'text/event-stream' }, this.#stop.signal);
    if (!response.ok) throw failure(await response.json().catch(() => ({})), response.status);
    void response.body?.cancel();
  }
}

/**
 * @param {AsyncGenerator<{name: string, data: any}, void, void>} events
 * @returns {Promise<{name: string, data: any} | GatewayError>} the next event, or why there is none
 */
async function next(events) {
  try {
    const { value } = await events.next();
    if (!value) return new GatewayError('LOST', 'The gateway ended the connection.');
    return value.name === 'error' ? failure(value.data) : value;
  } catch (cause) {
    if (cause instanceof GatewayError) return cause;
    const code = cause instanceof SyntaxError ? 'BAD_REPLY' : 'LOST';
    return new GatewayError(code, `The connection broke: ${cause}`, { cause });
  }
}

/**
 * @param {{error_code?: number, message?: string, retriable?: boolean}} body
 * @param {number} [status]
 * @param {string} [hint]
 */
function failure({ error_code = 0, message, retriable }, status = error_code > 999 ? Math.trunc(error_code / 100) : error_code, hint = '') {
  const text = `${message ?? `The gateway answered ${status}.`} (${error_code || status})${hint}`;
  return new GatewayError(retriable ? 'LOST' : 'REPLY', text, { status, error_code });
}
