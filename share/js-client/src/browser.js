import { Gateway } from './gateway.js';
import { subprotocols } from './subprotocols.js';
import { address } from './transports/link.js';

/**
 * Connects to a gateway. It returns at once; requests wait for the connection.
 * @param {string} [url] address of the gateway, http or ws; by default the origin of the page
 * @param {import('./gateway.js').Options} [options]
 * @returns {Gateway}
 */
export function connect(url = '/', options = {}) {
  return new Gateway(url, options, (socketUrl, headers) => {
    const { protocols, others } = subprotocols(headers);
    return new WebSocket(address(socketUrl, others), protocols);
  });
}
