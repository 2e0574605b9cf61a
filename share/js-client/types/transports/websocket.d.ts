/**
 * One WebSocket. No handshake is asked for: it is open when the socket is.
 * @param {import('./link.js').Peer} peer
 * @returns {Promise<import('./link.js').Link>}
 */
export declare function openWebSocket(peer: import('./link.js').Peer): Promise<import('./link.js').Link>;
