// Records as they came, and what is made of them: short texts for rows, whole ones to search, to open and to save.
import { fromBase64 } from './kafka-gateway.mjs';

const SHORT = 1000; // characters of a key or value in a row
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder();

// A key, value or value of a header, from base64: its bytes, and its text if it is text.
function decode(data) {
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

export const size = ({ key, value, headers }) =>
  (key?.length ?? 0) + (value?.length ?? 0) + (headers ?? []).reduce((sum, one) => sum + one.name.length + (one.value?.length ?? 0), 200);

// Whether the word, in lower case, stands anywhere in the whole record.
export function matches(record, word) {
  if (word === '') return true;
  const has = (data) => data !== null && data !== undefined && lenient.decode(fromBase64(data)).toLowerCase().includes(word);
  return has(record.key) || has(record.value) || (record.headers ?? []).some(({ name, value }) => name.toLowerCase().includes(word) || has(value));
}

// A member for the text, or one that says that it is base64.
function member(name, data) {
  if (data === null || data === undefined) return { [name]: null };
  const { text } = decode(data);
  return text === undefined ? { [`${name}_base64`]: data } : { [name]: text };
}

// The whole record as a line of JSON.
export function exported({ topic, partition, offset, timestamp, key, value, headers }) {
  const listed = (headers ?? []).map((one) => ({ name: one.name, ...member('value', one.value) }));
  return JSON.stringify({ topic, partition, offset, timestamp, ...member('key', key), ...member('value', value), headers: listed });
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
export function whole({ topic, partition, offset, timestamp, key, value, headers }) {
  const full = (data) => {
    if (data === null || data === undefined) return '(null)';
    const { bytes, text } = decode(data);
    return text === undefined ? `not text · ${bytes.length} B · base64: ${data}` : indented(text);
  };
  const time = timestamp === undefined ? 'none' : `${new Date(timestamp).toISOString()} (${timestamp})`;
  const listed = (headers ?? []).map((one) => [`header ${one.name}`, full(one.value)]);
  return [['place', `${topic}, partition ${partition} @${offset}`], ['timestamp', time], ...listed, ['key', full(key)], ['value', full(value)]];
}
