/**
 * One request after the other that the gateway answers as soon as it has messages, and a POST for each message to it.
 * @param {import('./link.js').Peer} peer
 * @returns {Promise<import('./link.js').Link>}
 */
export declare function openLongPolling(peer: import('./link.js').Peer): Promise<import('./link.js').Link>;
/**
 * Messages of a body in which each has its length before it, in UTF-16 units: `28|{"code":200,"id":"1"}["a|b"]`.
 * A body without a length is one message.
 * @param {string} text
 * @returns {string[]}
 */
export declare function readTracked(text: string): string[];
