export type StreamRecord = {
    topic: string;
    partition: number;
    offset: number;
    /**
     * milliseconds since the epoch
     */
    timestamp?: number;
    key: any;
    value: any;
    /**
     * values in base64
     */
    headers?: {
        name: string;
        value: string | null;
    }[];
    /**
     * why the key or value is null: the format cannot express it
     */
    error?: {
        error_code: number;
        message: string;
    };
};
export type Position = {
    topic: string;
    partition: number;
    offset: number;
};
export type StreamOptions = {
    /**
     * of keys and values: `json` (default), `string`, `binary`, `avro`, `jsonschema`, `protobuf`
     */
    format?: string;
    /**
     * of the keys, if that is another one
     */
    key_format?: string;
    /**
     * of the values, if that is another one
     */
    value_format?: string;
    /**
     * where to begin: after the newest record (default), at the oldest,
     * at an offset, or with -N at the last N records of each partition
     */
    offset?: 'latest' | 'earliest' | number;
    /**
     * begin at the first record of that time or later
     */
    since?: Date | number | string;
    /**
     * begin where another stream was: its `token`. Wins over `offset` and `since`
     */
    token?: string;
    /**
     * only these, of one topic
     */
    partitions?: number[];
    /**
     * finish at the end that the topics had when the stream was opened
     */
    until?: 'end';
    /**
     * finish after so many records
     */
    limit?: number;
    /**
     * share the topics with the other members of this consumer group; Kafka keeps the position
     */
    group?: string;
    /**
     * with a group: what counts as delivered. `sent` (default): what the gateway has
     * written; `client`: what was processed, which is when the next batch is asked for. It uses a WebSocket
     */
    ack?: 'sent' | 'client';
    /**
     * seconds between two signs of life, 1 to 120; 15 by default
     */
    heartbeat?: number;
    /**
     * of the requests, e.g. Authorization; a browser's WebSocket carries no others
     */
    headers?: Record<string, string>;
    /**
     * pause before connecting again, 500 by default; it doubles with each attempt
     */
    retryMinMs?: number;
    /**
     * and grows up to this, 30000 by default
     */
    retryMaxMs?: number;
    /**
     * how many attempts in a row may fail; no limit by default
     */
    retries?: number;
    /**
     * reads the JSON of what comes, JSON.parse by default; another one can keep
     * numbers beyond 2^53 as they are
     */
    parse?: (text: string) => any;
    /**
     * ends the stream
     */
    signal?: AbortSignal;
    /**
     * what is told beside the records
     */
    onEvent?: (name: 'ready' | 'end' | 'gap', data: any) => void;
    onState?: (state: 'connecting' | 'open' | 'waiting' | 'closed', error?: Error) => void;
};
export type OpenSocket = (url: string, headers: Record<string, string>) => WebSocket;
/**
 * @typedef {object} StreamRecord
 * @property {string} topic
 * @property {number} partition
 * @property {number} offset
 * @property {number} [timestamp] milliseconds since the epoch
 * @property {any} key
 * @property {any} value
 * @property {{name: string, value: string | null}[]} [headers] values in base64
 * @property {{error_code: number, message: string}} [error] why the key or value is null: the format cannot express it
 */
/** @typedef {{topic: string, partition: number, offset: number}} Position */
/**
 * @typedef {object} StreamOptions all are optional
 * @property {string} [format] of keys and values: `json` (default), `string`, `binary`, `avro`, `jsonschema`, `protobuf`
 * @property {string} [key_format] of the keys, if that is another one
 * @property {string} [value_format] of the values, if that is another one
 * @property {'latest' | 'earliest' | number} [offset] where to begin: after the newest record (default), at the oldest,
 *   at an offset, or with -N at the last N records of each partition
 * @property {Date | number | string} [since] begin at the first record of that time or later
 * @property {string} [token] begin where another stream was: its `token`. Wins over `offset` and `since`
 * @property {number[]} [partitions] only these, of one topic
 * @property {'end'} [until] finish at the end that the topics had when the stream was opened
 * @property {number} [limit] finish after so many records
 * @property {string} [group] share the topics with the other members of this consumer group; Kafka keeps the position
 * @property {'sent' | 'client'} [ack] with a group: what counts as delivered. `sent` (default): what the gateway has
 *   written; `client`: what was processed, which is when the next batch is asked for. It uses a WebSocket
 * @property {number} [heartbeat] seconds between two signs of life, 1 to 120; 15 by default
 * @property {Record<string, string>} [headers] of the requests, e.g. Authorization; a browser's WebSocket carries no others
 * @property {number} [retryMinMs] pause before connecting again, 500 by default; it doubles with each attempt
 * @property {number} [retryMaxMs] and grows up to this, 30000 by default
 * @property {number} [retries] how many attempts in a row may fail; no limit by default
 * @property {(text: string) => any} [parse] reads the JSON of what comes, JSON.parse by default; another one can keep
 *   numbers beyond 2^53 as they are
 * @property {AbortSignal} [signal] ends the stream
 * @property {(name: 'ready' | 'end' | 'gap', data: any) => void} [onEvent] what is told beside the records
 * @property {(state: 'connecting' | 'open' | 'waiting' | 'closed', error?: Error) => void} [onState]
 */
/** @typedef {(url: string, headers: Record<string, string>) => WebSocket} OpenSocket */
/**
 * Records of topics as they come, and on request the older ones before. Nothing is read before the loop asks for it.
 *
 * A connection that breaks is opened again where it was: no record is missing, none comes twice. (With a group: the
 * ones that do not count as delivered come again.)
 */
export declare class RecordStream {
    #private;
    /**
     * @param {string} url
     * @param {string | string[]} topics
     * @param {StreamOptions} options
     * @param {OpenSocket} openSocket
     */
    constructor(url: string, topics: string | string[], options: StreamOptions, openSocket: OpenSocket);
    /**
     * Where the stream is: behind the record, or batch, that was handed out last. Keep it to go on there another day.
     * Undefined until the beginning is known, and with a group.
     * @returns {string | undefined}
     */
    get token(): string | undefined;
    /** Ends the stream, and the loop over it. */
    close(): void;
    /**
     * Record by record. Leaving the loop ends the stream.
     * @returns {AsyncGenerator<StreamRecord, void, void>}
     */
    [Symbol.asyncIterator](): AsyncGenerator<StreamRecord, void, void>;
    /**
     * Batch by batch: what came together.
     * @returns {AsyncGenerator<StreamRecord[], void, void>}
     */
    batches(): AsyncGenerator<StreamRecord[], void, void>;
    /**
     * Calls back with each batch, and waits for what the callback promises before it goes on.
     * @param {(records: StreamRecord[]) => unknown} onRecords
     * @returns {Promise<void>} resolves when the stream is over
     */
    forEach(onRecords: (records: StreamRecord[]) => unknown): Promise<void>;
}
