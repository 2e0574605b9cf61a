import { Reply } from './reply.js';

// The envelope: one JSON object, and content directly behind its closing brace. Nothing else marks the border, so
// reading means finding that brace. All delimiters are ASCII, hence bytes are searched as Latin-1 text.

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();
const fromLatin1 = new TextDecoder('latin1');

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
export function encodeRequest(head, body, limit) {
  const whole = JSON.stringify(head) + body;
  // A UTF-16 unit takes at most three bytes: most requests need no look at their bytes.
  if (whole.length * 3 <= limit || utf8.encode(whole).length <= limit) return [whole];
  const messages = [];
  const bytes = utf8.encode(body);
  let prefix = JSON.stringify({ ...head, continue: true });
  for (let at = 0; at < bytes.length; ) {
    const room = Math.max(limit - utf8.encode(prefix).length, 16);
    const end = cut(bytes, at, at + room);
    if (end === bytes.length) prefix = JSON.stringify({ id: head.id });
    messages.push(prefix + fromUtf8.decode(bytes.subarray(at, end)));
    prefix = JSON.stringify({ id: head.id, continue: true });
    at = end;
  }
  return messages;
}

/**
 * Where to end a piece: on a border of code points, and so that the next piece does not begin with white space, since
 * the gateway takes a piece of nothing but white space for an empty one.
 * @param {Uint8Array} bytes
 * @param {number} from
 * @param {number} to
 */
function cut(bytes, from, to) {
  if (to >= bytes.length) return bytes.length;
  let end = to;
  if (bytes[end] <= 0x20) do end--; while (end > from && bytes[end] <= 0x20);
  while (end > from && (bytes[end] & 0xc0) === 0x80) end--;
  return end > from ? end : to;
}

/**
 * A message of the gateway taken apart; undefined if it has no envelope with an id (a bare payload, or garbage).
 * @param {string | Uint8Array} message
 * @returns {Part | undefined}
 */
export function decodeReply(message) {
  const text = typeof message === 'string' ? message : fromLatin1.decode(message);
  const start = text.search(/\S/);
  const end = start < 0 ? -1 : objectEnd(text, start);
  if (end < 0) return undefined;
  let head;
  try {
    head = JSON.parse(typeof message === 'string' ? text.slice(start, end) : fromUtf8.decode(message.subarray(start, end)));
    if (typeof head.id !== 'string') return undefined;
    if (Object.hasOwn(head, 'data')) return embedded(head);
  } catch {
    return undefined;
  }
  let content = typeof message === 'string' ? message.slice(end) : message.subarray(end);
  if (head.detached === true) {
    const lineEnd = /^[ \t]*\r?\n/.exec(text.slice(end, end + 1000));
    if (lineEnd) content = content.slice(lineEnd[0].length);
  }
  return { head, content };
}

/**
 * @param {Record<string, any>} head
 * @returns {Part}
 */
function embedded(head) {
  if (head.encoding === 'base64') return { head, content: fromBase64(head.data) };
  if (typeof head.data !== 'string') return { head, content: JSON.stringify(head.data), value: head.data };
  // A split reply carries string pieces of JSON text, a whole one a JSON string.
  return head.continue === true ? { head, content: head.data } : { head, content: head.data, value: head.data };
}

/**
 * Index behind the brace that closes the object at `start`; -1 if there is none.
 * @param {string} text
 * @param {number} start
 */
function objectEnd(text, start) {
  if (text[start] !== '{') return -1;
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === 0x22) {
      for (at++; at < text.length && text.charCodeAt(at) !== 0x22; at++) if (text.charCodeAt(at) === 0x5c) at++;
    } else if (char === 0x7b) depth++;
    else if (char === 0x7d && --depth === 0) return at + 1;
  }
  return -1;
}

/** Joins the parts of one reply. */
export class Assembler {
  /** @type {(string | Uint8Array)[]} */
  #contents = [];

  /**
   * The whole reply if this is its last part, else undefined.
   * @param {Part} part
   * @returns {Reply | undefined}
   */
  add({ head, content, value }) {
    // `"true"` counts as true in all generations of the envelope.
    const more = head.continue === true || head.continue === 'true';
    if (!more && this.#contents.length === 0) return new Reply(head, content, value);
    this.#contents.push(content);
    if (more) return undefined;
    const contents = this.#contents.splice(0);
    if (contents.every((piece) => typeof piece === 'string')) return new Reply(head, contents.join(''));
    return new Reply(head, joinBytes(contents.map((piece) => (typeof piece === 'string' ? utf8.encode(piece) : piece))));
  }
}

/** @param {Uint8Array[]} pieces */
function joinBytes(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/**
 * Bytes of a base64 text, as the keys and values of format `binary` are.
 * @param {string} text
 * @returns {Uint8Array}
 */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

/**
 * Base64 of bytes, or of a text in UTF-8.
 * @param {Uint8Array | string} data
 * @returns {string}
 */
export function toBase64(data) {
  let latin1 = '';
  for (const byte of typeof data === 'string' ? utf8.encode(data) : data) latin1 += String.fromCharCode(byte);
  return btoa(latin1);
}
