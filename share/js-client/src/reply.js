import { GatewayError } from './errors.js';

const JSON_TYPE = /^application\/(?:[^;]*\+)?json\b/i;

/** A whole answer of the gateway: its parts are already joined. */
export class Reply {
  #content;
  #value;

  /**
   * @param {Record<string, any>} head the envelope of the last part
   * @param {string | Uint8Array} content all content behind the envelopes
   * @param {unknown} [value] the content as a value, if it came inside the envelope
   */
  constructor(head, content, value) {
    /** @type {string} Id of the request that this answers. */
    this.id = head.id;
    /** @type {number} HTTP status. */
    this.code = typeof head.code === 'number' ? head.code : 200;
    /** @type {string | undefined} Media type of the content. */
    this.type = head.type;
    /** @type {Record<string, string>} Response headers; only those that the gateway passes on, names as it spells them. */
    this.headers = head.headers ?? {};
    /** @type {unknown} Resume token, on the replies of a record stream. */
    this.cursor = head.cursor;
    /** @type {string | undefined} Event name, on the replies of a record stream. */
    this.event = head.event;
    this.#content = content;
    this.#value = value;
  }

  /** The content as text. */
  get text() {
    return typeof this.#content === 'string' ? this.#content : new TextDecoder().decode(this.#content);
  }

  /** The content as bytes. */
  get bytes() {
    return typeof this.#content === 'string' ? new TextEncoder().encode(this.#content) : this.#content;
  }

  /**
   * The content as a value: parsed if it is JSON, text otherwise, undefined if empty. Members called `__proto__` are
   * plain data.
   * @returns {any}
   * @throws {GatewayError} `BAD_REPLY` if the type says JSON and the content is not
   */
  get body() {
    if (this.#value === undefined && this.#content.length > 0) this.#value = this.#parse();
    return this.#value;
  }

  #parse() {
    const text = this.text;
    // Older reply forms carry no type: what parses as JSON is JSON.
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

/**
 * The error for an answer with a status of 400 or more.
 * @param {Reply} reply
 * @param {string} request what was asked, for the message
 */
export function errorOf(reply, request) {
  let body;
  try {
    body = reply.body;
  } catch {
    // An unreadable error body still is an error of this status.
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
