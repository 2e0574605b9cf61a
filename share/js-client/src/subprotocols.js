/** What the gateway answers with when subprotocols are offered. */
const PROTOCOL = 'kafka-gateway';

/**
 * The header `Authorization` as subprotocols of a browser's WebSocket, which takes no headers: in the query of its address,
 * logs may show it.
 * @param {Record<string, string>} headers
 * @returns {{protocols: string[], others: Record<string, string>}} none without that header; and the other headers
 */
export function subprotocols(headers) {
  const others = { ...headers };
  const name = Object.keys(others).find((each) => each.toLowerCase() === 'authorization');
  if (name === undefined) return { protocols: [], others };
  const proof = btoa(others[name]).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  delete others[name];
  return { protocols: [PROTOCOL, `authorization.${proof}`], others };
}
