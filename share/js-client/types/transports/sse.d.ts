/**
 * An event stream for what the gateway sends, read with `fetch` (which Node has too, and which takes headers; an
 * EventSource does neither), and a POST for each message to it.
 * @param {import('./link.js').Peer} peer
 * @returns {Promise<import('./link.js').Link>}
 */
export declare function openEvents(peer: import('./link.js').Peer): Promise<import('./link.js').Link>;
/**
 * The data of each event of a stream (HTML standard §9.2; names, ids and comments are of no use here).
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string>}
 */
export declare function readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string>;
