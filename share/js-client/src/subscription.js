import { GatewayError } from './errors.js';
import { errorOf } from './reply.js';
import { backoff, delay } from './time.js';

/**
 * @typedef {object} Record a record of Kafka as the gateway sends it
 * @property {any} key base64 text in format `binary`, else the value itself; null if there is none
 * @property {any} value likewise; null for a tombstone
 * @property {number} partition
 * @property {number} offset
 * @property {string} [topic]
 */

/**
 * @typedef {object} SubscriptionOptions
 * @property {string} group consumer group
 * @property {string} instance consumer instance; made by `create`, or beforehand
 * @property {string} [topic] the one topic of an instance of the REST API v1
 * @property {string[]} [topics] any number of topics, instead of `topic`: the instance is one of the REST API v2. Without
 *   `create` it is taken to be subscribed already
 * @property {string} [format] format of the instance: `binary` (default), `json`, `avro`, and with v2 `jsonschema`, `protobuf`
 * @property {{[name: string]: unknown}} [create] settings of the instance, `{}` for none, e.g.
 *   `{"auto.offset.reset": "smallest"}` (v2: `earliest`). With it the subscription makes the instance, makes it again when the gateway has
 *   lost it, and deletes it at the end. A new instance goes on behind the last record that has come, or behind what the group
 *   has committed if that is more; v1 cannot seek, there it is the committed position. `session.timeout.ms` is 6000 unless it is given:
 *   so long the partitions stay with an instance whose gateway has died
 * @property {number} [maxBytes] most bytes of keys and values in one array
 * @property {number} [bufferChars] characters of records that may wait for the reader before the gateway is asked to
 *   pause; 8 Mi by default. Records on their way come on top
 * @property {(records: Record[], subscription: Subscription) => unknown} [onRecords] takes each array, one after the
 *   other: a promise that it returns is awaited. Without it, iterate
 * @property {(error: GatewayError) => void} [onError] takes errors of a running subscription: those that it survives, and,
 *   with `onRecords`, the one that ends it. Without it the latter is thrown where nothing catches it
 * @property {AbortSignal} [signal] closes the subscription
 * @property {number} [timeoutMs] for the first answer; 60000 by default
 */

/**
 * What a subscription needs of its gateway.
 * @typedef {object} Port
 * @property {string} id for its replies
 * @property {() => boolean} isOpen
 * @property {(options: import('./gateway.js').RequestOptions) => Promise<import('./reply.js').Reply>} request
 * @property {(head: import('./envelope.js').RequestHead, receive: (reply: import('./reply.js').Reply) => void) => void} call
 *   sends a request whose replies all go to `receive`
 * @property {(subscription: Subscription) => void} forget no more replies, no more news of the connection
 */

const UNKNOWN_INSTANCE = 40403;
const EXISTING_INSTANCE = 40902;
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 5000;
/** How often an instance is made again for one start of the subscription. */
const CREATE_ATTEMPTS = 3;
const FAREWELL_MS = 5000;
const SESSION_TIMEOUT = 'session.timeout.ms';
const SESSION_TIMEOUT_MS = 6000;
/** How long a new instance may take to get partitions, which the one before it may still have. */
const ASSIGNED_MS = 60000;
/** How long one of its reads waits meanwhile. */
const ASSIGNED_READ_MS = 500;
const V2 = 'application/vnd.kafka.v2+json';

/**
 * Records pushed by the gateway. It outlives connections: after each reconnect it subscribes again, and the gateway goes
 * on with what it had not delivered. Iterate over it (once), or give `onRecords`:
 *
 *     for await (const record of subscription) …          // leaving the loop closes the subscription
 *     for await (const records of subscription.batches()) …
 *
 * A reader that is too slow makes it unsubscribe until the reader has caught up; the gateway keeps the rest.
 */
export class Subscription {
  /** Records that have come so far. */
  received = 0;
  #port;
  #options;
  #path;
  #query;
  #instancePath;
  #type;
  /** @type {{records: Record[], size: number}[]} */
  #buffer = [];
  #buffered = 0;
  #bufferChars;
  /** Counts starts and losses, so that what belongs to an earlier start can be told. */
  #epoch = 0;
  /** @type {'no' | 'found' | 'made'} Whether the instance is known to be there, and is ours. */
  #instance = 'no';
  /** Whether the gateway may be pushing to this connection. */
  #asked = false;
  #running = false;
  /** Where it is: the next offset of each partition from which records have come. @type {Map<string, Position>} */
  #positions = new Map();
  /** Whether the instance has to be set to these positions before it is read. */
  #behind = false;
  /** @type {'no' | 'unsubscribing' | 'yes'} */
  #paused = 'no';
  #ended = false;
  /** @type {GatewayError | undefined} */
  #error;
  #wake = () => {};
  /** @type {(error?: GatewayError) => void} */
  #started = () => {};
  /** @type {Promise<void> | undefined} */
  #closing;
  #abort = () => void this.close();

  /**
   * @param {Port} port
   * @param {SubscriptionOptions} options
   */
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

  /** Id of its request in the envelope. */
  get id() {
    return this.#port.id;
  }

  /** Whether it has ended: closed, or failed. */
  get closed() {
    return this.#ended;
  }

  /**
   * Starts it; for the gateway object.
   * @returns {Promise<this>} after the first answer
   * @internal
   */
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

  /**
   * The arrays of records as they come. Ending the iteration closes the subscription.
   * @returns {AsyncGenerator<Record[], void, void>}
   * @throws {GatewayError} when the subscription fails, after the records that came before
   */
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

  /** The records one by one; otherwise like `batches()`. */
  async *[Symbol.asyncIterator]() {
    for await (const records of this.batches()) yield* records;
  }

  /**
   * Commits what the instance has delivered so far.
   * @returns {Promise<{topic: string, partition: number, consumed: number, committed: number}[]>}
   */
  async commit() {
    return (await this.#port.request({ method: 'POST', path: `${this.#instancePath}/offsets` })).body;
  }

  /**
   * Ends it: no record is delivered after this call. The gateway keeps what it has not sent for the next subscriber.
   * @returns {Promise<void>} when the gateway has ended it too, or cannot be told
   */
  close() {
    this.#closing ??= this.#leave();
    return this.#closing;
  }

  /** Ends it without a word to the gateway. @param {GatewayError} [error] @internal */
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

  /** A connection is open. @internal */
  connected() {
    if (this.#paused === 'no') void this.#establish();
    else this.#resume();
  }

  /** The connection is lost, and with it what the gateway was sending. @internal */
  disconnected() {
    this.#epoch++;
    this.#asked = false;
  }

  /** @param {GatewayError} error */
  #fail(error) {
    this.#closing ??= this.#leave(error);
  }

  /** @param {GatewayError} [error] */
  async #leave(error) {
    // What came before a failure is still delivered.
    if (!error) this.#buffer = [];
    this.end(error);
    const paths = [];
    if (this.#asked) paths.push(this.#path);
    if (this.#instance === 'made') paths.push(this.#instancePath);
    for (const path of paths) {
      // Without a connection there is nothing to end: the gateway has noticed, and lets the instance expire.
      if (!this.#port.isOpen()) return;
      // Whatever the answer is: after it, nothing more can be done about it.
      await this.#port.request({ method: 'DELETE', path, timeoutMs: FAREWELL_MS }).catch(() => {});
    }
  }

  /** Subscribes on the present connection, until it works or there is no point in trying. */
  async #establish() {
    const epoch = ++this.#epoch;
    for (let attempt = 0; epoch === this.#epoch; attempt++) {
      try {
        if (this.#options.create && this.#instance === 'no') await this.#create(this.#options.create);
        if (epoch === this.#epoch && this.#behind) await this.#catchUp(epoch);
        if (epoch !== this.#epoch) return;
        await this.#open(epoch);
        this.#running = true;
        return this.#started();
      } catch (cause) {
        if (epoch !== this.#epoch) return;
        const error = /** @type {GatewayError} */ (cause);
        const gone = error.error_code === UNKNOWN_INSTANCE && this.#options.create && attempt < CREATE_ATTEMPTS;
        if (gone) this.#instance = 'no';
        // A subscription that has run before may find a gateway that is not quite up again.
        else if (!this.#running || !error.retriable) return this.#fail(error);
        await delay(backoff(attempt, RETRY_MIN_MS, RETRY_MAX_MS));
      }
    }
  }

  /** @param {{[name: string]: unknown}} settings */
  async #create(settings) {
    const { group, instance, topics, format = 'binary', timeoutMs } = this.#options;
    const type = topics ? V2 : this.#type;
    const post = (/** @type {string} */ path, /** @type {unknown} */ body) =>
      this.#port.request({ method: 'POST', path, type, body, timeoutMs });
    try {
      const body = { ...settings, ...(topics ? { name: instance } : { id: instance }), format };
      const path = `/consumers/${encodeURIComponent(group)}`;
      const short = SESSION_TIMEOUT in settings ? body : { ...body, [SESSION_TIMEOUT]: SESSION_TIMEOUT_MS };
      await post(path, short).catch((error) => {
        // An older gateway does not know it.
        if (short !== body && error instanceof GatewayError && error.status === 422 && error.message.includes(SESSION_TIMEOUT)) return post(path, body);
        throw error;
      });
      this.#instance = 'made';
      this.#behind = topics !== undefined && this.#positions.size > 0;
    } catch (error) {
      // Made by an earlier attempt whose answer was lost, or by someone who wants it shared.
      if (!(error instanceof GatewayError && error.error_code === EXISTING_INSTANCE)) throw error;
      this.#instance = 'found';
    }
    if (topics) await post(`${this.#instancePath}/subscription`, { topics });
  }

  /**
   * Sets a new instance to where this subscription was: with `auto.offset.reset` it would begin at the end, or with what has
   * come already, if nothing was committed.
   * @param {number} epoch
   */
  async #catchUp(epoch) {
    const port = this.#port;
    const ask = (/** @type {string} */ method, /** @type {string} */ path, /** @type {unknown} */ body, accept = V2) =>
      port.request({ method, path: this.#instancePath + path, type: body === undefined ? undefined : V2, accept, body });
    const wanted = new Map(this.#positions);
    const until = performance.now() + ASSIGNED_MS;
    /** @type {{topic: string, partition: number}[]} */
    let assigned = [];
    while (assigned.length === 0 && epoch === this.#epoch && performance.now() < until) {
      // A group assigns partitions to who reads. What is read here has to come again.
      const reply = await ask('GET', `/records?timeout=${ASSIGNED_READ_MS}&max_bytes=1`, undefined, this.#type);
      for (const record of reply.body) {
        const place = placeOf(record);
        if (!wanted.has(place)) wanted.set(place, { topic: record.topic, partition: record.partition, offset: record.offset });
      }
      assigned = (await ask('GET', '/assignments', undefined)).body.partitions;
    }
    const partitions = assigned.filter((each) => wanted.has(placeOf(each)));
    if (partitions.length > 0) {
      const stored = (await ask('GET', '/offsets', { partitions })).body.offsets;
      const committed = new Map(stored.map((/** @type {Position} */ each) => [placeOf(each), each.offset]));
      const offsets = partitions.map((each) => {
        const place = placeOf(each);
        const seen = /** @type {Position} */ (wanted.get(place)).offset;
        // Others of the group may have gone on where this one was.
        return { topic: each.topic, partition: each.partition, offset: Math.max(seen, committed.get(place) ?? 0) };
      });
      await ask('POST', '/positions', { offsets });
    }
    this.#behind = false;
  }

  /**
   * Sends the request; resolves with its first reply.
   * @param {number} epoch
   * @returns {Promise<void>}
   */
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
          // Only the first reply decides. Later errors are reports; the subscription goes on if it can.
          if (first) {
            this.#asked = false; // a farewell now would end someone else's subscription
            reject(error);
          } else queueMicrotask(() => this.#options.onError?.(/** @type {GatewayError} */ (error)));
        }
        if (first && epoch === this.#epoch) resolve();
        first = false;
      });
    });
  }

  /** @param {import('./reply.js').Reply} reply */
  #deliver(reply) {
    const body = reply.body;
    // Older gateways push single records.
    const records = Array.isArray(body) ? body : body === undefined ? [] : [body];
    if (records.length === 0) return;
    const size = reply.text.length;
    this.received += records.length;
    for (const { topic, partition, offset } of records) {
      if (topic !== undefined) this.#positions.set(placeOf({ topic, partition }), { topic, partition, offset: offset + 1 });
    }
    this.#buffer.push({ records, size });
    this.#buffered += size;
    this.#wake();
    if (this.#buffered > this.#bufferChars && this.#paused === 'no') void this.#pause();
  }

  async #pause() {
    this.#paused = 'unsubscribing';
    // If it fails, the connection is lost, which pauses as well; or the next GET replaces the subscription.
    await this.#port.request({ method: 'DELETE', path: this.#path, timeoutMs: FAREWELL_MS }).catch(() => {});
    this.#paused = 'yes';
    this.#resume();
  }

  #resume() {
    if (this.#paused !== 'yes' || this.#ended || this.#buffered > this.#bufferChars / 4 || !this.#port.isOpen()) return;
    this.#paused = 'no';
    void this.#establish();
  }

  /** @param {(records: Record[], subscription: Subscription) => unknown} onRecords */
  async #pump(onRecords) {
    try {
      for await (const records of this.batches()) await onRecords(records, this);
    } catch (error) {
      if (!(error instanceof GatewayError && this.#options.onError)) throw error; // an unhandled rejection: seen by all
      this.#options.onError(error);
    }
  }
}

/** @typedef {{topic: string, partition: number, offset: number}} Position */

/** @param {{topic?: string, partition: number}} place */
function placeOf({ topic, partition }) {
  return `${partition} ${topic}`;
}
