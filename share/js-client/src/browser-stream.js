import { RecordStream } from './record-stream.js';
import { subprotocols } from './subprotocols.js';

/**
 * Records of topics as they come, as an async iterator. It connects when the loop begins.
 * @param {string} url address of the gateway, e.g. `/` for the origin of the page
 * @param {string | string[]} topics
 * @param {import('./record-stream.js').StreamOptions} [options]
 * @returns {RecordStream}
 */
export function stream(url, topics, options = {}) {
  return new RecordStream(url, topics, options, (address, headers) => new WebSocket(address, subprotocols(headers).protocols));
}
