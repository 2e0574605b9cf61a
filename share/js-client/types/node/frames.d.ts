export declare const TEXT = 1;
export declare const BINARY = 2;
export declare const CLOSE = 8;
export declare const PING = 9;
export declare const PONG = 10;
/** A message longer than this is refused: the gateway splits replies long before. */
export declare const MAX_MESSAGE_BYTES: number;
/** Fault of the peer, with the close code that says so. */
export declare class ProtocolError extends Error {
    code: number;
    /**
     * @param {number} code
     * @param {string} message
     */
    constructor(code: number, message: string);
}
/**
 * A whole message, or a control frame, as one masked frame.
 * @param {number} opcode
 * @param {Buffer} payload
 * @returns {Buffer}
 */
export declare function encodeFrame(opcode: number, payload: Buffer): Buffer;
export type Message = {
    /**
     * TEXT, BINARY, CLOSE, PING or PONG
     */
    opcode: number;
    /**
     * whole, whatever number of frames it came in
     */
    payload: Buffer;
};
/**
 * @typedef {object} Message
 * @property {number} opcode TEXT, BINARY, CLOSE, PING or PONG
 * @property {Buffer} payload whole, whatever number of frames it came in
 */
/** Turns received bytes into messages. */
export declare class FrameReader {
    #private;
    /**
     * @param {Buffer} chunk
     * @returns {Generator<Message>}
     * @throws {ProtocolError}
     */
    feed(chunk: Buffer): Generator<Message>;
}
