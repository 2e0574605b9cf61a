import { Gateway } from './gateway.js';
/**
 * Connects to a gateway. It returns at once; requests wait for the connection.
 * @param {string} [url] address of the gateway, http or ws; by default the origin of the page
 * @param {import('./gateway.js').Options} [options]
 * @returns {Gateway}
 */
export declare function connect(url?: string, options?: import('./gateway.js').Options): Gateway;
