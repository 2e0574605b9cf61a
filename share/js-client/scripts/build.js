// Joins the modules of the browser library into one file: dist/kafka-gateway.mjs, an ES module, and
// dist/kafka-gateway.js, a classic script that sets the global KafkaGateway. Likewise those of record streams:
// dist/kafka-gateway-stream.mjs and .js, which sets the global KafkaGatewayStream.
// Modules are joined as they are, without comments, indentation, and the long names of private members. So top-level
// names must differ (a clash does not parse), imports take one line each, only the entries re-export, and no string
// holds what looks like a comment or a private name, or the end of a line behind a semicolon or brace.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const BANNER = '// Kafka Gateway client. SPDX-License-Identifier: Apache-2.0. Made by scripts/build.js from src/; do not edit.\n';

/** Text of each file of dist/ by its name. */
export function build() {
  return { ...files('index.js', 'kafka-gateway', 'KafkaGateway'), ...files('stream.js', 'kafka-gateway-stream', 'KafkaGatewayStream') };
}

/**
 * @param {string} entry
 * @param {string} name of the files
 * @param {string} global
 */
function files(entry, name, global) {
  const file = join(ROOT, 'src', entry);
  const names = [...readFileSync(file, 'utf8').matchAll(/^export \{ (.+) \} from/gm)].map((match) => match[1]).join(', ');
  const body = shorten(bundle(file, new Set()));
  return {
    [`${name}.mjs`]: `${BANNER}${body}export { ${names} };\n`,
    [`${name}.js`]: `${BANNER}const ${global} = (() => {\n'use strict';\n${body}return { ${names} };\n})();\n`,
  };
}

/**
 * @param {string} file
 * @param {Set<string>} seen
 * @returns {string} the module after all that it imports
 */
function bundle(file, seen) {
  if (seen.has(file)) return '';
  seen.add(file);
  const source = readFileSync(file, 'utf8');
  const links = /^(?:import|export) .* from '(\..*)';\n/gm;
  const imported = [...source.matchAll(links)].map((match) => bundle(resolve(dirname(file), match[1]), seen));
  const own = source
    .replace(links, '')
    .replace(/\/\*\*[^]*?\*\/\s*/g, '')
    .replace(/(^| )\/\/ .*$/gm, '')
    .replace(/^\s+/gm, '')
    .replace(/^export /gm, '')
    .trim();
  return `${imported.join('')}${own}\n`;
}

/** @param {string} source */
function shorten(source) {
  const names = new Map();
  const short = (/** @type {string} */ name) => names.get(name) ?? names.set(name, `#${names.size.toString(36).replace(/^\d/, '_$&')}`).get(name);
  return source
    .replace(/#[a-z]\w*/gi, short)
    .replace(/;?\n(?=})/g, '')
    .replace(/([{;])\n/g, '$1');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of Object.entries(build())) writeFileSync(join(ROOT, 'dist', name), text);
}
