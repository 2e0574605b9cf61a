/**
 * What went wrong without an answer of the gateway, or `REPLY` if it answered with an error.
 *
 * - `REPLY` the gateway answered with a status of 400 or more: see `status` and `error_code`
 * - `LOST` the connection broke after the request was sent: it may or may not have been executed
 * - `TIMEOUT` no answer in time; a request that was already sent may still be executed
 * - `QUEUE_FULL` too much is waiting to be sent; the request was not sent
 * - `CLOSED` the gateway object or the subscription is closed
 * - `UNREACHABLE` no connection could be opened
 * - `BAD_REPLY` the answer cannot be read
 * @typedef {'REPLY' | 'LOST' | 'TIMEOUT' | 'QUEUE_FULL' | 'CLOSED' | 'UNREACHABLE' | 'BAD_REPLY'} ErrorCode
 */

/**
 * What a page of another origin should know when nothing else can be said: browsers hide why they let nothing pass.
 * @param {string} url address of the gateway
 */
export function originHint(url) {
  const origin = globalThis.location?.origin;
  if (!origin || origin === 'null' || origin === new URL(url, origin).origin) return '';
  return `; the gateway has to allow this page's origin: access.control.allow.origin=${origin}`;
}

/** The one error class of this library. */
export class GatewayError extends Error {
  /**
   * @param {ErrorCode} code what kind of failure
   * @param {string} message what happened and what to do
   * @param {object} [details]
   * @param {number} [details.status] HTTP status, or 0 without an answer
   * @param {number} [details.error_code] `error_code` of the gateway's error body
   * @param {import('./reply.js').Reply} [details.reply] the whole answer
   * @param {number} [details.closeCode] close code of the WebSocket
   * @param {unknown} [details.cause] the error behind this one
   */
  constructor(code, message, { status = 0, error_code, reply, closeCode, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'GatewayError';
    /** What kind of failure. */
    this.code = code;
    /** HTTP status of the answer; 0 if there was none. */
    this.status = status;
    /** `error_code` of the gateway's error body, e.g. 40401. */
    this.error_code = error_code;
    /** The answer itself, for `code` `REPLY`. */
    this.reply = reply;
    /** Close code of the WebSocket, for `code` `LOST`. */
    this.closeCode = closeCode;
  }

  /** Whether the same request may succeed later without a change. */
  get retriable() {
    if (this.code === 'REPLY') return this.status >= 500 || this.status === 429 || this.status === 408;
    return this.code === 'LOST' || this.code === 'TIMEOUT' || this.code === 'UNREACHABLE';
  }
}
