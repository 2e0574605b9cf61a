import { GatewayError } from '../errors.js';
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
      else reject(new GatewayError('UNREACHABLE', `no WebSocket connection (${why})`, { status }));
    };
  });
}
