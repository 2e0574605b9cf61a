/**
 * A consumer instance of the REST API v2, which is read by request. For records that are pushed see `Gateway.subscribe`.
 */
export class Consumer {
  #gateway;
  #path;
  #accept;

  /**
   * Use `Gateway.createConsumer`, or this for an instance that exists.
   * @param {import('./gateway.js').Gateway} gateway
   * @param {string} group
   * @param {string} instance
   * @param {string} [format] `binary`, `json`, `avro`, `jsonschema` or `protobuf`: that of the instance
   */
  constructor(gateway, group, instance, format = 'binary') {
    this.group = group;
    this.instance = instance;
    this.#gateway = gateway;
    this.#path = `/consumers/${encodeURIComponent(group)}/instances/${encodeURIComponent(instance)}`;
    this.#accept = `application/vnd.kafka.${format}.v2+json`;
  }

  /**
   * Subscribes to topics, replacing what it was subscribed to.
   * @param {string | string[] | RegExp} topics names, or a pattern for the whole name
   */
  async subscribe(topics) {
    const body = topics instanceof RegExp ? { topic_pattern: topics.source } : { topics: [topics].flat() };
    await this.#call('POST', '/subscription', body);
  }

  /**
   * Reads what has come since the last read; [] if nothing came in time.
   * @param {object} [options]
   * @param {number} [options.waitMs] how long the gateway may collect; at most, and by default, what it is configured for
   * @param {number} [options.maxBytes] most bytes of keys and values
   * @param {AbortSignal} [options.signal]
   * @returns {Promise<import('./subscription.js').Record[]>}
   */
  async read({ waitMs, maxBytes, signal } = {}) {
    const query = [waitMs === undefined ? '' : `timeout=${waitMs}`, maxBytes === undefined ? '' : `max_bytes=${maxBytes}`];
    const path = `${this.#path}/records?${query.filter(Boolean).join('&')}`.replace(/\?$/, '');
    return (await this.#gateway.request({ path, accept: this.#accept, signal })).body;
  }

  /**
   * Commits everything read so far, or up to the given records.
   * @param {{topic: string, partition: number, offset: number}[]} [offsets] the last record processed of each partition
   */
  async commit(offsets) {
    await this.#call('POST', '/offsets', offsets && { offsets });
  }

  /** Deletes the instance, which leaves its group. */
  async close() {
    await this.#call('DELETE', '');
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   */
  #call(method, path, body) {
    const type = body === undefined ? undefined : 'application/vnd.kafka.v2+json';
    return this.#gateway.request({ method, path: this.#path + path, type, body });
  }
}
