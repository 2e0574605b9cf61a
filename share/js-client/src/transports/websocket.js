import { askPlainly, GatewayError, RefusedUpgrade } from '../errors.js';
import { address, opening } from './link.js';

/**
 * One WebSocket. No handshake is asked for: it is open when the socket is.
 * @param {import('./link.js').Peer} peer
 * @returns {Promise<import('./link.js').Link>}
 */
export function openWebSocket(peer) {
  return new Promise((resolve, reject) => {
    const url = address(peer.url.replace(/^http/, 'ws'), opening('websocket', '0'));
    const socket = peer.openSocket(url, peer.headers);
    socket.binaryType = 'arraybuffer';
    let open = false;
    peer.signal.addEventListener('abort', () => open || socket.close(), { once: true });
    socket.onopen = () => {
      open = true;
      resolve({
        send: (text) => socket.send(text),
        close() {
          socket.onmessage = socket.onclose = null;
          socket.close(1000);
        },
        keepAliveText: '',
      });
    };
    socket.onmessage = ({ data }) => peer.receive(typeof data === 'string' ? data : new Uint8Array(data));
    socket.onclose = (event) => {
      const why = `${event.code}${event.reason && ' ' + event.reason}`;
      // Browsers do not tell the status of a refused upgrade; Node's socket does.
      const status = /** @type {any} */ (event).status;
      if (open) peer.lost(new GatewayError('LOST', `the connection was closed (${why})`, { closeCode: event.code }));
      else if (status || !globalThis.location || peer.signal.aborted) {
        reject(new GatewayError('UNREACHABLE', `no WebSocket connection (${why})`, { status }));
      } else void whyNot(peer, `no WebSocket connection (${why})`).then(reject);
    };
  });
}

/**
 * @param {import('./link.js').Peer} peer
 * @param {string} text
 * @returns {Promise<GatewayError>} with the status of credentials that were refused
 */
async function whyNot(peer, text) {
  try {
    const response = await askPlainly(peer.url, peer.headers, peer.signal);
    void response.body?.cancel();
    const { status } = response;
    if (status !== 401 && status !== 403) return new RefusedUpgrade('UNREACHABLE', text);
    return new GatewayError('UNREACHABLE', `${text}: the gateway answers ${status}; look at the credentials`, { status });
  } catch {
    return new GatewayError('UNREACHABLE', text); // the hint about the origin comes with it
  }
}
