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
 * @param {Record<string, string>} [headers] those with an `Origin`, which Node can send, stand for a page of that origin
 */
export function originHint(url, headers = {}) {
  const given = Object.entries(headers).find(([name]) => name.toLowerCase() === 'origin');
  const origin = given ? given[1] : globalThis.location?.origin;
  if (!origin || origin === 'null' || origin === new URL(url, origin).origin) return '';
  return `; the gateway has to allow ${given ? 'this' : "this page's"} origin: access.control.allow.origin=${origin}`;
}

/**
 * The same for a 403 outside of browsers: only who sends an `Origin` may be refused for it.
 * @param {string} url address of the gateway
 * @param {Record<string, string>} headers
 */
export function originGiven(url, headers) {
  return Object.keys(headers).some((name) => name.toLowerCase() === 'origin') ? originHint(url, headers) : '';
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

/** A WebSocket was refused while plain requests are answered: the origin is allowed. */
export class RefusedUpgrade extends GatewayError {}

/**
 * Why a WebSocket could not be opened, which browsers do not tell: a plain request is answered by the same rules.
 * @param {string} url what to ask, with GET
 * @param {Record<string, string>} headers
 * @param {AbortSignal} signal
 * @returns {Promise<Response>} the answer; its status may be a good one
 * @throws {GatewayError} LOST, there is none
 */
export async function askPlainly(url, headers, signal) {
  try {
    return await fetch(url, { headers, cache: 'no-store', signal });
  } catch (cause) {
    throw new GatewayError('LOST', `The gateway cannot be reached: ${/** @type {Error} */ (cause).message}${originHint(url)}`, { cause });
  }
}
