import { GatewayError } from '../errors.js';
import { address, expect, opening, Pusher, readHandshake } from './link.js';

/**
 * An event stream for what the gateway sends, read with `fetch` (which Node has too, and which takes headers; an
 * EventSource does neither), and a POST for each message to it.
 * @param {import('./link.js').Peer} peer
 * @returns {Promise<import('./link.js').Link>}
 */
export async function openEvents(peer) {
  const stop = new AbortController();
  const giveUp = () => stop.abort();
  peer.signal.addEventListener('abort', giveUp);
  const url = address(peer.url, { ...opening('sse', '0'), 'X-atmo-protocol': 'true' });
  const headers = { ...peer.headers, Accept: 'text/event-stream' };
  try {
    const response = await fetch(url, { headers, cache: 'no-store', signal: stop.signal });
    expect(response, 'text/event-stream');
    const events = readEvents(/** @type {ReadableStream<Uint8Array>} */ (response.body));
    const first = await events.next();
    const { trackingId, ...heartbeat } = readHandshake(first.value ?? '');
    let ended = false;
    const end = () => {
      ended = true;
      pusher.leave();
      stop.abort();
    };
    /** @param {unknown} [cause] */
    const broken = (cause) => {
      if (ended) return;
      end();
      peer.lost(new GatewayError('LOST', 'the event stream ended', { cause }));
    };
    const pusher = new Pusher(peer, trackingId, broken);
    void (async () => {
      for await (const message of events) {
        if (ended) return;
        peer.receive(message);
      }
    })().then(broken, broken);
    return { send: (text) => pusher.send(text), close: end, ...heartbeat };
  } catch (error) {
    stop.abort();
    throw error;
  } finally {
    peer.signal.removeEventListener('abort', giveUp);
  }
}

/**
 * The data of each event of a stream (HTML standard §9.2; names, ids and comments are of no use here).
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string>}
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  /** @type {string[]} */
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = /** @type {string} */ (lines.pop());
    for (const line of lines) {
      if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
      else if (line === '' && data.length > 0) {
        yield data.join('\n');
        data = [];
      }
    }
  }
}
