import { RecordStream } from '../record-stream.js';
export { GatewayError } from '../errors.js';
export { RecordStream } from '../record-stream.js';
/**
 * Records of topics as they come, as an async iterator. It connects when the loop begins.
 * @param {string} url address of the gateway, e.g. `http://localhost:8082/`
 * @param {string | string[]} topics
 * @param {import('../record-stream.js').StreamOptions} [options]
 * @returns {RecordStream}
 */
export declare function stream(url: string, topics: string | string[], options?: import('../record-stream.js').StreamOptions): RecordStream;
