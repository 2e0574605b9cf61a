import { GatewayError } from '../errors.js';
export type Peer = {
    /**
     * http or https address of the gateway
     */
    url: string;
    /**
     * of the opening request, e.g. Authorization
     */
    headers: Record<string, string>;
    openSocket: (url: string, headers: Record<string, string>) => WebSocket;
    /**
     * takes each message; '' is a mere sign of life
     */
    receive: (message: string | Uint8Array) => void;
    /**
     * called once when an open link breaks
     */
    lost: (error: GatewayError) => void;
    /**
     * ends the attempt to open
     */
    signal: AbortSignal;
};
export type Link = {
    /**
     * sends a message; order is kept
     */
    send: (text: string) => void;
    /**
     * ends it without calling `lost`
     */
    close: () => void;
    /**
     * message that the gateway ignores, for a quiet connection
     */
    keepAliveText?: string;
    /**
     * how often the gateway wants it; by default the client decides
     */
    keepAliveMs?: number;
};
/**
 * The address with parameters added to its query; those that it has already stay as they are.
 * @param {string} base
 * @param {Record<string, string>} parameters
 */
export declare function address(base: string, parameters: Record<string, string>): string;
/**
 * Parameters of an opening request.
 * @param {string} transport
 * @param {string} trackingId `0` for a new connection
 */
export declare function opening(transport: string, trackingId: string): {
    'X-Atmosphere-tracking-id': string;
    'X-Atmosphere-Framework': string;
    'X-Atmosphere-Transport': string;
    'X-Atmosphere-SimpleRestProtocolDetached': string;
};
/**
 * The first message on an HTTP transport.
 * @param {string} text
 */
export declare function readHandshake(text: string): {
    trackingId: string;
    keepAliveMs: number;
    keepAliveText: string;
};
/**
 * Fails unless the server answered 200 with a body of this type.
 * @param {Response} response
 * @param {string} type
 */
export declare function expect(response: Response, type: string): void;
/**
 * The sending half of the HTTP transports: each message is a POST of its own. They go one after the other, because only
 * so they arrive in order.
 */
export declare class Pusher {
    #private;
    peer: Peer;
    trackingId: string;
    failed: (cause: unknown) => void;
    /**
     * @param {Peer} peer
     * @param {string} trackingId
     * @param {(cause: unknown) => void} failed
     */
    constructor(peer: Peer, trackingId: string, failed: (cause: unknown) => void);
    /** @param {string} text */
    send(text: string): void;
    /** Sends nothing more and tells the gateway, which ends the subscriptions of the connection. */
    leave(): void;
}
