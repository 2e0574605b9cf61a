import { connect } from '../src/node/index.js';
import { startGateway } from './fake-gateway.js';

/** Short times, so that outages take milliseconds. */
export const QUICK = { retryMinMs: 5, retryMaxMs: 40, openTimeoutMs: 1000, timeoutMs: 5000 };
export const TRANSPORTS = ['websocket', 'sse', 'long-polling'];

/** A fake gateway and a client of it, both ended with the test. */
export async function pair(t, options = {}) {
  const fake = await startGateway();
  const states = [];
  const bare = [];
  const gateway = connect(fake.url, { ...QUICK, onState: (state) => states.push(state), onBare: (text) => bare.push(text), ...options });
  t.after(async () => {
    await gateway.close();
    await fake.stop();
  });
  return { fake, gateway, states, bare };
}

/** Waits until something is true, at most 5 s. */
export async function until(condition, what = condition.toString()) {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 5000) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The first records of a subscription, values only. */
export async function take(subscription, count) {
  const values = [];
  for await (const { value } of subscription) {
    values.push(value);
    if (values.length === count) break;
  }
  return values;
}
