// The console: a client of the gateway like any other, with the rights of whoever looks at it.
// What it counts adds up: received = shown + older + filtered + dropped.
import { administration } from './groups.js';
import { connect } from './kafka-gateway.mjs';
import { stream } from './kafka-gateway-stream.mjs';
import { exported, hasSchema, matches, ofAuto, parse, schemaName, shown, shownHeaders, size, whole } from './records.js';
import { schemaRecord, showSchema, useSchemas } from './schemas.js';

const SHOWN = 500; // rows in the window
const HIDDEN = 2000; // records that the filter hides and that are kept, for when it is changed
const KEPT_CHARS = 48 << 20; // of all records that are kept
const ASKED = 100; // topics in one question
const LOOK_MS = 2000; // how often rates, clients and the log ends are asked for
const GROUPS_MS = 5000; // and consumer groups
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

const get = async (where, accept = V2) => (await gateway.request({ path: where, accept, idempotent: true, timeoutMs: 15000 })).body;
const admin = administration((where) => get(where, 'application/json'));
const post = (where, body) => gateway.request({ method: 'POST', path: where, type: V2, body });

// --- topics ---

let topics = [];
const rates = new Map(); // topic → {at, end, rate}

// The ends of the logs: topic → partition → offset. One question for all of them.
const ends = (names) => (names.length === 0 ? {} : get(`/console/ends?topics=${names.join(',')}`, 'application/json'));

// The topics whose place in the list can be seen.
function inView() {
  const box = $('topic-list').getBoundingClientRect();
  const bottom = Math.min(box.bottom, innerHeight);
  const seen = ({ top, bottom: end }) => end > Math.max(box.top, 0) && top < bottom;
  return [...$('topic-list').children].filter((item) => seen(item.getBoundingClientRect())).map((item) => item.firstChild.firstChild.textContent);
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
      void showSchema();
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
  listTopics();
  const asked = [...new Set([...(view ? [view.topic] : []), ...inView()])].slice(0, ASKED);
  const found = await ends(asked);
  const at = performance.now();
  for (const [topic, partitions] of Object.entries(found)) {
    const end = Object.values(partitions).reduce((sum, one) => sum + one, 0);
    const old = rates.get(topic);
    rates.set(topic, { at, end, rate: old && ((end - old.end) * 1000) / (at - old.at) });
  }
  listTopics();
  if (view) lookBehind(found[view.topic]);
}

// --- reading ---

let view; // what is being followed

class View {
  topic;
  received = 0;
  older = 0;
  searched = 0; // of those received: what the filter has looked at as it is now
  dropped = 0;
  rows = []; // shown, newest last
  hidden = []; // kept, but not shown: the filter does not let them pass
  fresh = []; // to be shown with the next drawing
  chars = 0; // of all three
  paused = null; // {promise, resolve}
  decoded = false; // the gateway decodes, since there was a record with a schema
  ended = false;

  constructor(topic, from) {
    this.topic = topic;
    this.from = from;
  }

  // Follows until it is ended. The stream goes on by itself after a gateway that was lost; what it gives up at may pass too.
  async run() {
    let token;
    while (!this.ended) {
      let again = false; // from where it is, decoded
      this.stream = stream(location.origin, this.topic, {
        format: this.decoded ? 'auto' : 'binary',
        offset: this.from,
        token,
        parse,
        retryMaxMs: 2000,
        onEvent: () => (this.reached ??= this.stream.token),
        onState: (state, error) => {
          if (state === 'open') note(`following ${this.topic}`);
          else if (error && !this.ended) note(`${error.message}; trying again`, true);
        },
      });
      try {
        for await (const records of this.stream.batches()) {
          while (this.paused) await this.paused.promise;
          if (this.ended) return;
          if (!this.decoded && $('show').value === 'decoded' && records.some(hasSchema)) {
            this.decoded = again = true;
            break;
          }
          this.#take(this.decoded ? records.map(ofAuto) : records);
          this.reached = this.stream.token;
        }
      } catch {
        await wait(1000); // the note says why
      }
      token = again ? this.reached : this.stream.token;
    }
  }

  #take(records) {
    const word = filterWord();
    for (const record of records) {
      const row = { number: this.received++, record, chars: size(record) };
      this.chars += row.chars;
      this.searched += 1;
      (matches(record, word) ? this.fresh : this.hidden).push(row);
    }
    this.trim();
    schedule();
  }

  // Lets go of the oldest.
  trim() {
    while (this.rows.length + this.fresh.length > SHOWN) this.#drop(this.rows.length > 0 ? this.rows : this.fresh);
    while (this.hidden.length > HIDDEN) this.#drop(this.hidden);
    while (this.chars > KEPT_CHARS && this.rows.length + this.fresh.length + this.hidden.length > 1) {
      const lists = [this.rows, this.fresh, this.hidden].filter((list) => list.length > 0);
      this.#drop(lists.reduce((oldest, list) => (list[0].number < oldest[0].number ? list : oldest)));
    }
  }

  #drop(list) {
    const row = list.shift();
    this.chars -= row.chars;
    this.older += 1;
    row.line?.remove();
    row.opened?.remove();
  }

  end() {
    this.ended = true;
    this.paused?.resolve();
    this.stream?.close();
  }
}

const filterWord = () => $('filter').value.toLowerCase();

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

// The row of a table for a record; its first cell opens the whole of it.
function lineOf(row) {
  const { partition, offset, timestamp, key, value } = row.record;
  const line = document.createElement('tr');
  const time = document.createElement('td');
  const opener = document.createElement('button');
  opener.type = 'button';
  opener.className = 'opener';
  opener.setAttribute('aria-expanded', 'false');
  opener.title = 'the whole record';
  opener.textContent = timestamp === undefined ? '–' : new Date(timestamp).toISOString().replace('T', ' ').slice(0, 23);
  opener.onclick = () => toggle(row, opener);
  time.append(opener);
  const part = (data, schema) => {
    const { text, odd } = shown(data);
    const made = cell(text, odd);
    if (schema) {
      const name = document.createElement('b');
      name.textContent = schemaName(schema);
      made.prepend(name, ' ');
    }
    return made;
  };
  line.append(time, cell(`${partition} @${offset}`), part(key, row.record.key_schema), part(value, row.record.value_schema), cell(shownHeaders(row.record)));
  return line;
}

function toggle(row, opener) {
  opener.setAttribute('aria-expanded', String(!row.opened));
  if (row.opened) {
    row.opened.remove();
    row.opened = undefined;
    return;
  }
  row.opened = document.createElement('tr');
  row.opened.className = 'opened';
  const place = document.createElement('td');
  place.colSpan = 5;
  const list = document.createElement('dl');
  for (const [name, content] of whole(row.record)) {
    const [term, data] = [document.createElement('dt'), document.createElement('dd')];
    term.textContent = name;
    data.textContent = content;
    list.append(term, data);
  }
  place.append(list);
  row.opened.append(place);
  row.line.after(row.opened);
}

function draw() {
  scheduled = false;
  if (!view || view.paused) return;
  const made = document.createDocumentFragment();
  for (const row of view.fresh) {
    row.line = lineOf(row);
    made.prepend(row.line);
  }
  $('rows').prepend(made);
  view.rows.push(...view.fresh);
  view.fresh = [];
  count();
}

function count() {
  const { received, rows, fresh, hidden, older, dropped, searched } = view;
  const n = (number) => number.toLocaleString('en');
  $('counts').textContent = `received ${n(received)} = ${n(rows.length + fresh.length)} shown + ${n(older)} older + ${n(hidden.length)} filtered + ${n(dropped)} dropped`;
  $('searched').textContent = filterWord() && searched < received ? `searched: the last ${n(searched)}; older ones are not kept` : '';
  $('save').disabled = rows.length === 0;
}

// Shows what the filter lets pass now, of all that is kept: also what it hid before.
function filterAgain() {
  if (!view) return;
  const word = filterWord();
  const kept = [...view.rows, ...view.fresh, ...view.hidden].sort((a, b) => a.number - b.number);
  view.rows = [];
  view.fresh = [];
  view.hidden = [];
  view.searched = kept.length;
  for (const row of kept) (matches(row.record, word) ? view.rows : view.hidden).push(row);
  view.trim();
  for (const row of view.rows) row.line ??= lineOf(row);
  $('rows').replaceChildren(...view.rows.flatMap((row) => (row.opened ? [row.opened, row.line] : [row.line])).reverse());
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
  void admin.settings(view.topic);
  await view.run();
}

function pause() {
  if (!view) return;
  if (view.paused) {
    const { resolve } = view.paused;
    view.paused = null;
    resolve();
    schedule();
  } else {
    let resolve;
    const promise = new Promise((done) => (resolve = done));
    view.paused = { promise, resolve };
  }
  $('pause').textContent = view.paused ? 'Go on' : 'Pause';
}

function lookBehind(partitions) {
  const reached = view.reached ?? view.stream?.token;
  if (!reached || !partitions) return;
  const next = new Map(JSON.parse(reached).map((one) => [String(one.partition), one.offset]));
  const behind = Object.entries(partitions).reduce((sum, [partition, end]) => sum + Math.max(0, end - (next.get(partition) ?? end)), 0);
  $('behind').textContent = `behind the log end: ${behind.toLocaleString('en')} records${view.paused ? ' (paused: the gateway keeps them)' : ''}`;
}

function save() {
  const link = document.createElement('a');
  const lines = view.rows.map(({ record }) => `${exported(record)}\n`);
  link.href = URL.createObjectURL(new Blob(lines, { type: 'application/x-ndjson' }));
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

async function sendBytes(topic) {
  const [row] = (await gateway.produce(topic, [record()], { format: 'binary' })).offsets;
  if (row.error_code !== null) throw new Error(`${row.error_code}: ${row.error}`);
  return row;
}

// With the schema of a subject: v3 takes a key of another kind beside it.
const v3 = (topic) => `/v3/clusters/-${path(topic)}/records`;

async function sendWithSchema(topic) {
  const row = await gateway.request({ method: 'POST', path: v3(topic), type: 'application/json', body: schemaRecord() });
  if (row.body.error_code !== 200) throw new Error(`${row.body.error_code}: ${row.body.message}`);
  return { partition: row.body.partition_id, offset: row.body.offset };
}

async function send() {
  const sent = $('sent');
  sent.className = '';
  try {
    const topic = $('to').value;
    const row = await ($('as').value === 'schema' ? sendWithSchema : sendBytes)(topic);
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

const format = () => (view?.decoded ? 'auto' : 'json');

function followAsCurl() {
  return `curl -N '${location.origin}${path($('topic').value)}/stream?format=${format()}&offset=${begin()}'`;
}

function followAsJs() {
  return `import { stream } from 'kafka-gateway-client/stream';

const options = { format: '${format()}', offset: ${JSON.stringify(begin())} };
for await (const record of stream(${JSON.stringify(location.origin)}, ${JSON.stringify($('topic').value)}, options)) console.log(record);
`;
}

function produceAsCurl() {
  if ($('as').value === 'schema') {
    return `curl -X POST ${location.origin}${v3($('to').value)} -H 'Content-Type: application/json' -d ${quoted(schemaRecord())}`;
  }
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

const KEPT = ['topic', 'from', 'filter', 'via', 'show'];

function remember() {
  const kept = new URLSearchParams(KEPT.map((name) => [name, $(name).value]).filter(([, value]) => value));
  history.replaceState(null, '', `#${kept}`);
}

function restore() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of KEPT) if (kept.has(name)) $(name).value = kept.get(name);
  $('to').value = $('topic').value;
}

async function look(what, everyMs = LOOK_MS) {
  while (true) {
    if (!document.hidden) {
      try {
        await what();
      } catch (error) {
        console.debug(error); // the state line tells that the gateway is away
      }
    }
    await wait(everyMs);
  }
}

for (const button of document.querySelectorAll('button[id^=copy]')) button.dataset.label = button.textContent;
$('find').oninput = listTopics;
$('filter').oninput = () => (filterAgain(), remember());
$('via').onchange = () => (remember(), open(), void follow());
$('follow-form').onsubmit = (event) => (event.preventDefault(), void follow());
$('show').onchange = () => void follow();
$('groups-open').ontoggle = () => void admin.look();
$('settings').ontoggle = () => void admin.settings($('topic').value);
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

useSchemas((where) => get(where, 'application/json'));
restore();
open();
void look(lookAtTopics);
void look(lookAtClients);
void look(admin.look, GROUPS_MS);
if ($('topic').value) void follow();
