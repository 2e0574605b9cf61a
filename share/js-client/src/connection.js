import { GatewayError, originGiven, originHint, RefusedUpgrade } from './errors.js';
import { backoff, delay } from './time.js';
import { openLongPolling } from './transports/long-polling.js';
import { openEvents } from './transports/sse.js';
import { openWebSocket } from './transports/websocket.js';

const OPENERS = { websocket: openWebSocket, sse: openEvents, 'long-polling': openLongPolling };

/** @typedef {keyof typeof OPENERS} TransportName */

/**
 * `connecting`: trying to open; `open`; `waiting`: pause before the next attempt; `closed`: for good.
 * @typedef {'connecting' | 'open' | 'waiting' | 'closed'} State
 */

/** A connection that lasted this long was a good one: the next outage starts with the shortest pause again. */
const STABLE_MS = 5000;
/** So many attempts of an outage stay with the transport that worked last: a restarting gateway is no reason to fall back. */
const LOYAL_ATTEMPTS = 3;
/** How long a silent gateway has for the answer to the question whether it is there. */
const PROBE_ANSWER_MS = 15000;
const PROBE = '{"id":"probe","method":"GET","path":"/"}';

/**
 * Keeps one link to the gateway open: tries the transports in order, watches the link, opens the next one when it breaks.
 * It knows nothing of what the messages mean.
 */
export class Connection {
  /** @type {State} */
  state = 'connecting';
  /** @type {import('./transports/link.js').Link | undefined} */
  #link;
  /** @type {TransportName | undefined} The transport in use, or the one used last. */
  transport;
  #closing = new AbortController();
  /** Ends the stay on the present link. @type {(error: GatewayError) => void} */
  #lost = () => {};
  #settings;
  #heard = 0;
  #sent = 0;
  #probed = 0;

  /**
   * @param {object} settings
   * @param {string} settings.url
   * @param {Record<string, string>} settings.headers
   * @param {(url: string, headers: Record<string, string>) => WebSocket} settings.openSocket
   * @param {TransportName[]} settings.transports
   * @param {number} settings.openTimeoutMs
   * @param {number} settings.retryMinMs
   * @param {number} settings.retryMaxMs
   * @param {number} settings.retries
   * @param {number} settings.silenceMs
   * @param {number} settings.keepAliveMs
   * @param {(message: string | Uint8Array) => void} settings.onMessage
   * @param {(state: State, error?: GatewayError) => void} settings.onState `open`: messages can be sent; leaving it: they are lost
   */
  constructor(settings) {
    for (const name of settings.transports) {
      if (!Object.hasOwn(OPENERS, name)) {
        throw new TypeError(`unknown transport "${name}": use ${Object.keys(OPENERS).join(', ')}`);
      }
    }
    this.#settings = settings;
    void this.#run();
  }

  /**
   * Sends a message over the open link.
   * @param {string} text
   */
  send(text) {
    this.#sent = performance.now();
    this.#link?.send(text);
  }

  /**
   * Ends the link and all attempts.
   * @param {GatewayError} [error] why, if it is not on purpose
   */
  close(error) {
    if (this.state === 'closed') return;
    this.#closing.abort();
    this.#link?.close();
    this.#lost(error ?? new GatewayError('CLOSED', 'closed'));
    this.#enter('closed', error);
  }

  /**
   * @param {State} state
   * @param {GatewayError} [error]
   */
  #enter(state, error) {
    this.state = state;
    this.#settings.onState(state, error);
  }

  async #run() {
    const { retries, retryMinMs, retryMaxMs } = this.#settings;
    for (let attempt = 0; this.state !== 'closed'; attempt++) {
      let error;
      try {
        const opened = performance.now();
        error = await this.#stay(attempt);
        if (performance.now() - opened >= STABLE_MS) attempt = 0;
      } catch (cause) {
        error = /** @type {GatewayError} */ (cause);
      }
      if (this.#closing.signal.aborted) return;
      // Wrong credentials do not get better.
      if (error.status === 401 || error.status === 403 || attempt >= retries) return this.close(error);
      this.#enter('waiting', error);
      await delay(backoff(attempt, retryMinMs, retryMaxMs), this.#closing.signal);
      if (this.#closing.signal.aborted) return;
      this.#enter('connecting');
    }
  }

  /**
   * Opens a link and resolves with the reason when it breaks; rejects if none can be opened.
   * @param {number} attempt
   * @returns {Promise<GatewayError>}
   */
  async #stay(attempt) {
    const loyal = this.transport && attempt < LOYAL_ATTEMPTS;
    const names = loyal ? [/** @type {TransportName} */ (this.transport)] : this.#settings.transports;
    const broken = new Promise((resolve) => (this.#lost = resolve));
    const lost = this.#lost;
    const link = await this.#openFirst(names, lost);
    if (this.#closing.signal.aborted) link.close();
    this.#closing.signal.throwIfAborted();
    this.#link = link;
    const watch = this.#watch(link, lost);
    try {
      this.#enter('open');
      return await broken;
    } finally {
      clearInterval(watch);
      this.#link = undefined;
    }
  }

  /**
   * @param {TransportName[]} names
   * @param {(error: GatewayError) => void} lost
   */
  async #openFirst(names, lost) {
    const failures = [];
    let status = 0;
    let answered = false;
    for (const name of names) {
      try {
        const link = await this.#openOne(name, lost);
        this.transport = name;
        return link;
      } catch (error) {
        if (this.#closing.signal.aborted) throw error;
        failures.push(`${name}: ${describe(error)}`);
        status = error instanceof GatewayError && error.status ? error.status : status;
        answered ||= error instanceof RefusedUpgrade;
        if (status === 401 || status === 403) break;
      }
    }
    const { url, headers } = this.#settings;
    const hint = status === 0 && !answered ? originHint(url) : status === 403 ? originGiven(url, headers) : '';
    throw new GatewayError('UNREACHABLE', `cannot connect to ${url} (${failures.join('; ')}${hint})`, { status });
  }

  /**
   * @param {TransportName} name
   * @param {(error: GatewayError) => void} lost
   */
  async #openOne(name, lost) {
    const { url, headers, openSocket, openTimeoutMs, onMessage } = this.#settings;
    const limit = new AbortController();
    const stop = () => limit.abort();
    const timer = setTimeout(stop, openTimeoutMs);
    this.#closing.signal.addEventListener('abort', stop);
    let gone = false;
    try {
      return await OPENERS[name]({
        url,
        headers,
        openSocket,
        signal: limit.signal,
        receive: (message) => {
          // A link that was given up may still have something to say; its requests are lost already.
          if (gone || this.state === 'closed') return;
          this.#heard = performance.now();
          this.#probed = 0;
          if (message.length > 0) onMessage(message);
        },
        lost: (error) => {
          gone = true;
          lost(error);
        },
      });
    } catch (error) {
      if (limit.signal.aborted) throw new Error(`no answer within ${openTimeoutMs} ms`);
      throw error;
    } finally {
      clearTimeout(timer);
      this.#closing.signal.removeEventListener('abort', stop);
    }
  }

  /**
   * Sends something now and then, and drops a link over which nothing comes any more: TCP alone may take a quarter of an
   * hour to notice a peer that is gone.
   * @param {import('./transports/link.js').Link} link
   * @param {(error: GatewayError) => void} lost
   */
  #watch(link, lost) {
    const { silenceMs } = this.#settings;
    // HTTP transports need no keep-alive of ours unless the gateway asks for one.
    const keepAliveMs = link.keepAliveMs ?? this.#settings.keepAliveMs;
    this.#heard = this.#sent = performance.now();
    this.#probed = 0;
    return setInterval(() => {
      const now = performance.now();
      if (keepAliveMs > 0 && now - this.#sent >= keepAliveMs) this.send(link.keepAliveText ?? '');
      if (silenceMs <= 0 || now - this.#heard < silenceMs) return;
      if (this.#probed === 0) {
        this.#probed = now;
        this.send(PROBE);
      } else if (now - this.#probed >= Math.min(PROBE_ANSWER_MS, silenceMs)) {
        link.close();
        lost(new GatewayError('LOST', `nothing came from the gateway for ${Math.round(now - this.#heard)} ms`));
      }
    }, Math.max(10, Math.min(5000, silenceMs / 5 || 5000, keepAliveMs / 5 || 5000)));
  }
}

/** What went wrong, with what is behind it: `fetch` hides the reason in the cause. @param {any} error */
function describe(error) {
  const cause = error.cause?.code ?? error.cause?.message;
  return cause ? `${error.message} (${cause})` : error.message;
}
