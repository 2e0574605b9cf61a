// Records as they came, and what is made of them: short texts for rows, whole ones to search, to open and to save.
import { fromBase64 } from './kafka-gateway.mjs';

const SHORT = 1000; // characters of a key or value in a row
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder();

// Reads JSON; numbers that JavaScript cannot hold keep their digits, where the browser is able to.
const exactly = (name, value, context) =>
  typeof value === 'number' && JSON.rawJSON && String(value) !== context?.source ? JSON.rawJSON(context.source) : value;
export const parse = (text) => JSON.parse(text, exactly);

// Whether the gateway may know what the bytes mean: they begin with the id of a schema, or a header holds it.
const framed = (data) => /^A[A-P].{6}/.test(data ?? '');
export const hasSchema = ({ key, value, headers }) =>
  framed(value) || framed(key) || (headers ?? []).some(({ name }) => /^__(key|value)_schema_id$/.test(name));

// A record of a stream with format=auto: what was decoded becomes its text.
export function ofAuto(record) {
  for (const part of ['key', 'value']) {
    if (record[part] !== null && record[`${part}_format`] !== 'binary') record[part] = { text: JSON.stringify(record[part]) };
  }
  return record;
}

// What a schema is called, and the whole of what is known of it.
export const schemaName = (schema) => schema && (schema.name ?? schema.subject ?? `schema ${schema.id}`);
const schemaShown = ({ id, name, subject, version }, format) =>
  [name, subject && `subject ${subject}, version ${version}`, `id ${id}`, format].filter(Boolean).join(' · ');

// A key, value or value of a header: its bytes, and its text if it is text. It is in base64, or has been decoded.
function decode(data) {
  if (typeof data === 'object') return data;
  const bytes = fromBase64(data);
  try {
    const text = strict.decode(bytes);
    // eslint-disable-next-line no-control-regex
    if (!/[\u0000-\u0008\u000e-\u001f]/.test(text)) return { bytes, text };
  } catch {
    // it is no text
  }
  return { bytes };
}

// As people read it in a row; what is no text is shown as bytes, and says so.
export function shown(data) {
  if (data === null || data === undefined) return { odd: true, text: '(null)' };
  const { bytes, text } = decode(data);
  if (text !== undefined) return { odd: false, text: text.length > SHORT ? `${text.slice(0, SHORT)}…` : text };
  const hex = [...bytes.slice(0, 64)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return { odd: true, text: `not text · ${bytes.length} B · ${hex}${bytes.length > 64 ? ' …' : ''}` };
}

export const shownHeaders = (record) => (record.headers ?? []).map(({ name, value }) => `${name}: ${shown(value).text}`).join('\n');

const long = (data) => (data?.text ?? data ?? '').length;

export const size = ({ key, value, headers }) =>
  long(key) + long(value) + (headers ?? []).reduce((sum, one) => sum + one.name.length + (one.value?.length ?? 0), 200);

// Whether the word, in lower case, stands anywhere in the whole record.
export function matches(record, word) {
  if (word === '') return true;
  const has = (data) => data !== null && data !== undefined && (data.text ?? lenient.decode(fromBase64(data))).toLowerCase().includes(word);
  const named = (schema) => (schemaName(schema) ?? '').toLowerCase().includes(word);
  return has(record.key) || has(record.value) || named(record.key_schema) || named(record.value_schema) || (record.headers ?? []).some(({ name, value }) => name.toLowerCase().includes(word) || has(value));
}

// A member for the text, or one that says that it is base64.
function member(name, data) {
  if (data === null || data === undefined) return { [name]: null };
  const { text } = decode(data);
  return text === undefined ? { [`${name}_base64`]: data } : { [name]: text };
}

// The whole record as a line of JSON.
export function exported({ topic, partition, offset, timestamp, key, value, headers, key_schema, value_schema }) {
  const listed = (headers ?? []).map((one) => ({ name: one.name, ...member('value', one.value) }));
  return JSON.stringify({ topic, partition, offset, timestamp, ...member('key', key), ...member('value', value), headers: listed, key_schema, value_schema });
}

// JSON indented; numbers and strings stay as they are written. Anything else as it is.
export function indented(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let out = '';
  let depth = 0;
  const line = () => `\n${'  '.repeat(depth)}`;
  for (const [part] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{[]\s*[}\]]|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (part === '{' || part === '[') {
      depth += 1;
      out += part + line();
    } else if (part === '}' || part === ']') {
      depth -= 1;
      out += line() + part;
    } else if (part === ',') out += part + line();
    else if (part === ':') out += ': ';
    else out += /^[{[]/.test(part) ? part.replace(/\s/g, '') : part;
  }
  return out;
}

// Names and whole texts of everything that a record holds.
export function whole({ topic, partition, offset, timestamp, key, value, headers, ...more }) {
  const full = (data) => {
    if (data === null || data === undefined) return '(null)';
    const { bytes, text } = decode(data);
    return text === undefined ? `not text · ${bytes.length} B · base64: ${data}` : indented(text);
  };
  const time = timestamp === undefined ? 'none' : `${new Date(timestamp).toISOString()} (${timestamp})`;
  const part = (name, data) => {
    const schema = more[`${name}_schema`];
    return [...(schema ? [[`${name} schema`, schemaShown(schema, more[`${name}_format`])]] : []), [name, full(data)]];
  };
  const listed = (headers ?? []).map((one) => [`header ${one.name}`, full(one.value)]);
  return [['place', `${topic}, partition ${partition} @${offset}`], ['timestamp', time], ...listed, ...part('key', key), ...part('value', value)];
}
