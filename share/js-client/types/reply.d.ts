import { GatewayError } from './errors.js';
/** A whole answer of the gateway: its parts are already joined. */
export declare class Reply {
    #private;
    /** @type {string} Id of the request that this answers. */
    id: string;
    /** @type {number} HTTP status. */
    code: number;
    /** @type {string | undefined} Media type of the content. */
    type: string | undefined;
    /** @type {Record<string, string>} Response headers; only those that the gateway passes on, names as it spells them. */
    headers: Record<string, string>;
    /** @type {unknown} Resume token, on the replies of a record stream. */
    cursor: unknown;
    /** @type {string | undefined} Event name, on the replies of a record stream. */
    event: string | undefined;
    /**
     * @param {Record<string, any>} head the envelope of the last part
     * @param {string | Uint8Array} content all content behind the envelopes
     * @param {unknown} [value] the content as a value, if it came inside the envelope
     */
    constructor(head: Record<string, any>, content: string | Uint8Array, value?: unknown);
    /** The content as text. */
    get text(): string;
    /** The content as bytes. */
    get bytes(): Uint8Array<ArrayBufferLike>;
    /**
     * The content as a value: parsed if it is JSON, text otherwise, undefined if empty. Members called `__proto__` are
     * plain data.
     * @returns {any}
     * @throws {GatewayError} `BAD_REPLY` if the type says JSON and the content is not
     */
    get body(): any;
}
/**
 * The error for an answer with a status of 400 or more.
 * @param {Reply} reply
 * @param {string} request what was asked, for the message
 */
export declare function errorOf(reply: Reply, request: string): GatewayError;
