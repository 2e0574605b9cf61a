#!/usr/bin/env node
import { main } from '../src/cli/main.js';

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => interrupted.abort());
// Whoever read the output has had enough.
process.stdout.on('error', () => process.exit(0));

process.exitCode = await main(process.argv.slice(2), process, interrupted.signal);
// A farewell that is not answered must not keep the program.
process.stdout.write('', () => process.exit());
