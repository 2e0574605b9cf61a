/**
 * A consumer instance of the REST API v2, which is read by request. For records that are pushed see `Gateway.subscribe`.
 */
export declare class Consumer {
    #private;
    group: string;
    instance: string;
    /**
     * Use `Gateway.createConsumer`, or this for an instance that exists.
     * @param {import('./gateway.js').Gateway} gateway
     * @param {string} group
     * @param {string} instance
     * @param {string} [format] `binary`, `json`, `avro`, `jsonschema` or `protobuf`: that of the instance
     */
    constructor(gateway: import('./gateway.js').Gateway, group: string, instance: string, format?: string);
    /**
     * Subscribes to topics, replacing what it was subscribed to.
     * @param {string | string[] | RegExp} topics names, or a pattern for the whole name
     */
    subscribe(topics: string | string[] | RegExp): Promise<void>;
    /**
     * Reads what has come since the last read; [] if nothing came in time.
     * @param {object} [options]
     * @param {number} [options.waitMs] how long the gateway may collect; at most, and by default, what it is configured for
     * @param {number} [options.maxBytes] most bytes of keys and values
     * @param {AbortSignal} [options.signal]
     * @returns {Promise<import('./subscription.js').Record[]>}
     */
    read({ waitMs, maxBytes, signal }?: {
        waitMs?: number;
        maxBytes?: number;
        signal?: AbortSignal;
    }): Promise<import('./subscription.js').Record[]>;
    /**
     * Commits everything read so far, or up to the given records.
     * @param {{topic: string, partition: number, offset: number}[]} [offsets] the last record processed of each partition
     */
    commit(offsets?: {
        topic: string;
        partition: number;
        offset: number;
    }[]): Promise<void>;
    /** Deletes the instance, which leaves its group. */
    close(): Promise<void>;
}
