import { randomFillSync } from 'node:crypto';

// The frames of WebSocket (RFC 6455 §5), client side, without I/O.

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;
const CONTINUATION = 0;

/** A message longer than this is refused: the gateway splits replies long before. */
export const MAX_MESSAGE_BYTES = 64 << 20;

/** Fault of the peer, with the close code that says so. */
export class ProtocolError extends Error {
  /**
   * @param {number} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * A whole message, or a control frame, as one masked frame.
 * @param {number} opcode
 * @param {Buffer} payload
 * @returns {Buffer}
 */
export function encodeFrame(opcode, payload) {
  const extra = payload.length < 126 ? 0 : payload.length < 65536 ? 2 : 8;
  const start = 2 + extra + 4;
  const frame = Buffer.allocUnsafe(start + payload.length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (extra === 0 ? payload.length : extra === 2 ? 126 : 127);
  if (extra === 2) frame.writeUInt16BE(payload.length, 2);
  if (extra === 8) frame.writeBigUInt64BE(BigInt(payload.length), 2);
  randomFillSync(frame, start - 4, 4);
  for (let at = 0; at < payload.length; at++) frame[start + at] = payload[at] ^ frame[start - 4 + (at & 3)];
  return frame;
}

/**
 * @typedef {object} Message
 * @property {number} opcode TEXT, BINARY, CLOSE, PING or PONG
 * @property {Buffer} payload whole, whatever number of frames it came in
 */

/** Turns received bytes into messages. */
export class FrameReader {
  /** @type {Buffer[]} */
  #chunks = [];
  #size = 0;
  /** Bytes that are needed before there is any use in looking again. */
  #needed = 2;
  /** @type {Buffer[]} Fragments of the message that is not complete. */
  #fragments = [];
  #fragmentsSize = 0;
  #opcode = CONTINUATION;

  /**
   * @param {Buffer} chunk
   * @returns {Generator<Message>}
   * @throws {ProtocolError}
   */
  *feed(chunk) {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    while (this.#size >= this.#needed) {
      // Joined only when a whole frame is there: frames of many chunks are copied once.
      const bytes = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
      this.#chunks = [bytes];
      const length = bytes[1] & 0x7f;
      const start = 2 + (length === 126 ? 2 : length === 127 ? 8 : 0);
      if (bytes.length < start) {
        this.#needed = start;
        return;
      }
      const size = length === 126 ? bytes.readUInt16BE(2) : length === 127 ? Number(bytes.readBigUInt64BE(2)) : length;
      this.#check(bytes[0], bytes[1], size);
      if (bytes.length < start + size) {
        this.#needed = start + size;
        return;
      }
      this.#chunks = [bytes.subarray(start + size)];
      this.#size -= start + size;
      this.#needed = 2;
      const message = this.#take(bytes[0], bytes.subarray(start, start + size));
      if (message) yield message;
    }
  }

  /**
   * @param {number} first
   * @param {number} second
   * @param {number} size
   */
  #check(first, second, size) {
    const opcode = first & 0x0f;
    if (first & 0x70) throw new ProtocolError(1002, 'reserved bits are set');
    if (second & 0x80) throw new ProtocolError(1002, 'a server must not mask');
    if (size + this.#fragmentsSize > MAX_MESSAGE_BYTES) throw new ProtocolError(1009, 'message too big');
    if (opcode >= CLOSE) {
      if (opcode > PONG || size > 125 || !(first & 0x80)) throw new ProtocolError(1002, 'bad control frame');
    } else if (opcode > BINARY || (opcode === CONTINUATION) !== this.#fragments.length > 0) {
      throw new ProtocolError(1002, `unexpected opcode ${opcode}`);
    }
  }

  /**
   * @param {number} first
   * @param {Buffer} payload
   * @returns {Message | undefined}
   */
  #take(first, payload) {
    const opcode = first & 0x0f;
    if (opcode >= CLOSE) return { opcode, payload };
    const last = (first & 0x80) !== 0;
    if (last && this.#fragments.length === 0) return { opcode, payload };
    if (opcode !== CONTINUATION) this.#opcode = opcode;
    this.#fragments.push(payload);
    this.#fragmentsSize += payload.length;
    if (!last) return undefined;
    this.#fragmentsSize = 0;
    return { opcode: this.#opcode, payload: Buffer.concat(this.#fragments.splice(0)) };
  }
}
