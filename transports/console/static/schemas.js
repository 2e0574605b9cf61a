// Producing with the schema of a subject: which there are, what it says, and the record as v3 takes it.
import { indented } from './records.js';

const $ = (id) => document.getElementById(id);

let ask; // path → its JSON
let chosen; // the schema of the subject, as the gateway tells it

// Wires the form. `get` answers paths of the gateway.
export function useSchemas(get) {
  ask = get;
  $('as').onchange = $('subject').onchange = () => void showSchema();
  $('to').addEventListener('change', () => void showSchema());
}

function note(words, bad = false) {
  $('schema-note').textContent = words;
  $('schema-note').className = bad ? 'bad' : '';
}

// The schema of the subject in the field, or of the topic's values while it is empty or was of another topic.
export async function showSchema() {
  const on = $('as').value === 'schema';
  $('with-schema').hidden = !on;
  if (!on) return;
  const usual = `${$('to').value}-value`;
  if ($('subject').value === '' || $('subject').dataset.usual === $('subject').value) $('subject').value = usual;
  $('subject').dataset.usual = usual;
  const subject = $('subject').value;
  chosen = undefined;
  $('schema').textContent = '';
  note('asking the registry …');
  try {
    const known = await ask('/console/subjects');
    $('subjects').replaceChildren(...known.map((name) => new Option(name)));
    const found = await ask(`/console/schema?subject=${encodeURIComponent(subject)}`);
    if (subject !== $('subject').value) return; // another one was chosen meanwhile
    chosen = found;
    note(`${found.name || found.format} · ${found.format} · version ${found.version} · id ${found.id}`);
    $('schema').textContent = indented(found.schema);
  } catch (error) {
    note(error.message, true);
  }
}

// The record of the form. The value is put in as it is written: its numbers keep their digits.
export function schemaRecord() {
  if (!chosen) throw new Error('Choose a subject that the registry has.');
  const value = $('value').value;
  JSON.parse(value);
  const { subject, version } = chosen;
  const made = {
    partition_id: $('partition').value === '' ? undefined : Number($('partition').value),
    key: $('key').value === '' ? undefined : { type: 'STRING', data: $('key').value },
  };
  const schema = JSON.stringify({ subject, schema_version: version });
  const rest = JSON.stringify(made).slice(1, -1);
  return `{${rest}${rest && ','}"value":${schema.slice(0, -1)},"data":${value}}}`;
}
