import { RecordStream } from '../record-stream.js';
import { NodeWebSocket } from './websocket.js';

export { GatewayError } from '../errors.js';
export { RecordStream } from '../record-stream.js';

/**
 * Records of topics as they come, as an async iterator. It connects when the loop begins.
 * @param {string} url address of the gateway, e.g. `http://localhost:8082/`
 * @param {string | string[]} topics
 * @param {import('../record-stream.js').StreamOptions} [options]
 * @returns {RecordStream}
 */
export function stream(url, topics, options = {}) {
  const openSocket = (/** @type {string} */ address, /** @type {Record<string, string>} */ headers) =>
    /** @type {WebSocket} */ (/** @type {unknown} */ (new NodeWebSocket(address, headers)));
  return new RecordStream(url, topics, options, openSocket);
}
