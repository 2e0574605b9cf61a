import { GatewayError } from '../errors.js';

/**
 * @typedef {object} Peer where and how to connect
 * @property {string} url http or https address of the gateway
 * @property {Record<string, string>} headers of the opening request, e.g. Authorization
 * @property {(url: string, headers: Record<string, string>) => WebSocket} openSocket
 * @property {(message: string | Uint8Array) => void} receive takes each message; '' is a mere sign of life
 * @property {(error: GatewayError) => void} lost called once when an open link breaks
 * @property {AbortSignal} signal ends the attempt to open
 */

/**
 * @typedef {object} Link an open way to the gateway
 * @property {(text: string) => void} send sends a message; order is kept
 * @property {() => void} close ends it without calling `lost`
 * @property {string} [keepAliveText] message that the gateway ignores, for a quiet connection
 * @property {number} [keepAliveMs] how often the gateway wants it; by default the client decides
 */

/**
 * The protocol version that is spoken, and who speaks it (servers look only before the hyphen). To a client of version 5
 * a gateway repeats the handshake when it does not know the connection; to older ones it would not tell.
 */
const FRAMEWORK = '5.0.7-kafka-gateway-client';

/**
 * The address with parameters added to its query; those that it has already stay as they are.
 * @param {string} base
 * @param {Record<string, string>} parameters
 */
export function address(base, parameters) {
  const url = new URL(base);
  url.hash = '';
  const query = Object.entries(parameters)
    .filter(([name]) => !url.searchParams.has(name))
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  url.search = [url.search.slice(1), ...query].filter(Boolean).join('&');
  return url.href;
}

/**
 * Parameters of an opening request.
 * @param {string} transport
 * @param {string} trackingId `0` for a new connection
 */
export function opening(transport, trackingId) {
  return {
    'X-Atmosphere-tracking-id': trackingId,
    'X-Atmosphere-Framework': FRAMEWORK,
    'X-Atmosphere-Transport': transport,
    // Replies in the newest form whatever the server's default is.
    'X-Atmosphere-SimpleRestProtocolDetached': 'true',
  };
}

/**
 * The first message on an HTTP transport.
 * @param {string} text
 */
export function readHandshake(text) {
  const [trackingId, interval, keepAliveText] = text.split('|');
  if (!/^[\w-]{8,}$/.test(trackingId)) {
    throw new GatewayError('UNREACHABLE', 'the server did not send the handshake of a Kafka gateway: check the address');
  }
  return { trackingId, keepAliveMs: Number(interval) || 0, keepAliveText };
}

/**
 * Fails unless the server answered 200 with a body of this type.
 * @param {Response} response
 * @param {string} type
 */
export function expect(response, type) {
  if (response.status === 200 && (response.headers.get('content-type') ?? '').startsWith(type)) return;
  throw new GatewayError('UNREACHABLE', `the server answered ${response.status} to the opening request`, {
    status: response.status,
  });
}

/**
 * The sending half of the HTTP transports: each message is a POST of its own. They go one after the other, because only
 * so they arrive in order.
 */
export class Pusher {
  /** @type {string[]} */
  #waiting = [];
  #busy = false;
  #ended = false;

  /**
   * @param {Peer} peer
   * @param {string} trackingId
   * @param {(cause: unknown) => void} failed
   */
  constructor(peer, trackingId, failed) {
    this.peer = peer;
    this.trackingId = trackingId;
    this.failed = failed;
  }

  /** @param {string} text */
  send(text) {
    this.#waiting.push(text);
    if (!this.#busy) void this.#run();
  }

  async #run() {
    this.#busy = true;
    try {
      for (let text; !this.#ended && (text = this.#waiting.shift()) !== undefined; ) {
        const response = await this.#post('polling', text);
        // An ordinary REST answer means that the gateway no longer knows this connection.
        if (response.status !== 200 || (await response.text()) !== '') throw new Error(`a push was answered ${response.status}`);
      }
    } catch (cause) {
      if (!this.#ended) this.failed(cause);
    }
    this.#busy = false;
  }

  /** Sends nothing more and tells the gateway, which ends the subscriptions of the connection. */
  leave() {
    this.#ended = true;
    this.#post('close', '').catch(() => {}); // it notices by itself, only later
  }

  /**
   * @param {string} transport
   * @param {string} body
   */
  #post(transport, body) {
    const url = address(this.peer.url, {
      'X-Atmosphere-tracking-id': this.trackingId,
      'X-Atmosphere-Framework': FRAMEWORK,
      'X-Atmosphere-Transport': transport,
    });
    // keepalive lets the farewell survive the page; browsers limit such bodies, so it is not used for the others.
    const headers = { ...this.peer.headers, 'Content-Type': 'text/plain;charset=UTF-8' };
    return fetch(url, { method: 'POST', headers, body, keepalive: transport === 'close' });
  }
}
