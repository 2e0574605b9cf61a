import { Consumer } from './consumer.js';
import { Assembler } from './envelope.js';
import { GatewayError } from './errors.js';
import { Subscription } from './subscription.js';
export type Options = {
    /**
     * in the order in which they are tried;
     * `['websocket', 'sse', 'long-polling']` by default
     */
    transports?: import('./connection.js').TransportName[];
    /**
     * of the opening request, e.g. `{Authorization: 'Basic …'}`. Browsers
     * cannot set headers on a WebSocket: there `Authorization` travels as a subprotocol, others in the query string, where
     * logs may show them
     */
    headers?: Record<string, string>;
    /**
     * for the answer to a request, the time in the queue included; 60000 by default, 0 for none
     */
    timeoutMs?: number;
    /**
     * for opening one transport; 10000 by default
     */
    openTimeoutMs?: number;
    /**
     * first pause before connecting again; 500 by default. It doubles each time, with jitter
     */
    retryMinMs?: number;
    /**
     * longest pause; 30000 by default
     */
    retryMaxMs?: number;
    /**
     * attempts after a failed one before it closes itself; no limit by default
     */
    retries?: number;
    /**
     * something is sent at least so often; 30000 by default, 0 for never
     */
    keepAliveMs?: number;
    /**
     * when nothing came for so long, the gateway is asked whether it is there, and the connection
     * given up without an answer; 75000 by default (the gateway's heartbeat comes each 60 s), 0 for never
     */
    silenceMs?: number;
    /**
     * longer requests are sent in parts; 65536 by default, the gateway's limit
     */
    maxMessageBytes?: number;
    /**
     * requests sent and not yet answered; the others wait. 128 by default
     */
    maxInFlight?: number;
    /**
     * characters of requests that may wait, connected or not; 16 Mi by default. Requests
     * beyond it fail with `QUEUE_FULL`
     */
    maxQueueChars?: number;
    /**
     * news of the connection
     */
    onState?: (state: import('./connection.js').State, error?: GatewayError) => void;
    /**
     * takes payloads that belong to no request: errors of unreadable messages
     */
    onBare?: (payload: string) => void;
    /**
     * sees each message
     */
    onTrace?: (direction: 'sending' | 'received', message: string | Uint8Array) => void;
    /**
     * closes the gateway object
     */
    signal?: AbortSignal;
    /**
     * another WebSocket implementation
     */
    openSocket?: (url: string, headers: Record<string, string>) => WebSocket;
};
export type RequestOptions = {
    /**
     * `GET` by default
     */
    method?: string;
    /**
     * absolute, percent-encoded, with its query; `/` by default
     */
    path?: string;
    /**
     * media type of the body
     */
    type?: string;
    /**
     * media type wanted
     */
    accept?: string;
    /**
     * further request headers
     */
    headers?: Record<string, string>;
    /**
     * text as it is, anything else as JSON
     */
    body?: unknown;
    /**
     * send it again if the connection breaks before the answer; without it such a request
     * fails with `LOST`
     */
    idempotent?: boolean;
    /**
     * as in the options of the gateway object
     */
    timeoutMs?: number;
    /**
     * gives up waiting; a request that was already sent may still be executed
     */
    signal?: AbortSignal;
};
export type ProducedRecord = {
    key?: any;
    value?: any;
    partition?: number;
    /**
     * milliseconds since 1970, or an ISO 8601 text
     */
    timestamp?: number | string;
    /**
     * values as base64 text, or bytes
     */
    headers?: {
        name: string;
        value?: string | Uint8Array | null;
    }[];
};
export type Waiting = {
    head: import('./envelope.js').RequestHead;
    body: string;
    size: number;
    idempotent: boolean;
    resolve: (reply: import('./reply.js').Reply) => void;
    reject: (error: unknown) => void;
};
export type Slot = {
    assembler: Assembler;
    receive: (reply: import('./reply.js').Reply) => void;
};
/**
 * The REST API of a Kafka gateway over one connection, with many requests at a time, and records pushed. Made by `connect`.
 * It connects, and connects again, by itself; requests wait until it can send them.
 */
export declare class Gateway {
    #private;
    /**
     * @param {string} url
     * @param {Options} options
     * @param {(url: string, headers: Record<string, string>) => WebSocket} openSocket
     */
    constructor(url: string, options: Options, openSocket: (url: string, headers: Record<string, string>) => WebSocket);
    /** State of the connection. */
    get state(): import("./connection.js").State;
    /** Name of the transport in use, or of the one used last; undefined before the first connection. */
    get transport(): "long-polling" | "sse" | "websocket" | undefined;
    /**
     * Resolves as soon as the connection is open. There is no need to wait for it: requests do so by themselves.
     * @param {AbortSignal} [signal] ends the wait
     * @returns {Promise<void>}
     * @throws {GatewayError} if the gateway object is closed
     */
    opened(signal?: AbortSignal): Promise<void>;
    /**
     * Sends a request and resolves with its answer.
     * @param {RequestOptions} options
     * @returns {Promise<import('./reply.js').Reply>}
     * @throws {GatewayError} for an answer with a status of 400 or more, or without an answer: see its `code`
     */
    request(options: RequestOptions): Promise<import('./reply.js').Reply>;
    /**
     * Names of the topics.
     * @returns {Promise<string[]>}
     */
    topics(): Promise<string[]>;
    /**
     * Produces records with the REST API v2. Calls that overlap reach Kafka in the order in which they were made.
     * @param {string} topic
     * @param {ProducedRecord[]} records in format `binary`, bytes are encoded and text has to be base64 already; so have
     *   values of headers in every format
     * @param {object} [options]
     * @param {string} [options.format] `json` (default), `binary`, `avro`, `jsonschema` or `protobuf`
     * @param {{[name: string]: unknown}} [options.schemas] `key_schema`, `value_schema`, `key_schema_id`, `value_schema_id`
     * @param {AbortSignal} [options.signal]
     * @param {number} [options.timeoutMs]
     * @returns {Promise<{offsets: {partition: number | null, offset: number | null, error_code: number | null,
     *   error: string | null}[], key_schema_id: number | null, value_schema_id: number | null}>} one element of `offsets` for
     *   each record; a record that failed has an `error_code` there
     */
    produce(topic: string, records: ProducedRecord[], { format, schemas, signal, timeoutMs }?: {
        format?: string;
        schemas?: {
            [name: string]: unknown;
        };
        signal?: AbortSignal;
        timeoutMs?: number;
    }): Promise<{
        offsets: {
            partition: number | null;
            offset: number | null;
            error_code: number | null;
            error: string | null;
        }[];
        key_schema_id: number | null;
        value_schema_id: number | null;
    }>;
    /**
     * Makes a consumer instance of the REST API v2.
     * @param {string} group
     * @param {object} [options]
     * @param {string} [options.name] of the instance; by default the gateway makes one up
     * @param {string} [options.format] `binary` (default), `json`, `avro`, `jsonschema` or `protobuf`
     * @param {{[name: string]: unknown}} [options.settings] e.g. `{"auto.offset.reset": "earliest"}`
     * @returns {Promise<Consumer>}
     */
    createConsumer(group: string, { name, format, settings }?: {
        name?: string;
        format?: string;
        settings?: {
            [name: string]: unknown;
        };
    }): Promise<Consumer>;
    /**
     * Subscribes to a topic; records are pushed as they come.
     * @param {import('./subscription.js').SubscriptionOptions} options
     * @returns {Promise<Subscription>} after the gateway's first answer
     * @throws {GatewayError} if the gateway refuses it
     */
    subscribe(options: import('./subscription.js').SubscriptionOptions): Promise<Subscription>;
    /**
     * Ends subscriptions and the connection. Requests without an answer fail with `CLOSED`.
     * @returns {Promise<void>} when the gateway has been told, or cannot be
     */
    close(): Promise<void>;
}
