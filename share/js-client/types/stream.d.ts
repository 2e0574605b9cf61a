export { stream } from './browser-stream.js';
export { GatewayError } from './errors.js';
export { RecordStream } from './record-stream.js';
