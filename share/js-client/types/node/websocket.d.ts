export type CloseEvent = {
    code: number;
    reason: string;
    /**
     * HTTP status of a refused upgrade
     */
    status?: number;
};
/**
 * @typedef {object} CloseEvent
 * @property {number} code
 * @property {string} reason
 * @property {number} [status] HTTP status of a refused upgrade
 */
/**
 * The part of the WebSocket interface that this library uses. Node has none before version 22, and that one takes no
 * headers, hence no credentials; and a package from elsewhere would be this client's only dependency.
 * Not supported: extensions (so no compression), subprotocols, redirects.
 */
export declare class NodeWebSocket {
    #private;
    /** @type {null | (() => void)} */
    onopen: null | (() => void);
    /** @type {null | ((event: {data: string | Buffer}) => void)} */
    onmessage: null | ((event: {
        data: string | Buffer;
    }) => void);
    /** @type {null | ((event: CloseEvent) => void)} */
    onclose: null | ((event: CloseEvent) => void);
    /** Only for likeness: binary messages always are bytes. */
    binaryType: string;
    /**
     * @param {string} address ws or wss
     * @param {Record<string, string>} [headers] of the upgrade request
     */
    constructor(address: string, headers?: Record<string, string>);
    /** @param {string} text */
    send(text: string): void;
    /**
     * @param {number} [code]
     * @param {string} [reason]
     */
    close(code?: number, reason?: string): void;
}
