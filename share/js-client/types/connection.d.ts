import { GatewayError } from './errors.js';
import { openLongPolling } from './transports/long-polling.js';
import { openEvents } from './transports/sse.js';
import { openWebSocket } from './transports/websocket.js';
declare const OPENERS: {
    websocket: typeof openWebSocket;
    sse: typeof openEvents;
    'long-polling': typeof openLongPolling;
};
export type TransportName = keyof typeof OPENERS;
export type State = 'connecting' | 'open' | 'waiting' | 'closed';
/**
 * Keeps one link to the gateway open: tries the transports in order, watches the link, opens the next one when it breaks.
 * It knows nothing of what the messages mean.
 */
export declare class Connection {
    #private;
    /** @type {State} */
    state: State;
    /** @type {TransportName | undefined} The transport in use, or the one used last. */
    transport: TransportName | undefined;
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
    constructor(settings: {
        url: string;
        headers: Record<string, string>;
        openSocket: (url: string, headers: Record<string, string>) => WebSocket;
        transports: TransportName[];
        openTimeoutMs: number;
        retryMinMs: number;
        retryMaxMs: number;
        retries: number;
        silenceMs: number;
        keepAliveMs: number;
        onMessage: (message: string | Uint8Array) => void;
        onState: (state: State, error?: GatewayError) => void;
    });
    /**
     * Sends a message over the open link.
     * @param {string} text
     */
    send(text: string): void;
    /**
     * Ends the link and all attempts.
     * @param {GatewayError} [error] why, if it is not on purpose
     */
    close(error?: GatewayError): void;
}
export {};
