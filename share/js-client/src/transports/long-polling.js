import { GatewayError } from '../errors.js';
import { delay } from '../time.js';
import { address, expect, opening, Pusher, readHandshake } from './link.js';

/** Pause after an empty answer, so that a server which answers at once is not asked thousands of times a second. */
const EMPTY_PAUSE_MS = 200;
const HANDSHAKE = /^[0-9a-f-]{36}\|\d+\|/;

/**
 * One request after the other that the gateway answers as soon as it has messages, and a POST for each message to it.
 * @param {import('./link.js').Peer} peer
 * @returns {Promise<import('./link.js').Link>}
 */
export async function openLongPolling(peer) {
  const stop = new AbortController();
  const giveUp = () => stop.abort();
  /** @param {string} trackingId */
  const poll = async (trackingId) => {
    // Messages with their length: then one answer carries all that wait.
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
  /** @param {unknown} cause */
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
        // The gateway has forgotten this connection (a restart, a computer that slept), and all that was asked over it.
        if (HANDSHAKE.test(message)) throw new Error('the gateway does not know this connection any more');
        if (!ended) peer.receive(message);
      }
    }
  })().catch(broken);
  return { send: (text) => pusher.send(text), close: end, ...heartbeat };
}

/**
 * Messages of a body in which each has its length before it, in UTF-16 units: `28|{"code":200,"id":"1"}["a|b"]`.
 * A body without a length is one message.
 * @param {string} text
 * @returns {string[]}
 */
export function readTracked(text) {
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
