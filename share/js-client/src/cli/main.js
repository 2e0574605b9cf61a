import { createInterface } from 'node:readline';
import { inspect, parseArgs } from 'node:util';
import { connect, GatewayError, toBase64 } from '../node/index.js';
import { COMMANDS, findCommand, runCommand, UsageError } from './commands.js';

const CONNECT_MS = 3000;
/** Stands for the sign of a number while options are read. */
const MINUS = '\u2212';
const DEFAULT_URL = 'http://localhost:8082/';
const TRANSPORTS = /** @type {const} */ (['websocket', 'sse', 'long-polling']);

const HELP = `Usage: client.js [options] [url] [command]

url      address of the gateway, ${DEFAULT_URL} by default
command  one command; without it commands are read from standard input, with a prompt if that is a terminal

Options:
  --transport NAME      ${TRANSPORTS.join(', ')}; by default the first of them that works
  --user NAME:PASSWORD  for Basic authentication
  --detached FORM       form of the replies: true, false or lf
  --value-schema TEXT   Avro schema for pub avro, or its id
  --insecure            accept any TLS certificate
  --trace               show each message
  --help                this text

Commands:
${Object.values(COMMANDS).map(({ usage, help }) => `  ${usage.padEnd(36)}${help}`).join('\n')}

mode is binary, json or avro; its first letter will do. A command that subscribes goes on until it is interrupted.
Exit status: 1 without a connection, or if the one command failed; 2 for wrong arguments.`;

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
export async function main(args, terminal, interrupted) {
  let settings;
  try {
    settings = readArguments(args);
  } catch (error) {
    write(terminal.stderr, `Error: ${/** @type {Error} */ (error).message}\nSee client.js --help`);
    return 2;
  }
  if (settings.options.help) {
    write(terminal.stdout, HELP);
    return 0;
  }

  const interactive = Boolean(terminal.stdin.isTTY) && settings.command.length === 0;
  // Scripts want answers on standard output, and nothing else.
  const news = interactive ? terminal.stdout : terminal.stderr;
  const lines = settings.command.length > 0 ? undefined : new Lines(terminal, interactive);
  write(news, `Host URL: ${settings.shownUrl}`);
  let transports = settings.transports;
  if (!transports && lines && interactive) {
    write(news, 'Select transport ...\n0: websocket\n1: sse');
    transports = (await lines.ask('select: '))?.trim() === '1' ? ['sse'] : ['websocket'];
  }
  return work({ ...settings, transports }, terminal, news, lines, interactive, interrupted);
}

/**
 * @param {ReturnType<typeof readArguments>} settings
 * @param {Terminal} terminal
 * @param {NodeJS.WritableStream} news
 * @param {Lines | undefined} lines
 * @param {boolean} interactive
 * @param {AbortSignal} interrupted
 */
async function work({ url, options, transports, headers, command }, terminal, news, lines, interactive, interrupted) {
  // The program's own process, and the only switch that covers all transports.
  if (options.insecure) process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  const print = (/** @type {string} */ line) => {
    write(terminal.stdout, line);
    lines?.prompt();
  };
  write(news, `Connecting using ${transports?.[0] ?? TRANSPORTS[0]} ...`);
  const gateway = connect(url, {
    transports,
    headers,
    onBare: (payload) => print(describeBare(payload)),
    onTrace: options.trace
      ? (direction, message) => write(news, `TRACE: ${direction.padEnd(8)} ${Buffer.from(message)}`)
      : undefined,
    onState: (state, error) => {
      reason = error?.message ?? reason;
      if (connected && state === 'waiting') {
        lost = true;
        write(news, `Connection lost, trying again: ${error?.message}`);
      }
      if (lost && state === 'open') write(news, `Connected using ${gateway.transport}`);
    },
  });
  const ended = new AbortController();
  interrupted.addEventListener('abort', () => ended.abort());
  let connected = false;
  let lost = false;
  /** @type {string | undefined} */
  let reason;
  /** @type {import('./commands.js').Session} */
  const session = { gateway, print, show, entries: new Map(), valueSchema: options['value-schema'], url, headers, signal: ended.signal };
  try {
    await gateway.opened(AbortSignal.any ? AbortSignal.any([timeLimit(), interrupted]) : timeLimit());
  } catch (error) {
    // The reason for giving up, or else for the last attempt that failed.
    if (error instanceof GatewayError) reason = error.message;
    if (reason) write(terminal.stderr, `Error: ${reason}`);
    write(news, 'Unable to open a connection. Terminated.');
    lines?.close();
    await gateway.close();
    return 1;
  }
  write(news, `Connected using ${gateway.transport}`);
  connected = true;
  interrupted.addEventListener('abort', () => lines?.close());
  const worked = lines ? await runLines(session, lines, interactive) : await runOne(session, command, interrupted);
  ended.abort();
  await gateway.close();
  if (lines) write(news, 'Closed');
  return worked ? 0 : 1;
}

/** @returns {AbortSignal} */
function timeLimit() {
  return AbortSignal.timeout(CONNECT_MS);
}

/**
 * @param {import('./commands.js').Session} session
 * @param {string[]} command
 * @param {AbortSignal} interrupted
 */
async function runOne(session, command, interrupted) {
  if (!(await runCommand(session, command))) return false;
  for (const { subscription } of session.entries.values()) {
    while (!subscription.closed && !interrupted.aborted) {
      await new Promise((resolve) => {
        setTimeout(resolve, 1000);
        interrupted.addEventListener('abort', resolve, { once: true });
      });
    }
    return interrupted.aborted;
  }
  return true;
}

/**
 * @param {import('./commands.js').Session} session
 * @param {Lines} lines
 * @param {boolean} interactive
 */
async function runLines(session, lines, interactive) {
  for (let line; (line = await lines.ask('> ')) !== undefined; ) {
    const words = line.trim().split(/\s+/).filter(Boolean);
    if (words[0]?.startsWith('quit')) break;
    const running = runCommand(session, splitMessage(line.trim(), words));
    // A script's next line relies on what this one did; a person is not kept waiting.
    if (!interactive) await running;
  }
  lines.close();
  return true;
}

/**
 * The words of a line, with the message of `pub` in one piece: its spaces count.
 * @param {string} line
 * @param {string[]} words
 */
function splitMessage(line, words) {
  const message = /^pub\S*\s+\S+\s+\S+\s+([^]+)$/.exec(line);
  return message ? [...words.slice(0, 3), message[1]] : words;
}

/** @param {string[]} args */
function readArguments(args) {
  const { values: options, positionals: words } = parseArgs({
    // A negative number is no option: `stream json orders -10`.
    args: args.map((text) => text.replace(/^-(?=\d)/, MINUS)),
    allowPositionals: true,
    options: {
      transport: { type: 'string' },
      user: { type: 'string' },
      detached: { type: 'string' },
      'value-schema': { type: 'string' },
      insecure: { type: 'boolean' },
      trace: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  const positionals = words.map((text) => (text.startsWith(MINUS) ? `-${text.slice(1)}` : text));
  const given = /^\w+:\/\//.test(positionals[0] ?? '') ? /** @type {string} */ (positionals.shift()) : DEFAULT_URL;
  if (positionals.length > 0) findCommand(positionals[0]);
  const transport = TRANSPORTS.find((name) => name === options.transport);
  if (options.transport && !transport) throw new UsageError(`--transport is one of ${TRANSPORTS.join(', ')}`);
  if (options.detached && !/^(true|false|lf)$/.test(options.detached)) throw new UsageError('--detached is true, false or lf');
  const url = new URL(given.includes('?') || given.endsWith('/') ? given : `${given}/`);
  const shownUrl = new URL(url);
  if (shownUrl.password) shownUrl.password = '***';
  if (options.detached) url.searchParams.set('X-Atmosphere-SimpleRestProtocolDetached', options.detached);
  return {
    url: url.href,
    shownUrl: shownUrl.href,
    options,
    command: positionals,
    transports: transport && [transport],
    headers: options.user ? { Authorization: `Basic ${toBase64(options.user)}` } : undefined,
  };
}

/** @param {string} payload */
function describeBare(payload) {
  try {
    const value = JSON.parse(payload);
    return value?.error_code === undefined ? `res*: ${payload}` : payload;
  } catch {
    return `Invalid response:  ${payload}`;
  }
}

/** @param {unknown} value */
function show(value) {
  return inspect(value, { depth: null, breakLength: Infinity, compact: true, maxArrayLength: null, maxStringLength: null });
}

/**
 * Writes a line. What came from elsewhere must not steer the terminal: control characters are shown as such.
 * @param {NodeJS.WritableStream} stream
 * @param {string} line
 */
function write(stream, line) {
  const escape = (/** @type {string} */ char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  stream.write(`${line.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, escape)}\n`);
}

/** Lines of standard input, one at a time. */
class Lines {
  /** @type {string[]} */
  #waiting = [];
  #ended = false;
  #wake = () => {};
  #reader;
  #interactive;

  /**
   * @param {Terminal} terminal
   * @param {boolean} interactive
   */
  constructor({ stdin, stdout }, interactive) {
    this.#interactive = interactive;
    this.#reader = createInterface({ input: stdin, output: interactive ? stdout : undefined });
    this.#reader.on('line', (line) => {
      this.#waiting.push(line);
      this.#wake();
    });
    this.#reader.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /**
   * The next line; undefined at the end.
   * @param {string} prompt
   */
  async ask(prompt) {
    this.#reader.setPrompt(prompt);
    this.prompt();
    while (this.#waiting.length === 0 && !this.#ended) {
      await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
    return this.#waiting.shift();
  }

  /** Shows the prompt again after other output. */
  prompt() {
    if (this.#interactive && !this.#ended) this.#reader.prompt(true);
  }

  close() {
    this.#reader.close();
  }
}
