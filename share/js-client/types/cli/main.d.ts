export type Terminal = {
    stdin: NodeJS.ReadableStream & {
        isTTY?: boolean;
    };
    stdout: NodeJS.WritableStream;
    stderr: NodeJS.WritableStream;
};
/**
 * @typedef {object} Terminal
 * @property {NodeJS.ReadableStream & {isTTY?: boolean}} stdin
 * @property {NodeJS.WritableStream} stdout
 * @property {NodeJS.WritableStream} stderr
 */
/**
 * The console program.
 * @param {string[]} args
 * @param {Terminal} terminal
 * @param {AbortSignal} interrupted
 * @returns {Promise<number>} exit status
 */
export declare function main(args: string[], terminal: Terminal, interrupted: AbortSignal): Promise<number>;
