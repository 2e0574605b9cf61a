import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { BINARY, CLOSE, encodeFrame, FrameReader, PING, PONG, ProtocolError, TEXT } from './frames.js';

const KEY_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** How long the peer has to answer a close frame. */
const CLOSE_WAIT_MS = 2000;

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
export class NodeWebSocket {
  /** @type {null | (() => void)} */
  onopen = null;
  /** @type {null | ((event: {data: string | Buffer}) => void)} */
  onmessage = null;
  /** @type {null | ((event: CloseEvent) => void)} */
  onclose = null;
  /** Only for likeness: binary messages always are bytes. */
  binaryType = 'arraybuffer';
  /** @type {import('node:stream').Duplex | undefined} */
  #socket;
  #request;
  #reader = new FrameReader();
  #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #closeSent = false;
  #closeReceived = false;
  #closed = false;
  /** @type {CloseEvent} */
  #end = { code: 1006, reason: '' };

  /**
   * @param {string} address ws or wss
   * @param {Record<string, string>} [headers] of the upgrade request
   */
  constructor(address, headers = {}) {
    const url = new URL(address.replace(/^ws/, 'http'));
    const key = randomBytes(16).toString('base64');
    const accept = createHash('sha1').update(key + KEY_SUFFIX).digest('base64');
    this.#request = (url.protocol === 'https:' ? https : http).request(url, {
      agent: false,
      headers: {
        ...headers,
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Key': key,
        'Sec-WebSocket-Version': '13',
      },
    });
    this.#request.on('error', (error) => this.#finish(error));
    this.#request.on('response', (response) => {
      response.destroy();
      this.#end.status = response.statusCode;
      this.#finish(new Error(`the server answered ${response.statusCode} to the upgrade`));
    });
    this.#request.on('upgrade', (response, socket, rest) => {
      if (this.#closed) socket.destroy();
      else if (response.headers['sec-websocket-accept'] !== accept || response.headers['sec-websocket-extensions']) {
        socket.destroy();
        this.#finish(new Error('the answer to the upgrade is not that of a WebSocket server'));
      } else this.#begin(socket, rest);
    });
    this.#request.end();
  }

  /**
   * @param {import('node:stream').Duplex} socket
   * @param {Buffer} rest
   */
  #begin(socket, rest) {
    this.#socket = socket;
    /** @type {import('node:net').Socket} */ (socket).setNoDelay?.(true);
    socket.on('data', (chunk) => this.#read(chunk));
    socket.on('error', (error) => this.#finish(error));
    socket.on('close', () => this.#finish());
    socket.on('end', () => socket.destroy());
    this.onopen?.();
    if (rest.length > 0) this.#read(rest);
  }

  /** @param {string} text */
  send(text) {
    if (!this.#closeSent) this.#socket?.write(encodeFrame(TEXT, Buffer.from(text)));
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]
   */
  close(code = 1000, reason = '') {
    if (!this.#socket) {
      this.#request.destroy();
      return this.#finish(new Error('closed before it was open'));
    }
    if (this.#closeSent) return;
    this.#closeSent = true;
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.#socket.write(encodeFrame(CLOSE, payload));
    setTimeout(() => this.#socket?.destroy(), CLOSE_WAIT_MS).unref();
  }

  /** @param {Buffer} chunk */
  #read(chunk) {
    try {
      for (const { opcode, payload } of this.#reader.feed(chunk)) this.#take(opcode, payload);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error; // from a callback: none of the peer's doing
      const { code, message } = error;
      this.#end = { code, reason: message };
      this.close(code, message);
      this.#socket?.destroy();
    }
  }

  /**
   * @param {number} opcode
   * @param {Buffer} payload
   */
  #take(opcode, payload) {
    if (this.#closeReceived) return;
    if (opcode === PING) {
      if (!this.#closeSent) this.#socket?.write(encodeFrame(PONG, payload));
    } else if (opcode === CLOSE) {
      this.#closeReceived = true;
      const code = payload.length >= 2 ? payload.readUInt16BE() : 1005;
      this.#end = { code, reason: this.#text(payload.subarray(2)) };
      this.close(code === 1005 ? 1000 : code);
      this.#socket?.end();
    } else if (opcode === TEXT) {
      this.onmessage?.({ data: this.#text(payload) });
    } else if (opcode === BINARY) this.onmessage?.({ data: payload });
  }

  /** @param {Buffer} payload */
  #text(payload) {
    try {
      return this.#utf8.decode(payload);
    } catch {
      throw new ProtocolError(1007, 'text is not UTF-8');
    }
  }

  /** @param {Error} [error] */
  #finish(error) {
    if (this.#closed) return;
    this.#closed = true;
    if (error && this.#end.code === 1006) this.#end.reason = error.message || /** @type {any} */ (error).code;
    this.#socket?.destroy();
    this.onclose?.(this.#end);
  }
}
