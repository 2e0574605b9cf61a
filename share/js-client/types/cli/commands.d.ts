export type Session = {
    gateway: import('../gateway.js').Gateway;
    print: (line: string) => void;
    /**
     * a value as text
     */
    show: (value: unknown) => string;
    /**
     * subscriptions by instance
     */
    entries: Map<string, Entry>;
    /**
     * for `pub avro`: the schema, or its id
     */
    valueSchema: string | undefined;
    /**
     * of the gateway
     */
    url: string;
    headers: Record<string, string> | undefined;
    /**
     * aborted when the program ends
     */
    signal: AbortSignal;
};
export type Entry = {
    id: string;
    mode: string;
    group: string;
    topic: string;
    subscription: import('../subscription.js').Subscription;
};
/**
 * @typedef {object} Session what commands work on
 * @property {import('../gateway.js').Gateway} gateway
 * @property {(line: string) => void} print
 * @property {(value: unknown) => string} show a value as text
 * @property {Map<string, Entry>} entries subscriptions by instance
 * @property {string | undefined} valueSchema for `pub avro`: the schema, or its id
 * @property {string} url of the gateway
 * @property {Record<string, string> | undefined} headers
 * @property {AbortSignal} signal aborted when the program ends
 */
/** @typedef {{id: string, mode: string, group: string, topic: string, subscription: import('../subscription.js').Subscription}} Entry */
/** A fault of the user; its message is shown. */
export declare class UsageError extends Error {
}
export type Command = {
    usage: string;
    help: string;
    /**
     * least number of arguments
     */
    needs: number;
    run: (session: Session, ...args: string[]) => Promise<void> | void;
};
/**
 * @typedef {object} Command
 * @property {string} usage
 * @property {string} help
 * @property {number} needs least number of arguments
 * @property {(session: Session, ...args: string[]) => Promise<void> | void} run
 */
/** @type {Record<string, Command>} Each is recognised by any word that begins with its name: `create` is `cre`. */
export declare const COMMANDS: Record<string, Command>;
/**
 * The command that a word stands for.
 * @param {string} word
 * @returns {[string, Command]}
 */
export declare function findCommand(word: string): [string, Command];
/**
 * Runs a command.
 * @param {Session} session
 * @param {string[]} words
 * @returns {Promise<boolean>} whether it worked; if not, the reason is printed
 */
export declare function runCommand(session: Session, words: string[]): Promise<boolean>;
