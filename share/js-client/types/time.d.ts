/**
 * How long to wait before an attempt: doubled each time, with jitter, so that the clients of a gateway that went down
 * do not all come back in the same moment.
 * @param {number} attempt 0 for the first
 * @param {number} minMs
 * @param {number} maxMs
 * @returns {number} milliseconds, between half and all of the doubled time
 */
export declare function backoff(attempt: number, minMs: number, maxMs: number): number;
/**
 * Resolves after some time, or at once when the signal aborts.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export declare function delay(ms: number, signal?: AbortSignal): Promise<void>;
