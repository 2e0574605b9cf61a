// Drives one unmodified atmosphere.js client: commands come as JSON lines on standard input, its callbacks go out as
// JSON lines on standard output. The tests are in Python (tests/transports/test_atmosphere_clients.py).
//
//   {"do": "subscribe", "request": {...}}   {"do": "push", "message": ...}   {"do": "close"}
'use strict';

const readline = require('node:readline');

const generation = process.argv[2];

function tell(event, response) {
  const line = { event };
  for (const name of ['status', 'state', 'transport', 'responseBody']) {
    if (response && response[name] !== undefined) line[name] = response[name];
  }
  if (response instanceof Error || typeof response === 'string') line.text = String(response);
  process.stdout.write(JSON.stringify(line) + '\n');
}

/** Versions 2 to 4: one object with options and callbacks. */
function older(name) {
  const { subscribe } = require(name);
  let socket;
  const callbacks = {};
  for (const event of ['Open', 'Reopen', 'Message', 'MessagePublished', 'Reconnect', 'Close', 'Error', 'ClientTimeout']) {
    callbacks['on' + event] = (first, second) => tell(event.toLowerCase(), second || first);
  }
  callbacks.onTransportFailure = (text) => tell('transportfailure', String(text));
  return {
    subscribe(request) {
      socket = subscribe({ logLevel: 'none', ...request, ...callbacks });
    },
    push(message) {
      socket.push(message);
    },
    close() {
      socket.close();
    },
    uuid: () => socket.getUUID && socket.getUUID(),
  };
}

/** Version 5: options and handlers apart. In Node it needs WebSocket and EventSource from elsewhere. */
function newer() {
  globalThis.WebSocket = require('ws');
  globalThis.EventSource = require('eventsource');
  const { Atmosphere } = require('atmosphere5');
  const client = new Atmosphere({ logLevel: 'silent' });
  const handlers = {};
  for (const event of ['open', 'reopen', 'message', 'close', 'error', 'clientTimeout', 'transportFailure']) {
    handlers[event] = (response) => tell(event.toLowerCase(), response);
  }
  handlers.reconnect = () => tell('reconnect');
  let subscription;
  return {
    async subscribe(request) {
      subscription = await client.subscribe(request, handlers);
    },
    push(message) {
      subscription.push(message);
    },
    close() {
      return subscription.close();
    },
  };
}

const client = generation === '5' ? newer() : older(`atmosphere${generation}`);

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line);
  try {
    await client[command.do](command.request || command.message);
    tell('done:' + command.do);
  } catch (error) {
    tell('failed:' + command.do, error);
  }
}).on('close', () => process.exit(0));
