// What v3 of the REST API tells: consumer groups and how far behind they are, and the settings of a topic.
// Nothing is asked while nobody looks: both are closed until they are opened.
const SUMMED = 25; // groups in view whose lag is asked for at a time
const LINES = 500; // of a list
const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString('en');

function line(...contents) {
  const made = document.createElement('tr');
  for (const content of contents) {
    const cell = document.createElement('td');
    cell.append(content);
    made.append(cell);
  }
  return made;
}

function note(id, words, bad = false) {
  $(id).textContent = words;
  $(id).className = bad ? 'bad' : '';
}

// `get` asks the gateway for the JSON at a path.
export function administration(get) {
  let cluster; // the path of the cluster, when it is known
  let chosen = ''; // the group whose partitions are shown
  let groups = [];
  const behind = new Map(); // group → its lag summary; null for one that has committed nothing

  async function ask(path) {
    cluster ??= `/v3/clusters/${encodeURIComponent((await get('/v3/clusters')).data[0].cluster_id)}`;
    return get(cluster + path);
  }

  const of = (group) => `/consumer-groups/${encodeURIComponent(group)}`;

  function row({ consumer_group_id: name, state, type, is_simple: simple }) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'opener';
    button.textContent = name;
    button.setAttribute('aria-expanded', String(name === chosen));
    button.onclick = () => {
      chosen = name === chosen ? '' : name;
      draw();
      void lags();
    };
    const lag = behind.get(name);
    const where = lag && lag.max_lag > 0 ? `${lag.max_lag_topic_name} / ${lag.max_lag_partition_id}: ${number(lag.max_lag)}` : '';
    return line(button, state.toLowerCase().replace('_', ' '), simple ? 'offsets only' : type.toLowerCase(), lag ? number(lag.total_lag) : lag === null ? '–' : '', where);
  }

  function draw() {
    const focused = document.activeElement?.closest('#group-rows button')?.textContent;
    const rows = groups.slice(0, LINES).map(row);
    $('group-rows').replaceChildren(...rows);
    if (focused) rows.find((one) => one.firstChild.textContent === focused)?.querySelector('button').focus();
    $('lags').hidden = chosen === '';
  }

  async function lags() {
    if (chosen === '') return;
    const group = chosen;
    let rows = [];
    try {
      rows = (await ask(`${of(group)}/lags`)).data;
      note('lags-note', `${group}, the furthest behind first`);
    } catch (error) {
      note('lags-note', `${group}: ${error.message}`, true);
    }
    if (group !== chosen) return;
    const shown = rows.slice(0, LINES);
    $('lag-rows').replaceChildren(
      ...shown.map((one) => line(`${one.topic_name} / ${one.partition_id}`, number(one.current_offset), number(one.log_end_offset), number(one.lag), one.client_id || 'nobody')),
    );
  }

  // The groups, with the lag of those in view, and the partitions of the one that is chosen.
  async function look() {
    if (!$('groups-open').open) return;
    try {
      groups = (await ask('/consumer-groups')).data;
      note('groups-note', groups.length === 0 ? 'No group has committed anything, or has members.' : '');
    } catch (error) {
      cluster = undefined; // it may be another one by now
      note('groups-note', error.message, true);
      return;
    }
    draw();
    const seen = ({ top, bottom }) => bottom > 0 && top < innerHeight;
    const inView = [...$('group-rows').children].filter((one) => seen(one.getBoundingClientRect())).slice(0, SUMMED);
    await Promise.all(
      inView.map(async (one) => {
        const name = one.firstChild.textContent;
        behind.set(name, await ask(`${of(name)}/lag-summary`).catch(() => null));
      }),
    );
    draw();
    await lags();
  }

  // The settings of a topic: its own come first, then those of its brokers.
  async function settings(topic) {
    if (!$('settings').open) return;
    $('setting-rows').replaceChildren();
    if (!topic) return note('settings-note', 'Choose a topic.');
    try {
      const found = (await ask(`/topics/${encodeURIComponent(topic)}/configs`)).data;
      const rank = (one) => (one.source === 'DYNAMIC_TOPIC_CONFIG' ? 0 : one.is_default ? 2 : 1);
      const sorted = [...found].sort((a, b) => rank(a) - rank(b));
      note('settings-note', topic);
      $('setting-rows').replaceChildren(...sorted.map((one) => line(one.name, one.value ?? '(secret)', one.source.toLowerCase().replaceAll('_', ' '))));
    } catch (error) {
      cluster = undefined;
      note('settings-note', error.message, true);
    }
  }

  return { look, settings };
}
