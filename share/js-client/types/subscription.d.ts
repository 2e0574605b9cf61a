import { GatewayError } from './errors.js';
export type Record = {
    /**
     * base64 text in format `binary`, else the value itself; null if there is none
     */
    key: any;
    /**
     * likewise; null for a tombstone
     */
    value: any;
    partition: number;
    offset: number;
    topic?: string;
};
export type SubscriptionOptions = {
    /**
     * consumer group
     */
    group: string;
    /**
     * consumer instance; made by `create`, or beforehand
     */
    instance: string;
    /**
     * the one topic of an instance of the REST API v1
     */
    topic?: string;
    /**
     * any number of topics, instead of `topic`: the instance is one of the REST API v2. Without
     * `create` it is taken to be subscribed already
     */
    topics?: string[];
    /**
     * format of the instance: `binary` (default), `json`, `avro`, and with v2 `jsonschema`, `protobuf`
     */
    format?: string;
    /**
     * settings of the instance, `{}` for none, e.g.
     * `{"auto.offset.reset": "smallest"}` (v2: `earliest`). With it the subscription makes the instance, makes it again when the gateway has
     * lost it, and deletes it at the end. A new instance goes on behind the last record that has come, or behind what the group
     * has committed if that is more; v1 cannot seek, there it is the committed position. `session.timeout.ms` is 6000 unless it is given:
     * so long the partitions stay with an instance whose gateway has died
     */
    create?: {
        [name: string]: unknown;
    };
    /**
     * most bytes of keys and values in one array
     */
    maxBytes?: number;
    /**
     * characters of records that may wait for the reader before the gateway is asked to
     * pause; 8 Mi by default. Records on their way come on top
     */
    bufferChars?: number;
    /**
     * takes each array, one after the
     * other: a promise that it returns is awaited. Without it, iterate
     */
    onRecords?: (records: Record[], subscription: Subscription) => unknown;
    /**
     * takes errors of a running subscription: those that it survives, and,
     * with `onRecords`, the one that ends it. Without it the latter is thrown where nothing catches it
     */
    onError?: (error: GatewayError) => void;
    /**
     * closes the subscription
     */
    signal?: AbortSignal;
    /**
     * for the first answer; 60000 by default
     */
    timeoutMs?: number;
};
export type Port = {
    /**
     * for its replies
     */
    id: string;
    isOpen: () => boolean;
    request: (options: import('./gateway.js').RequestOptions) => Promise<import('./reply.js').Reply>;
    /**
     *   sends a request whose replies all go to `receive`
     */
    call: (head: import('./envelope.js').RequestHead, receive: (reply: import('./reply.js').Reply) => void) => void;
    /**
     * no more replies, no more news of the connection
     */
    forget: (subscription: Subscription) => void;
};
/**
 * Records pushed by the gateway. It outlives connections: after each reconnect it subscribes again, and the gateway goes
 * on with what it had not delivered. Iterate over it (once), or give `onRecords`:
 *
 *     for await (const record of subscription) …          // leaving the loop closes the subscription
 *     for await (const records of subscription.batches()) …
 *
 * A reader that is too slow makes it unsubscribe until the reader has caught up; the gateway keeps the rest.
 */
export declare class Subscription {
    #private;
    /** Records that have come so far. */
    received: number;
    /**
     * @param {Port} port
     * @param {SubscriptionOptions} options
     */
    constructor(port: Port, options: SubscriptionOptions);
    /** Id of its request in the envelope. */
    get id(): string;
    /** Whether it has ended: closed, or failed. */
    get closed(): boolean;
    /**
     * The arrays of records as they come. Ending the iteration closes the subscription.
     * @returns {AsyncGenerator<Record[], void, void>}
     * @throws {GatewayError} when the subscription fails, after the records that came before
     */
    batches(): AsyncGenerator<Record[], void, void>;
    /** The records one by one; otherwise like `batches()`. */
    [Symbol.asyncIterator](): AsyncGenerator<Record, void, unknown>;
    /**
     * Commits what the instance has delivered so far.
     * @returns {Promise<{topic: string, partition: number, consumed: number, committed: number}[]>}
     */
    commit(): Promise<{
        topic: string;
        partition: number;
        consumed: number;
        committed: number;
    }[]>;
    /**
     * Ends it: no record is delivered after this call. The gateway keeps what it has not sent for the next subscriber.
     * @returns {Promise<void>} when the gateway has ended it too, or cannot be told
     */
    close(): Promise<void>;
}
export type Position = {
    topic: string;
    partition: number;
    offset: number;
};
