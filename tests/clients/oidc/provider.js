// An OpenID provider that gives machines tokens (client credentials), and does what it is told by lines of JSON:
//   {"do": "rotate", "kid": "two", "alg": "ES256", "keep": true}   signs with a new key; keep: the older ones stay listed
//   {"do": "ttl", "seconds": 2}                                    how long its tokens last from now on
// It tells {"event": "ready", "issuer": …}, and {"event": "done"} for each line.
//
//   node provider.js KID CLIENT:TENANT …        each client's secret is CLIENT-secret

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const [kid, ...clients] = process.argv.slice(2);
const tenants = Object.fromEntries(clients.map((each) => each.split(':')));
console.info = console.error; // the provider's notices must not stand between the events
const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

let keys = [];
let ttl = 300;
let callback;

function key(kid, alg) {
  const made = alg === 'RS256' ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : alg === 'EdDSA' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...made.privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

function start(issuer) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: Object.keys(tenants).map((name) => ({
      client_id: name,
      client_secret: `${name}-secret`,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_post',
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: '',
          audience: 'kafka-gateway',
          accessTokenTTL: ttl,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: keys[0].alg, kid: keys[0].kid } },
        }),
      },
    },
    extraTokenClaims: (_, token) => ({ tenant: tenants[token.clientId] }),
  });
  callback = provider.callback();
}

const server = createServer((request, response) => callback(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  keys = [key(kid, 'RS256')];
  start(issuer);
  tell({ event: 'ready', issuer });
  createInterface({ input: process.stdin }).on('line', (line) => {
    const asked = JSON.parse(line);
    if (asked.do === 'rotate') {
      keys = [key(asked.kid, asked.alg), ...(asked.keep ? keys : [])];
    } else if (asked.do === 'ttl') {
      ttl = asked.seconds;
    }
    start(issuer);
    tell({ event: 'done' });
  }).on('close', () => process.exit(0));
});
