// The status page: asks the API, and shows what it says.
//
// Nothing that comes from the API is ever read as HTML: it becomes text nodes, and characters that can't be seen are
// written out. While the page is hidden it asks rarely.
'use strict';

const byId = (id) => document.getElementById(id);
const PAGE_ROWS = 50;
const state = {
  ahead: -Infinity, // the exporter's clock less the browser's, seconds
  targets: { q: '', offset: 0, limit: PAGE_ROWS },
  scripts: { q: '', offset: 0, limit: PAGE_ROWS, sort: 'total', order: 'desc' },
  slow: { offset: 0, limit: 20 },
  open: new Set(), // scripts whose details are shown
  blocked: new Map(), // target → card
  old: false, // the targets could not be read lately
};

// ---- text ----------------------------------------------------------------------------------------------------------

const hex = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;
/** Text with what can't be seen written out: control characters, and marks that turn the direction of writing around. */
const visible = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, hex);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0.000995) return `${Number((seconds * 1e6).toPrecision(2))} µs`;
  if (seconds < 0.0995) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 9.95) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}
/** A running clock: 0:07, 12:07, 1:12:07. */
function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}
const now = () => Date.now() / 1000 + state.ahead;
const count = (n) => n.toLocaleString('en');
const many = (n, one, more) => `${count(n)} ${n === 1 ? one : more}`;
function when(unix) {
  const date = new Date(unix * 1000);
  const today = new Date(now() * 1000).toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}
function ago(unix) {
  const seconds = Math.max(0, now() - unix);
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

// ---- document ------------------------------------------------------------------------------------------------------

const SVG = 'http://www.w3.org/2000/svg';
/** An element; children are elements or text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  return fill(made, attributes, children);
}
function drawn(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}
function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'onclick') made.addEventListener('click', value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}
/** Text that came from outside, apart from what stands around it. */
const foreign = (text, name = 'bdi', attributes = {}) => element(name, { dir: 'auto', ...attributes }, visible(text));

/** Puts new content into a place, unless it is the same; keeps the focus on the element with the same data-key. */
function replace(place, ...content) {
  const next = element('div', {}, ...content);
  const same = next.childNodes.length === place.childNodes.length && [...next.childNodes].every((node, index) => node.isEqualNode(place.childNodes[index]));
  if (same) return;
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  place.replaceChildren(...next.childNodes);
  if (key) [...place.querySelectorAll('[data-key]')].find((one) => one.dataset.key === key)?.focus({ preventScroll: true });
}

function cell(label, attributes, ...content) {
  return element('td', { role: 'cell', 'data-label': label, ...attributes }, ...content);
}
function table(title, heads, rows) {
  return element('table', { role: 'table', 'aria-label': title },
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, ...heads)),
    element('tbody', { role: 'rowgroup' }, ...rows));
}
const head = (text, attributes = {}) => element('th', { role: 'columnheader', scope: 'col', ...attributes }, text);

function pager(answer, query, refresh, what) {
  if (answer.total <= answer.limit) return null;
  const turn = (by) => () => {
    query.offset = Math.max(0, query.offset + by * query.limit);
    refresh();
  };
  const button = (text, by, off) => element('button', { type: 'button', onclick: turn(by), 'data-key': `${what} ${text}`, disabled: off ? '' : null }, text);
  const last = Math.min(answer.offset + answer.limit, answer.total);
  return element('div', { class: 'pager' },
    button('Previous', -1, answer.offset === 0),
    element('span', {}, `${count(answer.offset + 1)}–${count(last)} of ${count(answer.total)} ${what}`),
    button('Next', 1, last >= answer.total));
}

// ---- what is blocked -----------------------------------------------------------------------------------------------

const MOST_CARDS = 10;

function headline({ target, blocked }) {
  const name = visible(target);
  return blocked.busy ? `${name} is BUSY with a ${blocked.kind}` : `${name} is blocked and answers nothing`;
}

async function copy(text, button) {
  try {
    if (!navigator.clipboard) throw new Error('no clipboard without HTTPS');
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element('textarea', { readonly: '', 'aria-hidden': 'true', class: 'unseen' });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
    button.focus();
  }
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
}

function card(row) {
  const { target, blocked } = row;
  const runs = element('p', { class: 'runs' });
  if (blocked.script) {
    runs.append(`Running: the ${blocked.kind ?? 'script'} `, foreign(blocked.script, 'strong', { class: 'mono' }));
    if (blocked.sha1) runs.append(' ', foreign(blocked.sha1, 'span', { class: 'quiet mono' }));
  } else if (blocked.busy) {
    runs.append('Which one is not known while it runs. The server’s own log names it: look for “still in execution” (or give the exporter --redis.log-file).');
  } else {
    runs.append('What runs is not known yet.');
  }
  const kills = blocked.kill.map((kill) => {
    const button = element('button', { type: 'button', class: 'copy', 'data-key': `copy ${target} ${kill.command}`, 'aria-label': `Copy the command for ${kill.command} on ${visible(target)}` }, 'Copy');
    button.addEventListener('click', () => copy(kill.shell, button));
    return element('div', { class: 'kill' }, element('code', {}, visible(kill.shell)), button);
  });
  return element('article', { class: 'banner' },
    element('h2', {}, foreign(headline(row))),
    element('p', {}, element('span', { class: 'time', role: 'timer', 'data-since': blocked.since }, clock(now() - blocked.since)),
      element('span', { class: 'since' }, `since ${when(blocked.since)}`)),
    runs,
    kills.length ? element('p', {}, kills.length > 1 ? 'To end it, whichever of the two it is:' : 'To end it:') : null,
    ...kills,
    element('p', {}, visible(blocked.advice)));
}

function showBlocked(answer) {
  const rows = answer.targets.filter((row) => row.blocked);
  const total = Object.entries(answer.summary.states).reduce((sum, [name, n]) => sum + (/^(blocked|busy_)/.test(name) ? n : 0), 0);
  const place = byId('blocked');
  const wanted = new Map();
  for (const row of rows.slice(0, MOST_CARDS)) {
    const key = JSON.stringify([row.target, { ...row.blocked, since: Math.round(row.blocked.since) }]);
    const before = state.blocked.get(row.target);
    wanted.set(row.target, before?.key === key ? before : { key, card: card(row) });
  }
  const cards = [...wanted.values()].map((one) => one.card);
  const rest = total - cards.length;
  if (rest > 0) cards.push(element('p', { class: 'banner' }, `${many(rest, 'more target is', 'more targets are')} blocked; see the list below.`));
  const same = cards.length === place.children.length && rest <= 0 && cards.every((one, index) => place.children[index] === one);
  if (!same) {
    const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    place.replaceChildren(...cards);
    if (key) [...place.querySelectorAll('[data-key]')].find((one) => one.dataset.key === key)?.focus({ preventScroll: true });
  }
  state.blocked = wanted;
  const names = rows.slice(0, 3).map(headline).join('; ');
  const announcement = byId('announcement');
  if (announcement.textContent !== names) announcement.textContent = names;
  const { level, text, details } = answer.summary.headline;
  const lead = visible(text);
  if (total) showTab(`${total > 1 ? `${total} targets` : visible(rows[0]?.target ?? '1 target')} BLOCKED`, 'blocked.svg');
  else if (level === 'ok') showTab('', 'idle.svg');
  else showTab(lead.replace(/\.$/, ''), level === 'down' ? 'down.svg' : 'unknown.svg');
  const overview = byId('overview');
  overview.hidden = false;
  if (overview.className !== `overview ${level}`) overview.className = `overview ${level}`;
  replace(overview, element('strong', {}, lead), ` ${visible(details)}`);
}

/** Sets the tab's title, which ends with the program's name, and its icon. */
function showTab(text, icon) {
  const title = text ? `${text} – redis-script-exporter` : 'redis-script-exporter';
  if (document.title !== title) document.title = title;
  if (byId('icon').getAttribute('href') !== icon) byId('icon').setAttribute('href', icon);
}

// ---- what hides the truth ------------------------------------------------------------------------------------------

function showProblems({ summary }) {
  const { worst_problems: problems, more_problems: more } = summary;
  const shown = problems.map(({ weight, text, targets, names }) => element('li', { class: weight },
    element('span', { class: 'where' }, ...names.flatMap((name, index) => [index ? ', ' : '', foreign(name)]),
      targets > names.length ? ` and ${count(targets - names.length)} more` : ''), ': ', visible(text)));
  if (more) shown.push(element('li', {}, `${count(more)} more; the list of targets says how many each has.`));
  byId('hidden-truth').hidden = problems.length === 0;
  replace(byId('problems'), ...shown);
}

// ---- targets -------------------------------------------------------------------------------------------------------

const STATES = {
  ok: ['answers', 'ok'], blocked: ['blocked', 'bad'], busy_script: ['BUSY: script', 'bad'], busy_function: ['BUSY: function', 'bad'],
  busy_module: ['BUSY: module', 'bad'], loading: ['loading', 'warning'], unauthorized: ['not accepted', 'down'],
  unreachable: ['unreachable', 'down'], untried: ['not tried yet', ''],
};

function targetRow(row) {
  const [word, kind] = STATES[row.state] ?? [row.state, ''];
  const server = row.server;
  const last = row.last_blockage;
  const notes = row.problems.length ? many(row.problems.length, 'thing hides the truth', 'things hide the truth') : '';
  return element('tr', { role: 'row' },
    cell('Target', { class: 'name' }, foreign(row.target), row.probed ? element('span', { class: 'quiet' }, ' probed') : null),
    cell('State', {}, element('span', {}, element('span', { class: `chip ${kind}` }, word),
      row.since ? element('span', { class: 'quiet' }, ` since ${when(row.since)}`) : null)),
    cell('Server', {}, element('span', {}, server ? foreign([server.name, server.version, server.role].filter(Boolean).join(' ')) : '–')),
    cell('Slow calls', { class: 'number' }, element('span', {}, count(row.slow_calls.warning),
      row.slow_calls.critical ? element('span', { class: 'quiet' }, ` (${count(row.slow_calls.critical)} critical)`) : null)),
    cell('Last blockage', {}, last ? element('span', {}, `${duration(last.seconds)}, ${ago(last.since + last.seconds)}, by `, last.script ? foreign(last.script) : last.cause) : '–'),
    cell('Notes', {}, notes || '–'));
}

function showTargets(answer) {
  const refresh = () => ask('targets');
  const body = answer.targets.length
    ? table('Targets', ['Target', 'State', 'Server'].map((text) => head(text)).concat(head('Slow calls', { class: 'number' }), head('Last blockage'), head('Notes')), answer.targets.map(targetRow))
    : element('p', { class: 'empty' }, answer.summary.targets ? 'No target has this in its name.' : 'There are no targets yet.');
  replaceTable('targets', answer, body, pager(answer, state.targets, refresh, 'targets'));
}

/** A table holds listeners, so it is compared by what it was made of. */
const made = {};
function replaceTable(id, basis, ...content) {
  const key = JSON.stringify({ ...basis, now: 0, minute: Math.floor(now() / 60), open: [...state.open] });
  if (made[id] === key) return;
  made[id] = key;
  const place = byId(id);
  const focus = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  place.replaceChildren(...content.filter(Boolean));
  if (focus) [...place.querySelectorAll('[data-key]')].find((one) => one.dataset.key === focus)?.focus({ preventScroll: true });
}

// ---- scripts -------------------------------------------------------------------------------------------------------

const COLUMNS = [
  ['script', 'Script'], ['total', 'Total time'], ['calls', 'Calls'], ['p99', 'p99'], ['longest', 'Longest'], ['last_seen', 'Last seen'],
];

function sortHead([key, text]) {
  const query = state.scripts;
  const active = query.sort === key;
  const sort = () => {
    query.order = active && query.order === 'desc' ? 'asc' : 'desc';
    if (!active && key === 'script') query.order = 'asc';
    query.sort = key;
    query.offset = 0;
    ask('scripts');
  };
  return element('th', { role: 'columnheader', scope: 'col', class: key === 'script' || key === 'last_seen' ? 'sortable' : 'sortable number', 'aria-sort': active ? (query.order === 'desc' ? 'descending' : 'ascending') : null },
    element('button', { type: 'button', onclick: sort, 'data-key': `sort ${key}` }, text));
}

/** Calls by duration: a bar for each bucket, its height by the logarithm of the calls. */
function chart(row) {
  const width = 6;
  const most = Math.max(...row.buckets.map((bucket) => bucket.calls), 1);
  const bars = row.buckets.flatMap(({ le, calls }, index) => {
    if (!calls) return [];
    const height = 3 + (25 * Math.log1p(calls)) / Math.log1p(most);
    const bound = le === null ? 'longer than all bounds' : `up to ${duration(le)}`;
    return [drawn('rect', { x: index * width, y: 28 - height, width: width - 1, height, class: le === null || le > 1 ? 'slow' : null },
      drawn('title', {}, `${bound}: ${many(calls, 'call', 'calls')}`))];
  });
  const total = row.buckets.length * width;
  const spoken = row.buckets.filter((bucket) => bucket.calls).map(({ le, calls }) => `${le === null ? 'longer' : `up to ${duration(le)}`}: ${count(calls)}`).join(', ');
  return drawn('svg', { class: 'chart', viewBox: `0 0 ${total} 30`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `Calls by duration: ${spoken}` },
    drawn('line', { x1: 0, y1: 29, x2: total, y2: 29 }), ...bars);
}

function callerText({ client, client_name: name, calls_at_least: least, calls_at_most: most }) {
  return element('li', {}, foreign(name ?? client ?? 'unknown', 'strong'), name && client ? ' at ' : '', name && client ? foreign(client) : '',
    `: ${least === most ? many(least, 'call', 'calls') : `${count(least)} to ${count(most)} calls`}`);
}

function details(row, id) {
  const list = element('dl', {});
  const add = (term, ...content) => list.append(element('dt', {}, term), element('dd', {}, ...content));
  if (row.sha1) add('SHA1', foreign(row.sha1, 'code'));
  add('Called by', row.commands.map((command) => command.toUpperCase()).join(', '));
  add('Slow calls', `${count(row.slow_calls.warning)}, of them ${count(row.slow_calls.critical)} critical`);
  add('First seen', when(row.first_seen));
  add('Targets', element('ul', {}, ...row.targets.map(({ target, calls }) => element('li', {}, foreign(target), `: ${many(calls, 'call', 'calls')}`)),
    row.targets_total > row.targets.length ? element('li', {}, `and ${count(row.targets_total - row.targets.length)} more`) : null));
  add('Callers', row.callers.length
    ? element('ul', {}, ...row.callers.map(callerText), row.more_callers ? element('li', {}, 'and others with fewer calls') : null)
    : (state.clients === false ? 'hidden by --web.hide-clients' : 'not known'));
  if (typeof row.source === 'string') add('Source', element('pre', { tabindex: '0', 'data-key': `source ${row.script}` }, row.source.split('\n').slice(0, 12).map(visible).join('\n')));
  return element('tr', { role: 'row', class: 'detail', id }, element('td', { role: 'cell', colspan: 7 }, list));
}

function scriptRows(row, index) {
  const open = state.open.has(row.script);
  const id = `details-${index}`;
  const toggle = () => {
    if (open) state.open.delete(row.script); else state.open.add(row.script);
    if (last.scripts) showScripts(last.scripts);
  };
  const name = element('button', { type: 'button', class: 'more mono', 'aria-expanded': String(open), 'aria-controls': open ? id : null, onclick: toggle, 'data-key': `script ${row.script}` }, foreign(row.script));
  const main = element('tr', { role: 'row' },
    cell('Script', { class: 'name' }, name),
    cell('Total time', { class: 'number' }, duration(row.total_seconds)),
    cell('Calls', { class: 'number' }, count(row.calls)),
    cell('p99', { class: 'number' }, duration(row.p99_seconds)),
    cell('Longest', { class: 'number' }, duration(row.longest_seconds)),
    cell('Last seen', {}, ago(row.last_seen)),
    cell('Durations', {}, chart(row)));
  return open ? [main, details(row, id)] : [main];
}

function showScripts(answer) {
  const body = answer.scripts.length
    ? table('Scripts', [...COLUMNS.map(sortHead), head('Durations')], answer.scripts.flatMap(scriptRows))
    : element('p', { class: 'empty' }, state.scripts.q ? 'No script has this in its name.' : 'No script call has been found in a slow log since the exporter began to watch.');
  replaceTable('scripts', { ...answer, sort: state.scripts.sort, order: state.scripts.order }, body, pager(answer, state.scripts, () => ask('scripts'), 'scripts'));
}

// ---- calls ---------------------------------------------------------------------------------------------------------

function callRow(call) {
  const who = [call.client_name && foreign(call.client_name), call.client && foreign(call.client, 'bdi', { class: 'quiet' })].filter(Boolean);
  return element('tr', { role: 'row' },
    cell('Script', { class: 'name mono' }, foreign(call.script)),
    cell('Ended', {}, when(call.ended_at)),
    cell('Ran for', { class: 'number' }, duration(call.duration_seconds)),
    cell('Severity', {}, element('span', {}, element('span', { class: `chip ${call.severity === 'critical' ? 'bad' : 'warning'}` }, call.severity))),
    cell('Command', {}, call.command.toUpperCase()),
    cell('Target', {}, foreign(call.target)),
    cell('Client', {}, element('span', {}, ...(who.length ? who.flatMap((one, index) => [index ? ' ' : '', one]) : ['–']))),
    cell('Keys', {}, element('span', {}, call.keys?.length ? call.keys.flatMap((key, index) => [index ? ', ' : '', foreign(key)]).reduce((all, one) => (all.append(one), all), element('span')) : '', call.keys?.length ? element('span', { class: 'quiet' }, ` of ${count(call.key_count ?? 0)}`) : call.key_count === null ? '–' : count(call.key_count))));
}

function showSlow(answer) {
  const heads = [head('Script'), head('Ended'), head('Ran for', { class: 'number' }), head('Severity'), head('Command'), head('Target'), head('Client'), head('Keys')];
  const body = answer.calls.length ? table('Latest slow calls', heads, answer.calls.map(callRow))
    : element('p', { class: 'empty' }, 'No slow call since the exporter was started.');
  const more = answer.more && state.slow.limit < 500
    ? element('div', { class: 'pager' }, element('button', { type: 'button', 'data-key': 'more calls', onclick: () => { state.slow.limit = Math.min(500, state.slow.limit * 2); ask('slow'); } }, 'Show more')) : null;
  replaceTable('calls', answer, body, more);
}

// ---- asking --------------------------------------------------------------------------------------------------------

const last = {};
const shown = {
  targets(answer) {
    state.clients = answer.shows.clients;
    if (!state.targets.q && state.targets.offset === 0) { showBlocked(answer); showProblems(answer); }
    showTargets(answer);
  },
  scripts: showScripts,
  slow: showSlow,
};
const asked = { targets: 0, scripts: 0, slow: 0 };
const failures = { targets: 0, scripts: 0, slow: 0 }; // in a row
const OLD_AFTER = 15; // seconds without an answer; a hidden page asks rarely
let answered = Date.now() / 1000; // when the targets were last read, by the browser's clock
let reason = ''; // of the latest failure

/** Says when what is shown is old. Then the headline goes, from the tab's title and icon too: what holds now is not known. */
function showAge() {
  state.old = failures.targets > 1 || (!document.hidden && Date.now() / 1000 - answered > OLD_AFTER);
  const failing = state.old || failures.scripts > 1 || failures.slow > 1;
  const why = reason ? ` (${visible(reason)})` : '';
  const text = failing ? `The exporter does not answer${why}. What is shown here is old; trying again.` : '';
  const stale = byId('stale');
  if (stale.textContent !== text) stale.textContent = text;
  stale.hidden = !failing;
  document.body.classList.toggle('old', state.old);
  if (!state.old) return;
  byId('overview').hidden = true;
  showTab('No answer', 'unknown.svg');
}

async function fetched(path, query) {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ''));
  const response = await fetch(`api/v1/${path}?${parameters}`, { cache: 'no-cache', signal: AbortSignal.timeout(10000) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `status ${response.status}`);
  return answer;
}

/** Asks for one list and shows it. An answer that was overtaken by a newer question is thrown away. */
async function ask(what) {
  const number = ++asked[what];
  try {
    const answer = await fetched(what, state[what]);
    // What is blocked has to be seen whatever part of the list is looked at.
    const away = what === 'targets' && (state.targets.q || state.targets.offset > 0);
    const first = away ? await fetched('targets', { limit: PAGE_ROWS }) : null;
    if (number !== asked[what]) return;
    // An answer that has not changed comes with the time at which it was first given: only the latest one counts.
    state.ahead = Math.max(state.ahead, answer.now - Date.now() / 1000);
    last[what] = answer;
    failures[what] = 0;
    if (what === 'targets') answered = Date.now() / 1000;
    if (!Object.values(failures).some(Boolean)) reason = '';
    showAge();
    for (const part of document.querySelectorAll('.needs-script[hidden]')) part.hidden = false;
    if (first) { showBlocked(first); showProblems(first); }
    shown[what](answer);
  } catch (problem) {
    if (number !== asked[what]) return;
    failures[what] += 1;
    reason = problem.message;
    showAge();
  }
}

function repeat(what, seconds) {
  const next = async () => {
    await ask(what);
    setTimeout(next, (document.hidden ? Math.max(seconds, 10) : seconds * Math.min(1 + failures[what], 10)) * 1000);
  };
  next();
}

function search(id, what) {
  let timer;
  byId(id).addEventListener('input', (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      state[what].q = event.target.value.trim().slice(0, 200);
      state[what].offset = 0;
      ask(what);
    }, 200);
  });
}

search('targets-search', 'targets');
search('scripts-search', 'scripts');
repeat('targets', 1);
repeat('scripts', 3);
repeat('slow', 2);
setInterval(() => {
  showAge();
  if (state.old) return;
  for (const timer of document.querySelectorAll('[data-since]')) timer.textContent = clock(now() - Number(timer.dataset.since));
}, 250);
document.addEventListener('visibilitychange', () => { if (!document.hidden) { ask('targets'); ask('scripts'); ask('slow'); } });
