// The console: a client of the gateway like any other, with the rights of whoever looks at it.
// What it counts adds up: received = shown + older + filtered + dropped.
import { connect, fromBase64 } from './kafka-gateway.mjs';
import { stream } from './kafka-gateway-stream.mjs';

const SHOWN = 500; // rows in the window
const RATED = 40; // topics whose rate is asked for
const LOOK_MS = 2000; // how often rates, clients and the log ends are asked for
const V2 = 'application/vnd.kafka.v2+json';
const $ = (id) => document.getElementById(id);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const path = (topic) => `/topics/${encodeURIComponent(topic)}`;

// --- the connection ---

let gateway;

function open() {
  gateway?.close();
  const mine = connect(location.origin, {
    transports: [$('via').value],
    retryMaxMs: 2000,
    onState: (state, error) => {
      if (mine && mine !== gateway) return;
      $('state').dataset.state = state;
      $('state').textContent = state === 'open' ? 'connected' : error ? `${state}: ${error.message}` : state;
    },
  });
  gateway = mine;
}

const get = async (where) => (await gateway.request({ path: where, accept: V2, idempotent: true, timeoutMs: 15000 })).body;
const post = (where, body) => gateway.request({ method: 'POST', path: where, type: V2, body });

// --- topics ---

let topics = [];
const rates = new Map(); // topic → {at, end, rate}

async function ends(topic) {
  const partitions = await get(`${path(topic)}/partitions`);
  return Promise.all(
    partitions.map(async ({ partition }) => ({ partition, ...(await get(`${path(topic)}/partitions/${partition}/offsets`)) })),
  );
}

async function rate(topic) {
  const end = (await ends(topic)).reduce((sum, one) => sum + one.end_offset, 0);
  const at = performance.now();
  const old = rates.get(topic);
  rates.set(topic, { at, end, rate: old && ((end - old.end) * 1000) / (at - old.at) });
}

function listTopics() {
  const word = $('find').value.toLowerCase();
  const found = topics.filter((topic) => topic.toLowerCase().includes(word));
  $('no-topics').hidden = topics.length > 0;
  const items = found.slice(0, 500).map((topic) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    const shown = document.createElement('span');
    const known = rates.get(topic)?.rate;
    shown.textContent = known === undefined ? '' : known < 0.05 ? '–' : `${known < 10 ? known.toFixed(1) : Math.round(known).toLocaleString()}/s`;
    button.append(topic, shown);
    button.type = 'button';
    button.setAttribute('aria-current', String(topic === $('topic').value));
    button.onclick = () => {
      $('topic').value = $('to').value = topic;
      void follow();
    };
    item.append(button);
    return item;
  });
  const focused = document.activeElement?.closest('#topic-list button')?.firstChild?.textContent;
  $('topic-list').replaceChildren(...items);
  if (focused) items.find((item) => item.firstChild.firstChild.textContent === focused)?.firstChild.focus();
}

async function lookAtTopics() {
  topics = await get('/topics');
  const word = $('find').value.toLowerCase();
  await Promise.all(topics.filter((topic) => topic.toLowerCase().includes(word)).slice(0, RATED).map(rate));
  listTopics();
}

// --- reading ---

let view; // what is being followed

class View {
  topic;
  received = 0;
  older = 0;
  filtered = 0;
  dropped = 0;
  rows = []; // newest last
  fresh = [];
  paused = null; // {promise, resolve}
  ended = false;

  constructor(topic, from) {
    this.topic = topic;
    this.from = from;
  }

  // Follows until it is ended. The stream goes on by itself after a gateway that was lost; what it gives up at may pass too.
  async run() {
    let token;
    while (!this.ended) {
      this.stream = stream(location.origin, this.topic, {
        format: 'binary',
        offset: this.from,
        token,
        retryMaxMs: 2000,
        onState: (state, error) => {
          if (state === 'open') note(`following ${this.topic}`);
          else if (error && !this.ended) note(`${error.message}; trying again`, true);
        },
      });
      try {
        for await (const records of this.stream.batches()) {
          this.#take(records);
          if (this.paused) await this.paused.promise;
        }
      } catch {
        await wait(1000); // the note says why
      }
      token = this.stream.token;
    }
  }

  #take(records) {
    const at = Date.now();
    for (const record of records) {
      this.received += 1;
      const row = { at, partition: record.partition, offset: record.offset, key: shown(record.key), value: shown(record.value) };
      if (matches(row)) this.fresh.push(row);
      else this.filtered += 1;
    }
    if (this.fresh.length > SHOWN) {
      this.older += this.fresh.length - SHOWN;
      this.fresh.splice(0, this.fresh.length - SHOWN);
    }
    schedule();
  }

  end() {
    this.ended = true;
    this.paused?.resolve();
    this.stream?.close();
  }
}

const text = new TextDecoder('utf-8', { fatal: true });

// A key or value as people read it; what is no text is shown as bytes, and says so.
function shown(data) {
  if (data === null) return { odd: true, text: '(null)' };
  const bytes = fromBase64(data);
  try {
    const decoded = text.decode(bytes);
    // eslint-disable-next-line no-control-regex
    if (!/[\u0000-\u0008\u000e-\u001f]/.test(decoded)) return { odd: false, text: decoded.slice(0, 4000) };
  } catch {
    // shown as bytes
  }
  const hex = [...bytes.slice(0, 64)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return { odd: true, text: `not text · ${bytes.length} B · ${hex}${bytes.length > 64 ? ' …' : ''}` };
}

function matches(row) {
  const word = $('filter').value;
  return word === '' || row.key.text.includes(word) || row.value.text.includes(word);
}

let scheduled = false;

// One drawing a frame, however many records came.
function schedule() {
  if (scheduled) return;
  scheduled = true;
  (document.hidden ? setTimeout : requestAnimationFrame)(draw, 50);
}

function cell(content, odd = false) {
  const made = document.createElement('td');
  made.textContent = content;
  if (odd) made.className = 'odd';
  return made;
}

function draw() {
  scheduled = false;
  if (!view) return;
  const body = $('rows');
  const made = document.createDocumentFragment();
  for (const row of view.fresh) {
    const line = document.createElement('tr');
    const time = new Date(row.at).toISOString().slice(11, 23);
    line.append(cell(time), cell(`${row.partition} @${row.offset}`), cell(row.key.text, row.key.odd), cell(row.value.text, row.value.odd));
    row.line = line;
    made.prepend(line);
  }
  body.prepend(made);
  view.rows.push(...view.fresh);
  view.fresh = [];
  while (view.rows.length > SHOWN) {
    view.rows.shift().line.remove();
    view.older += 1;
  }
  count();
}

function count() {
  const { received, rows, older, filtered, dropped } = view;
  const n = (number) => number.toLocaleString('en');
  $('counts').textContent = `received ${n(received)} = ${n(rows.length)} shown + ${n(older)} older + ${n(filtered)} filtered + ${n(dropped)} dropped`;
  $('save').disabled = rows.length === 0;
}

function filterAgain() {
  if (!view) return;
  view.rows = view.rows.filter((row) => {
    if (matches(row)) return true;
    row.line.remove();
    view.filtered += 1;
    return false;
  });
  count();
}

function note(words, bad = false) {
  $('note').textContent = words;
  $('note').className = bad ? 'bad' : '';
}

async function follow() {
  view?.end();
  $('rows').replaceChildren();
  $('behind').textContent = '';
  if (!$('topic').value) return;
  view = new View($('topic').value, begin());
  $('pause').disabled = false;
  $('pause').textContent = 'Pause';
  count();
  remember();
  listTopics();
  await view.run();
}

function pause() {
  if (!view) return;
  if (view.paused) {
    view.paused.resolve();
    view.paused = null;
  } else {
    let resolve;
    const promise = new Promise((done) => (resolve = done));
    view.paused = { promise, resolve };
  }
  $('pause').textContent = view.paused ? 'Go on' : 'Pause';
}

async function lookBehind() {
  const mine = view;
  if (!mine?.stream?.token) return;
  const next = new Map(JSON.parse(mine.stream.token).map((one) => [one.partition, one.offset]));
  const behind = (await ends(mine.topic)).reduce((sum, one) => sum + Math.max(0, one.end_offset - (next.get(one.partition) ?? one.end_offset)), 0);
  $('behind').textContent = `behind the log end: ${behind.toLocaleString('en')} records${mine.paused ? ' (paused: the gateway keeps them)' : ''}`;
}

function save() {
  const lines = view.rows.map((row) => JSON.stringify({ topic: view.topic, partition: row.partition, offset: row.offset, key: row.key.text, value: row.value.text }));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([lines.join('\n') + '\n'], { type: 'application/x-ndjson' }));
  link.download = `${view.topic}.ndjson`;
  link.click();
  URL.revokeObjectURL(link.href);
}

// --- producing ---

const base64 = (words) => btoa(String.fromCharCode(...new TextEncoder().encode(words)));

function record() {
  const made = {};
  const as = $('as').value;
  if ($('key').value !== '') made.key = base64($('key').value);
  made.value = as === 'null' ? null : base64(as === 'json' ? JSON.stringify(JSON.parse($('value').value)) : $('value').value);
  if ($('partition').value !== '') made.partition = Number($('partition').value);
  return made;
}

async function send() {
  const sent = $('sent');
  sent.className = '';
  try {
    const topic = $('to').value;
    const [row] = (await gateway.produce(topic, [record()], { format: 'binary' })).offsets;
    if (row.error_code !== null) throw new Error(`${row.error_code}: ${row.error}`);
    sent.textContent = `→ partition ${row.partition} @${row.offset}`;
    if (!topics.includes(topic)) void lookAtTopics();
  } catch (error) {
    sent.textContent = error instanceof SyntaxError ? `The value is not JSON: ${error.message}` : error.message;
    sent.className = 'bad';
  }
}

// --- repeating it outside of the page ---

const quoted = (words) => `'${words.replaceAll("'", `'\\''`)}'`;

async function copy(words, button) {
  try {
    await navigator.clipboard.writeText(words);
    button.textContent = 'Copied';
  } catch {
    prompt('Copy this:', words);
  }
  setTimeout(() => (button.textContent = button.dataset.label), 1500);
}

const begin = () => ({ oldest: 'earliest', newest: 'latest' })[$('from').value] ?? -$('from').value;

function followAsCurl() {
  return `curl -N '${location.origin}${path($('topic').value)}/stream?format=json&offset=${begin()}'`;
}

function followAsJs() {
  return `import { stream } from 'kafka-gateway-client/stream';

const options = { offset: ${JSON.stringify(begin())} };
for await (const record of stream(${JSON.stringify(location.origin)}, ${JSON.stringify($('topic').value)}, options)) console.log(record);
`;
}

function produceAsCurl() {
  const body = JSON.stringify({ records: [record()] });
  return `curl -X POST ${location.origin}${path($('to').value)} -H 'Content-Type: application/vnd.kafka.binary.v2+json' -d ${quoted(body)}`;
}

// --- clients ---

async function lookAtClients() {
  const reply = await fetch('console/clients');
  if (!reply.ok) throw new Error(`clients: ${reply.status}`);
  const rows = (await reply.json()).map((one) => {
    const line = document.createElement('tr');
    line.append(cell(one.peer || '–'), cell(one.transport), cell(one.principal), cell(`${Math.round(one.seconds)} s`), cell(String(one.streams)));
    return line;
  });
  $('client-rows').replaceChildren(...rows);
}

// --- the address of the page holds what it shows ---

const KEPT = ['topic', 'from', 'filter', 'via'];

function remember() {
  const kept = new URLSearchParams(KEPT.map((name) => [name, $(name).value]).filter(([, value]) => value));
  history.replaceState(null, '', `#${kept}`);
}

function restore() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of KEPT) if (kept.has(name)) $(name).value = kept.get(name);
  $('to').value = $('topic').value;
}

async function look(what) {
  while (true) {
    if (!document.hidden) {
      try {
        await what();
      } catch (error) {
        console.debug(error); // the state line tells that the gateway is away
      }
    }
    await wait(LOOK_MS);
  }
}

for (const button of document.querySelectorAll('button[id^=copy]')) button.dataset.label = button.textContent;
$('find').oninput = listTopics;
$('filter').oninput = () => (filterAgain(), remember());
$('via').onchange = () => (remember(), open(), void follow());
$('follow-form').onsubmit = (event) => (event.preventDefault(), void follow());
$('pause').onclick = pause;
$('save').onclick = save;
$('produce-form').onsubmit = (event) => (event.preventDefault(), void send());
$('copy-curl').onclick = () => copy(followAsCurl(), $('copy-curl'));
$('copy-js').onclick = () => copy(followAsJs(), $('copy-js'));
$('copy-produce').onclick = () => copy(produceAsCurl(), $('copy-produce'));
addEventListener('keydown', (event) => {
  if (event.key === '/' && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
    event.preventDefault();
    $('find').focus();
  }
});
addEventListener('pagehide', () => view?.end());

restore();
open();
void look(lookAtTopics);
void look(lookAtClients);
void look(lookBehind);
if ($('topic').value) void follow();
