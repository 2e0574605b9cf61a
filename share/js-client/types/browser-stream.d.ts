import { RecordStream } from './record-stream.js';
/**
 * Records of topics as they come, as an async iterator. It connects when the loop begins.
 * @param {string} url address of the gateway, e.g. `/` for the origin of the page
 * @param {string | string[]} topics
 * @param {import('./record-stream.js').StreamOptions} [options]
 * @returns {RecordStream}
 */
export declare function stream(url: string, topics: string | string[], options?: import('./record-stream.js').StreamOptions): RecordStream;
