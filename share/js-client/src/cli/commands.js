import { GatewayError, toBase64 } from '../node/index.js';
import { stream } from '../node/stream.js';

/**
 * @typedef {object} Session what commands work on
 * @property {import('../gateway.js').Gateway} gateway
 * @property {(line: string) => void} print
 * @property {(value: unknown) => string} show a value as text
 * @property {Map<string, Entry>} entries subscriptions by instance
 * @property {string | undefined} valueSchema for `pub avro`: the schema, or its id
 * @property {string} url of the gateway
 * @property {Record<string, string> | undefined} headers
 * @property {AbortSignal} signal aborted when the program ends
 */

/** @typedef {{id: string, mode: string, group: string, topic: string, subscription: import('../subscription.js').Subscription}} Entry */

/** A fault of the user; its message is shown. */
export class UsageError extends Error {}

/**
 * @typedef {object} Command
 * @property {string} usage
 * @property {string} help
 * @property {number} needs least number of arguments
 * @property {(session: Session, ...args: string[]) => Promise<void> | void} run
 */

/** @type {Record<string, Command>} Each is recognised by any word that begins with its name: `create` is `cre`. */
export const COMMANDS = {
  commit: {
    usage: 'commit group instance',
    help: 'commit what the consumer instance has delivered',
    needs: 2,
    run: (session, group, instance) => call(session, { method: 'POST', path: `${instancePath(group, instance)}/offsets` }),
  },
  cre: {
    usage: 'cre mode group instance',
    help: 'create a consumer instance that starts at the oldest record',
    needs: 3,
    run(session, word, group, instance) {
      const mode = readMode('cre', word);
      const body = { id: instance, format: mode, 'auto.offset.reset': 'smallest' };
      return call(session, { method: 'POST', path: `/consumers/${encodeURIComponent(group)}`, type: mediaType(mode), body });
    },
  },
  del: {
    usage: 'del group instance',
    help: 'delete a consumer instance',
    needs: 2,
    run(session, group, instance) {
      session.entries.get(instance)?.subscription.end();
      session.entries.delete(instance);
      return call(session, { method: 'DELETE', path: instancePath(group, instance) });
    },
  },
  help: {
    usage: 'help [command]',
    help: 'show all commands, or the usage of one',
    needs: 0,
    run(session, word) {
      if (word) session.print(usage(findCommand(word)[1]));
      else for (const { usage: form, help } of Object.values(COMMANDS)) session.print(`${form.padEnd(38)}${help}`);
    },
  },
  info: {
    usage: 'info topic',
    help: 'show a topic',
    needs: 1,
    run: (session, topic) => call(session, { path: `/topics/${encodeURIComponent(topic)}` }),
  },
  list: {
    usage: 'list',
    help: 'list the topics',
    needs: 0,
    run: (session) => call(session, { path: '/topics' }),
  },
  ls: {
    usage: 'ls',
    help: 'list the subscriptions of this client',
    needs: 0,
    run(session) {
      // fromEntries defines members: an instance called __proto__ is one more member.
      const list = [...session.entries].map(([instance, { subscription, ...entry }]) => [instance, entry]);
      session.print(`Subscribed: ${session.show(Object.fromEntries(list))}`);
    },
  },
  pub: {
    usage: 'pub mode topic message',
    help: 'publish the rest of the line to a topic',
    needs: 3,
    run(session, word, topic, ...words) {
      const mode = readMode('pub', word);
      const message = words.join(' ');
      const value = mode === 'binary' ? toBase64(message) : readJson(message);
      const body = { ...(mode === 'avro' && readSchema(session.valueSchema)), records: [{ value }] };
      return call(session, { method: 'POST', path: `/topics/${encodeURIComponent(topic)}`, type: mediaType(mode), body });
    },
  },
  quit: { usage: 'quit', help: 'close the connection and leave', needs: 0, run() {} },
  read: {
    usage: 'read mode group instance topic',
    help: 'read once what a consumer instance has',
    needs: 4,
    run(session, word, group, instance, topic) {
      const path = `${instancePath(group, instance)}/topics/${encodeURIComponent(topic)}`;
      return call(session, { path, accept: mediaType(readMode('read', word)) });
    },
  },
  stream: {
    usage: 'stream mode topic [offset]',
    help: 'follow a topic: latest, earliest, an offset, -N for the last N',
    needs: 2,
    run: follow,
  },
  sub: {
    usage: 'sub mode group instance topic',
    help: 'subscribe a consumer instance to a topic',
    needs: 4,
    run: subscribe,
  },
  unsub: {
    usage: 'unsub group instance topic',
    help: 'end a subscription',
    needs: 3,
    async run(session, group, instance, topic) {
      const entry = session.entries.get(instance);
      if (entry?.group === group && entry.topic === topic) {
        session.entries.delete(instance);
        await entry.subscription.close();
      } else {
        await call(session, { method: 'DELETE', path: `/ws${instancePath(group, instance)}/topics/${encodeURIComponent(topic)}` });
      }
    },
  },
};

/**
 * The command that a word stands for.
 * @param {string} word
 * @returns {[string, Command]}
 */
export function findCommand(word) {
  const found = Object.entries(COMMANDS).find(([name]) => word.startsWith(name));
  if (!found) throw new UsageError(`Unknown command: ${word}`);
  return found;
}

/**
 * Runs a command.
 * @param {Session} session
 * @param {string[]} words
 * @returns {Promise<boolean>} whether it worked; if not, the reason is printed
 */
export async function runCommand(session, words) {
  try {
    const [word = 'help', ...args] = words;
    const [name, command] = findCommand(word);
    if (args.length < command.needs) throw new UsageError(`Missing arguments for ${name}\n${usage(command)}`);
    await command.run(session, ...args);
    return true;
  } catch (error) {
    if (error instanceof GatewayError && error.reply) session.print(`res${error.reply.id}: ${error.reply.text}`);
    else if (error instanceof GatewayError || error instanceof UsageError) session.print(`Error: ${error.message}`);
    else throw error;
    return false;
  }
}

/** @param {Command} command */
function usage(command) {
  return `Usage: ${command.usage}`;
}

/**
 * @param {Session} session
 * @param {import('../gateway.js').RequestOptions} request
 */
async function call(session, request) {
  const reply = await session.gateway.request(request);
  if (reply.text !== '') session.print(`res${reply.id}: ${reply.text}`);
}

/**
 * @param {Session} session
 * @param {string} word
 * @param {string} group
 * @param {string} instance
 * @param {string} topic
 */
async function subscribe(session, word, group, instance, topic) {
  const mode = readMode('sub', word);
  const subscription = await session.gateway.subscribe({
    group,
    instance,
    topic,
    format: mode,
    onRecords(records, { id }) {
      const values = records.map(({ value }) => {
        return mode === 'binary' && typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value;
      });
      session.print(`res${id}: ${session.show(values)}`);
    },
    onError(error) {
      session.print(error.reply ? `res${error.reply.id}: ${error.reply.text}` : `Error: ${error.message}`);
    },
  });
  session.entries.set(instance, { id: subscription.id, mode, group, topic, subscription });
  if (subscription.received === 0) session.print(`res${subscription.id}: []`);
}

/**
 * @param {Session} session
 * @param {string} word
 * @param {string} topic
 * @param {string} [offset]
 */
async function follow({ url, headers, signal, print, show }, word, topic, offset) {
  const mode = readMode('stream', word);
  const text = (/** @type {unknown} */ value) => (mode === 'binary' && typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value);
  const records = stream(url, topic, {
    format: mode,
    offset: /** @type {'latest'} */ (offset),
    headers,
    signal,
    onState: (state, error) => state === 'waiting' && print(`Connection lost, trying again: ${error?.message}`),
  });
  for await (const { partition, offset: at, key, value, error } of records) {
    print(`${topic}-${partition}@${at}: ${error ? error.message : show(key === null ? text(value) : { key: text(key), value: text(value) })}`);
  }
}

/**
 * @param {string} command
 * @param {string} word
 * @returns {'binary' | 'json' | 'avro'}
 */
function readMode(command, word) {
  const modes = /** @type {const} */ ({ b: 'binary', j: 'json', a: 'avro' });
  const mode = Object.hasOwn(modes, word[0]) ? modes[/** @type {'b' | 'j' | 'a'} */ (word[0])] : undefined;
  if (!mode) throw new UsageError(`Invalid arguments for ${command}`);
  return mode;
}

/** @param {string} message */
function readJson(message) {
  // Quotes around the whole are taken off first, as ever; a text that is JSON only with them is a JSON string.
  for (const text of [message.replace(/^(['"])([^]*)\1$/, '$2'), message]) {
    try {
      return JSON.parse(text);
    } catch {
      // the next reading, or none
    }
  }
  throw new UsageError('Invalid arguments for pub');
}

/** @param {string | undefined} schema */
function readSchema(schema) {
  if (schema === undefined) throw new UsageError('pub avro needs the option --value-schema with a schema or its id');
  return /^\d+$/.test(schema) ? { value_schema_id: Number(schema) } : { value_schema: schema };
}

/** @param {string} mode */
function mediaType(mode) {
  return `application/vnd.kafka.${mode}.v1+json`;
}

/**
 * @param {string} group
 * @param {string} instance
 */
function instancePath(group, instance) {
  return `/consumers/${encodeURIComponent(group)}/instances/${encodeURIComponent(instance)}`;
}
