import { Gateway } from '../gateway.js';
export { Consumer } from '../consumer.js';
export { fromBase64, toBase64 } from '../envelope.js';
export { GatewayError } from '../errors.js';
export { Gateway } from '../gateway.js';
export { Reply } from '../reply.js';
export { Subscription } from '../subscription.js';
/**
 * Connects to a gateway. It returns at once; requests wait for the connection.
 * @param {string} url address of the gateway, http or ws, e.g. `http://localhost:8082/`; credentials in it are sent as
 *   Basic authentication
 * @param {import('../gateway.js').Options} [options]
 * @returns {Gateway}
 */
export declare function connect(url: string, options?: import('../gateway.js').Options): Gateway;
