import { Reply } from './reply.js';
export type RequestHead = {
    id: string;
    method?: string;
    path?: string;
    type?: string;
    accept?: string;
    headers?: Record<string, string>;
};
export type Part = {
    /**
     * the envelope; its `id` is a string
     */
    head: Record<string, any>;
    /**
     * what came with it
     */
    content: string | Uint8Array;
    /**
     * the content as a value, if it was a member of the envelope
     */
    value?: unknown;
};
/**
 * @typedef {object} RequestHead the envelope of a request
 * @property {string} id
 * @property {string} [method]
 * @property {string} [path]
 * @property {string} [type]
 * @property {string} [accept]
 * @property {Record<string, string>} [headers]
 */
/**
 * @typedef {object} Part one message of the gateway, taken apart
 * @property {Record<string, any>} head the envelope; its `id` is a string
 * @property {string | Uint8Array} content what came with it
 * @property {unknown} [value] the content as a value, if it was a member of the envelope
 */
/**
 * The messages that carry a request: one, or several with `continue` if it is longer than the limit.
 * @param {RequestHead} head
 * @param {string} body content, '' for none
 * @param {number} limit longest message in bytes of UTF-8
 * @returns {string[]}
 */
export declare function encodeRequest(head: RequestHead, body: string, limit: number): string[];
/**
 * A message of the gateway taken apart; undefined if it has no envelope with an id (a bare payload, or garbage).
 * @param {string | Uint8Array} message
 * @returns {Part | undefined}
 */
export declare function decodeReply(message: string | Uint8Array): Part | undefined;
/** Joins the parts of one reply. */
export declare class Assembler {
    #private;
    /**
     * The whole reply if this is its last part, else undefined.
     * @param {Part} part
     * @returns {Reply | undefined}
     */
    add({ head, content, value }: Part): Reply | undefined;
}
/**
 * Bytes of a base64 text, as the keys and values of format `binary` are.
 * @param {string} text
 * @returns {Uint8Array}
 */
export declare function fromBase64(text: string): Uint8Array;
/**
 * Base64 of bytes, or of a text in UTF-8.
 * @param {Uint8Array | string} data
 * @returns {string}
 */
export declare function toBase64(data: Uint8Array | string): string;
