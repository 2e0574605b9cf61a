/**
 * How long to wait before an attempt: doubled each time, with jitter, so that the clients of a gateway that went down
 * do not all come back in the same moment.
 * @param {number} attempt 0 for the first
 * @param {number} minMs
 * @param {number} maxMs
 * @returns {number} milliseconds, between half and all of the doubled time
 */
export function backoff(attempt, minMs, maxMs) {
  return Math.min(maxMs, minMs * 2 ** Math.min(attempt, 30)) * (0.5 + Math.random() / 2);
}

/**
 * Resolves after some time, or at once when the signal aborts.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function delay(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) done();
    else signal?.addEventListener('abort', done);
  });
}
