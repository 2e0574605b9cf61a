export { connect } from './browser.js';
export { Consumer } from './consumer.js';
export { fromBase64, toBase64 } from './envelope.js';
export { GatewayError } from './errors.js';
export { Gateway } from './gateway.js';
export { Reply } from './reply.js';
export { Subscription } from './subscription.js';
