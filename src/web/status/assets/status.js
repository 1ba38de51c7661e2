// Status page: polls the API and renders its responses.
//
// API data is never parsed as HTML: it becomes text nodes, with invisible characters escaped. A hidden page polls less often.
'use strict';

const byId = (id) => document.getElementById(id);
const PAGE_ROWS = 50;
const MAX_CALLS = 500;
const state = {
  clockOffset: -Infinity, // exporter clock minus browser clock, seconds
  targets: { q: '', offset: 0, limit: PAGE_ROWS },
  scripts: { q: '', offset: 0, limit: PAGE_ROWS, sort: 'total', order: 'desc' },
  slow: { offset: 0, limit: 20 },
  expanded: new Set(), // scripts whose details are shown
  banners: new Map(), // target → banner of its blockage
  stale: false, // true if the targets could not be fetched recently
};

// ---- formatting ----------------------------------------------------------------------------------------------------

const escapeCharacter = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;
/** Escapes invisible characters and those that change the direction of text. */
const visible = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}\p{DI}]/gu, escapeCharacter);

/** Formats a duration in its two largest units. Truncates, so that a unit is never full ("60 s"). */
function formatDuration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const micros = Math.round(seconds * 1e6);
  if (micros === 0) return '0 s';
  if (micros < 1000) return `${micros} µs`;
  if (micros < 1e6) return `${Math.floor(micros / 1000)} ms`;
  if (micros < 10e6) return `${Math.floor(micros / 1e4) / 100} s`;
  if (micros < 60e6) return `${Math.floor(micros / 1e5) / 10} s`;
  const whole = Math.floor(micros / 1e6);
  const pair = (unit, name, smallerUnit, smallerName) => {
    const rest = Math.floor((whole % unit) / smallerUnit);
    return `${Math.floor(whole / unit)} ${name}${rest ? ` ${rest} ${smallerName}` : ''}`;
  };
  if (whole < 3600) return pair(60, 'min', 1, 's');
  if (whole < 86400) return pair(3600, 'h', 60, 'min');
  return pair(86400, 'd', 3600, 'h');
}
/** Formats a running timer: 0:07, 12:07, 1:12:07. */
function formatTimer(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const twoDigits = (n) => String(n).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return `${hours ? `${hours}:${twoDigits(minutes)}` : minutes}:${twoDigits(whole % 60)}`;
}
const now = () => Date.now() / 1000 + state.clockOffset;
const formatCount = (n) => n.toLocaleString('en');
const plural = (n, one, other) => `${formatCount(n)} ${n === 1 ? one : other}`;
function formatTime(unix) {
  const date = new Date(unix * 1000);
  const isToday = new Date(now() * 1000).toDateString() === date.toDateString();
  return isToday ? date.toLocaleTimeString() : date.toLocaleString();
}
function formatAge(unix) {
  const seconds = Math.max(0, now() - unix);
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

// ---- elements ------------------------------------------------------------------------------------------------------

const SVG = 'http://www.w3.org/2000/svg';
/** Creates an HTML element; children are elements or text. */
const element = (name, attributes = {}, ...children) => initialize(document.createElement(name), attributes, children);
/** Creates an SVG element. */
const svgElement = (name, attributes = {}, ...children) => initialize(document.createElementNS(SVG, name), attributes, children);
function initialize(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'onclick') node.addEventListener('click', value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}
/** Creates an element for untrusted text, isolated from the direction of the text around it. */
const untrusted = (text, name = 'bdi', attributes = {}) => element(name, { dir: 'auto', ...attributes }, visible(text));

/** Replaces the children of a container; the focus stays on the element with the same data-key. */
function replaceChildren(container, children) {
  const key = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  container.replaceChildren(...children);
  if (key) [...container.querySelectorAll('[data-key]')].find((node) => node.dataset.key === key)?.focus({ preventScroll: true });
}
/** Replaces the children of a container unless they are equal. */
function update(container, ...children) {
  const next = [...element('div', {}, ...children).childNodes];
  const isSame = next.length === container.childNodes.length && next.every((node, index) => node.isEqualNode(container.childNodes[index]));
  if (!isSame) replaceChildren(container, next);
}
/** Replaces a table if its data has changed. Tables have event listeners, which a comparison of nodes would miss. */
const renderedKeys = {};
function updateTable(id, data, ...children) {
  const key = JSON.stringify({ ...data, now: 0, minute: Math.floor(now() / 60), expanded: [...state.expanded] });
  if (renderedKeys[id] === key) return;
  renderedKeys[id] = key;
  replaceChildren(byId(id), children.filter(Boolean));
}

const cell = (label, attributes, ...children) => element('td', { role: 'cell', 'data-label': label, ...attributes }, ...children);
const headerCell = (text, attributes = {}) => element('th', { role: 'columnheader', scope: 'col', ...attributes }, text);
function table(title, headers, rows) {
  return element('table', { role: 'table', 'aria-label': title },
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, ...headers)),
    element('tbody', { role: 'rowgroup' }, ...rows));
}

function pager(response, list) {
  if (response.total <= response.limit) return null;
  const query = state[list];
  const turn = (pages) => () => {
    query.offset = Math.max(0, query.offset + pages * query.limit);
    refresh(list);
  };
  const button = (text, pages, disabled) => element('button', { type: 'button', onclick: turn(pages), 'data-key': `${list} ${text}`, disabled: disabled ? '' : null }, text);
  const last = Math.min(response.offset + response.limit, response.total);
  return element('div', { class: 'pager' },
    button('Previous', -1, response.offset === 0),
    element('span', {}, `${formatCount(response.offset + 1)}–${formatCount(last)} of ${formatCount(response.total)} ${list}`),
    button('Next', 1, last >= response.total));
}

// ---- blocked targets and headline ----------------------------------------------------------------------------------

const MAX_BANNERS = 10;

const kindText = ({ kind }) => (kind === 'module' ? 'module command' : kind);
/** Name of a target, with its address if that is not the name. */
const nameAndAddress = ({ target, address }) => (target === address ? visible(target) : `${visible(target)} (${visible(address)})`);
function blockedTitle(row) {
  const { blocked } = row;
  const name = nameAndAddress(row);
  if (!blocked.busy) return `${name} is blocked and does not respond`;
  return `${name} is BUSY running a ${kindText(blocked)}`;
}

async function copy(text, button) {
  try {
    if (!navigator.clipboard) throw new Error('the clipboard API needs HTTPS');
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element('textarea', { readonly: '', 'aria-hidden': 'true', class: 'visually-hidden' });
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

function banner(row) {
  const { target, blocked } = row;
  const running = element('p', { class: 'running' });
  if (blocked.name) {
    running.append(`Running: ${blocked.kind ?? 'script'} `, untrusted(blocked.name, 'strong', { class: 'mono' }));
    if (blocked.script !== blocked.name) running.append(' ', untrusted(blocked.script, 'span', { class: 'muted mono' }));
    if (blocked.sha1) running.append(' ', untrusted(blocked.sha1, 'span', { class: 'muted mono' }));
  } else if (blocked.busy) {
    const hint = blocked.kind === 'module' ? '' : ' Its log does: search for “still in execution”, or set --redis.log-file.';
    running.append(`The server does not report which ${kindText(blocked)} is running.${hint}`);
  } else {
    running.append('The running command is not known yet.');
  }
  const kills = blocked.kill.map((kill) => {
    const button = element('button', { type: 'button', class: 'copy', 'data-key': `copy ${target} ${kill.command}`, 'aria-label': `Copy the command for ${kill.command} on ${visible(target)}` }, 'Copy');
    button.addEventListener('click', () => copy(kill.shell, button));
    return element('div', { class: 'kill' }, element('code', {}, visible(kill.shell)), button);
  });
  return element('article', { class: 'banner' },
    element('h2', {}, untrusted(blockedTitle(row))),
    element('p', {}, element('span', { class: 'time', role: 'timer', 'data-since': blocked.since }, formatTimer(now() - blocked.since)),
      element('span', { class: 'since' }, `since ${formatTime(blocked.since)}`)),
    running,
    kills.length ? element('p', {}, kills.length > 1 ? 'To stop it, try both commands:' : 'To stop it:') : null,
    ...kills,
    element('p', {}, visible(blocked.advice)));
}

function renderBlocked(response) {
  const rows = response.targets.filter((row) => row.blocked);
  const total = Object.entries(response.summary.states).reduce((sum, [name, n]) => sum + (/^(blocked|busy_)/.test(name) ? n : 0), 0);
  const container = byId('blocked');
  const banners = new Map();
  for (const row of rows.slice(0, MAX_BANNERS)) {
    const key = JSON.stringify([row.target, { ...row.blocked, since: Math.round(row.blocked.since) }]);
    const previous = state.banners.get(row.target);
    banners.set(row.target, previous?.key === key ? previous : { key, node: banner(row) });
  }
  const nodes = [...banners.values()].map(({ node }) => node);
  const omitted = total - nodes.length;
  if (omitted > 0) nodes.push(element('p', { class: 'banner' }, `${plural(omitted, 'more target is', 'more targets are')} blocked; see the list of targets.`));
  const isSame = nodes.length === container.children.length && omitted <= 0 && nodes.every((node, index) => container.children[index] === node);
  if (!isSame) replaceChildren(container, nodes);
  state.banners = banners;
  const titles = rows.slice(0, 3).map(blockedTitle).join('; ');
  const announcement = byId('announcement');
  if (announcement.textContent !== titles) announcement.textContent = titles;
  renderHeadline(response.summary.headline, total, rows);
}

function renderHeadline({ level, text, details }, blocked, rows) {
  const headline = visible(text);
  const blockedText = blocked ? `${blocked > 1 ? `${blocked} targets` : visible(rows[0]?.target ?? '1 target')} BLOCKED` : '';
  const title = level === 'ok' ? '' : headline.replace(/\.$/, '');
  if (level === 'blocked') setTab(blockedText, ICONS.blocked);
  else setTab([title, blockedText].filter(Boolean).join(', '), ICONS[level] ?? 'unknown.svg');
  const overview = byId('overview');
  overview.hidden = false;
  if (overview.className !== `overview ${level}`) overview.className = `overview ${level}`;
  update(overview, element('strong', {}, headline), ` ${visible(details)}`);
}

const ICONS = { down: 'down.svg', blocked: 'blocked.svg', degraded: 'degraded.svg', waiting: 'unknown.svg', ok: 'idle.svg' };

/** Sets the title and the icon of the browser tab. */
function setTab(text, icon) {
  const title = text ? `${text} – redis-script-exporter` : 'redis-script-exporter';
  if (document.title !== title) document.title = title;
  if (byId('icon').getAttribute('href') !== icon) byId('icon').setAttribute('href', icon);
}

// ---- problems ------------------------------------------------------------------------------------------------------

function renderProblems({ summary }) {
  const { worst_problems: problems, more_problems: omitted, exporter_problems: ofExporter } = summary;
  const items = ofExporter.map((text) => element('li', { class: 'blind' }, visible(text)));
  items.push(...problems.map(({ impact, text, targets, names }) => element('li', { class: impact },
    element('span', { class: 'where' }, ...names.flatMap((name, index) => [index ? ', ' : '', untrusted(name)]),
      targets > names.length ? ` and ${formatCount(targets - names.length)} more` : ''), ': ', visible(text))));
  if (omitted) items.push(element('li', {}, `${plural(omitted, 'more problem', 'more problems')}; see the column Problems of the targets.`));
  byId('problems-panel').hidden = items.length === 0;
  update(byId('problems'), ...items);
}

// ---- targets -------------------------------------------------------------------------------------------------------

/** Text and style of each state. */
const STATES = {
  ok: ['ok', 'ok'], blocked: ['blocked', 'bad'], busy_script: ['BUSY: script', 'bad'], busy_function: ['BUSY: function', 'bad'],
  busy_module: ['BUSY: module', 'bad'], loading: ['loading', 'warning'], unauthorized: ['access denied', 'down'],
  unreachable: ['unreachable', 'down'], untried: ['not checked yet', ''],
};

function targetRow(row) {
  const [text, style] = STATES[row.state] ?? [row.state, ''];
  const { server, last_blockage: blockage } = row;
  return element('tr', { role: 'row' },
    cell('Target', { class: 'name' }, untrusted(row.target),
      row.address === row.target ? null : element('span', { class: 'muted' }, ' ', untrusted(row.address)), row.probed ? element('span', { class: 'muted' }, ' probed') : null),
    cell('State', {}, element('span', {}, element('span', { class: `chip ${style}` }, text),
      row.since ? element('span', { class: 'muted' }, ` since ${formatTime(row.since)}`) : null)),
    cell('Server', {}, element('span', {}, server ? untrusted([server.name, server.version, server.role].filter(Boolean).join(' ')) : '–')),
    cell('Slow calls', { class: 'number' }, element('span', {}, formatCount(row.slow_calls.warning),
      row.slow_calls.critical ? element('span', { class: 'muted' }, ` (${formatCount(row.slow_calls.critical)} critical)`) : null)),
    cell('Last blockage', {}, blockage ? element('span', {}, `${formatDuration(blockage.seconds)}, ${formatAge(blockage.since + blockage.seconds)}, cause: `, blockage.name ? untrusted(blockage.name) : blockage.cause) : '–'),
    cell('Problems', {}, row.problems.length ? plural(row.problems.length, 'problem', 'problems') : '–'));
}

function renderTargets(response) {
  const headers = [headerCell('Target'), headerCell('State'), headerCell('Server'), headerCell('Slow calls', { class: 'number' }), headerCell('Last blockage'), headerCell('Problems')];
  const body = response.targets.length
    ? table('Targets', headers, response.targets.map(targetRow))
    : element('p', { class: 'empty' }, response.summary.targets ? 'No target matches the search.' : 'There are no targets yet.');
  updateTable('targets', response, body, pager(response, 'targets'));
}

// ---- scripts -------------------------------------------------------------------------------------------------------

const SORTABLE_COLUMNS = [
  ['name', 'Script'], ['total', 'Total time'], ['calls', 'Calls'], ['p99', 'p99'], ['longest', 'Longest'], ['last_seen', 'Last seen'],
];

function sortableHeader([key, text]) {
  const query = state.scripts;
  const isActive = query.sort === key;
  const sort = () => {
    query.order = isActive && query.order === 'desc' ? 'asc' : 'desc';
    if (!isActive && key === 'name') query.order = 'asc';
    query.sort = key;
    query.offset = 0;
    refresh('scripts');
  };
  return element('th', { role: 'columnheader', scope: 'col', class: key === 'name' || key === 'last_seen' ? 'sortable' : 'sortable number', 'aria-sort': isActive ? (query.order === 'desc' ? 'descending' : 'ascending') : null },
    element('button', { type: 'button', onclick: sort, 'data-key': `sort ${key}` }, text));
}

/** Draws a histogram of calls by duration, with a logarithmic scale of calls. */
function chart(row) {
  const barWidth = 6;
  const maxCalls = Math.max(...row.buckets.map((bucket) => bucket.calls), 1);
  const label = (le) => (le === null ? 'longer' : `up to ${formatDuration(le)}`);
  const bars = row.buckets.flatMap(({ le, calls }, index) => {
    if (!calls) return [];
    const height = 3 + (25 * Math.log1p(calls)) / Math.log1p(maxCalls);
    return [svgElement('rect', { x: index * barWidth, y: 28 - height, width: barWidth - 1, height, class: le === null || le > 1 ? 'slow' : null },
      svgElement('title', {}, `${label(le)}: ${plural(calls, 'call', 'calls')}`))];
  });
  const width = row.buckets.length * barWidth;
  const description = row.buckets.filter((bucket) => bucket.calls).map(({ le, calls }) => `${label(le)}: ${formatCount(calls)}`).join(', ');
  return svgElement('svg', { class: 'chart', viewBox: `0 0 ${width} 30`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `Calls by duration: ${description}` },
    svgElement('line', { x1: 0, y1: 29, x2: width, y2: 29 }), ...bars);
}

function callerItem({ client, client_name: name, calls_at_least: min, calls_at_most: max }) {
  return element('li', {}, untrusted(name ?? client ?? 'unknown', 'strong'), name && client ? ' at ' : '', name && client ? untrusted(client) : '',
    `: ${min === max ? plural(min, 'call', 'calls') : `${formatCount(min)} to ${formatCount(max)} calls`}`);
}

function scriptDetails(row, id) {
  const list = element('dl', {});
  const add = (term, ...content) => list.append(element('dt', {}, term), element('dd', {}, ...content));
  if (row.sha1) add('SHA1', untrusted(row.sha1, 'code'));
  add('Commands', row.commands.map((command) => command.toUpperCase()).join(', '));
  add('Slow calls', `${formatCount(row.slow_calls.warning)} (${formatCount(row.slow_calls.critical)} critical)`);
  add('First seen', formatTime(row.first_seen));
  add('Targets', element('ul', {}, ...row.targets.map(({ target, calls }) => element('li', {}, untrusted(target), `: ${plural(calls, 'call', 'calls')}`)),
    row.targets_total > row.targets.length ? element('li', {}, `and ${formatCount(row.targets_total - row.targets.length)} more`) : null));
  add('Callers', row.callers.length
    ? element('ul', {}, ...row.callers.map(callerItem), row.more_callers ? element('li', {}, 'and others with fewer calls') : null)
    : (state.clients === false ? 'hidden by --web.hide-clients' : 'unknown'));
  if (typeof row.source === 'string') add('Source', element('pre', { tabindex: '0', 'data-key': `source ${row.name}` }, row.source.split('\n').slice(0, 12).map(visible).join('\n')));
  return element('tr', { role: 'row', class: 'detail', id }, element('td', { role: 'cell', colspan: 7 }, list));
}

/** Identities (the label `script`) of a script, unless the name is the only one. */
function identities(name, scripts) {
  if (scripts.length === 1 && scripts[0] === name) return null;
  return element('span', { class: 'muted mono' }, ...scripts.flatMap((script) => [' ', untrusted(script)]));
}

function scriptRows(row, index) {
  const isExpanded = state.expanded.has(row.name);
  const id = `details-${index}`;
  const toggle = () => {
    if (isExpanded) state.expanded.delete(row.name); else state.expanded.add(row.name);
    if (latest.scripts) renderScripts(latest.scripts);
  };
  const name = element('button', { type: 'button', class: 'more mono', 'aria-expanded': String(isExpanded), 'aria-controls': isExpanded ? id : null, onclick: toggle, 'data-key': `script ${row.name}` }, untrusted(row.name));
  const main = element('tr', { role: 'row' },
    cell('Script', { class: 'name' }, name, identities(row.name, row.scripts)),
    cell('Total time', { class: 'number' }, formatDuration(row.total_seconds)),
    cell('Calls', { class: 'number' }, formatCount(row.calls)),
    cell('p99', { class: 'number' }, formatDuration(row.p99_seconds)),
    cell('Longest', { class: 'number' }, formatDuration(row.longest_seconds)),
    cell('Last seen', {}, formatAge(row.last_seen)),
    cell('Durations', {}, chart(row)));
  return isExpanded ? [main, scriptDetails(row, id)] : [main];
}

function renderScripts(response) {
  const body = response.scripts.length
    ? table('Scripts', [...SORTABLE_COLUMNS.map(sortableHeader), headerCell('Durations')], response.scripts.flatMap(scriptRows))
    : element('p', { class: 'empty' }, state.scripts.q ? 'No script matches the search.' : 'No script calls in the slow log since the exporter started.');
  updateTable('scripts', { ...response, sort: state.scripts.sort, order: state.scripts.order }, body, pager(response, 'scripts'));
}

// ---- latest slow calls ---------------------------------------------------------------------------------------------

function keysCell({ keys, key_count: total }) {
  if (!keys?.length) return total === null ? '–' : formatCount(total);
  return element('span', {}, ...keys.flatMap((key, index) => [index ? ', ' : '', untrusted(key)]),
    element('span', { class: 'muted' }, ` of ${formatCount(total ?? 0)}`));
}

function callRow(call) {
  const client = [call.client_name && untrusted(call.client_name), call.client && untrusted(call.client, 'bdi', { class: 'muted' })].filter(Boolean);
  return element('tr', { role: 'row' },
    cell('Script', { class: 'name mono' }, untrusted(call.name), identities(call.name, [call.script])),
    cell('Ended', {}, formatTime(call.ended_at)),
    cell('Duration', { class: 'number' }, formatDuration(call.duration_seconds)),
    cell('Severity', {}, element('span', {}, element('span', { class: `chip ${call.severity === 'critical' ? 'bad' : 'warning'}` }, call.severity))),
    cell('Command', {}, call.command.toUpperCase()),
    cell('Target', {}, untrusted(call.target)),
    cell('Client', {}, element('span', {}, ...(client.length ? client.flatMap((part, index) => [index ? ' ' : '', part]) : ['–']))),
    cell('Keys', {}, keysCell(call)));
}

function renderCalls(response) {
  const headers = [headerCell('Script'), headerCell('Ended'), headerCell('Duration', { class: 'number' }), headerCell('Severity'), headerCell('Command'), headerCell('Target'), headerCell('Client'), headerCell('Keys')];
  const body = response.calls.length ? table('Latest slow calls', headers, response.calls.map(callRow))
    : element('p', { class: 'empty' }, 'No slow calls since the exporter started.');
  const showMore = () => { state.slow.limit = Math.min(MAX_CALLS, state.slow.limit * 2); refresh('slow'); };
  const more = response.more && state.slow.limit < MAX_CALLS
    ? element('div', { class: 'pager' }, element('button', { type: 'button', 'data-key': 'more calls', onclick: showMore }, 'Show more')) : null;
  updateTable('calls', response, body, more);
}

// ---- polling -------------------------------------------------------------------------------------------------------

const latest = {}; // latest response of each list
const render = {
  targets(response) {
    state.clients = response.shows.clients;
    if (!state.targets.q && state.targets.offset === 0) { renderBlocked(response); renderProblems(response); }
    renderTargets(response);
  },
  scripts: renderScripts,
  slow: renderCalls,
};
const requestNumbers = { targets: 0, scripts: 0, slow: 0 };
const failures = { targets: 0, scripts: 0, slow: 0 }; // consecutive failures
const STALE_AFTER = 15; // seconds without a response; a hidden page polls less often
let lastSuccess = Date.now() / 1000; // time of the latest response with targets, on the browser's clock
let lastError = '';

/** Shows a message if the data is stale, and hides the headline, which would state something unknown. */
function renderStale() {
  state.stale = failures.targets > 1 || (!document.hidden && Date.now() / 1000 - lastSuccess > STALE_AFTER);
  const isFailing = state.stale || failures.scripts > 1 || failures.slow > 1;
  const cause = lastError ? ` (${visible(lastError)})` : '';
  const text = isFailing ? `The exporter does not respond${cause}. The data on this page is outdated; retrying.` : '';
  const message = byId('stale');
  if (message.textContent !== text) message.textContent = text;
  message.hidden = !isFailing;
  document.body.classList.toggle('outdated', state.stale);
  if (!state.stale) return;
  byId('overview').hidden = true;
  setTab('No response', 'unknown.svg');
}

async function fetchList(list, query) {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ''));
  const response = await fetch(`api/v1/${list}?${parameters}`, { cache: 'no-cache', signal: AbortSignal.timeout(10000) });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? `status ${response.status}`);
  return body;
}

/** Fetches and renders a list. Drops the response if a newer request was started meanwhile. */
async function refresh(list) {
  const number = ++requestNumbers[list];
  try {
    const response = await fetchList(list, state[list]);
    // Blocked targets must be shown whichever part of the list is selected.
    const isPartial = list === 'targets' && (state.targets.q || state.targets.offset > 0);
    const firstPage = isPartial ? await fetchList('targets', { limit: PAGE_ROWS }) : null;
    if (number !== requestNumbers[list]) return;
    // A response from the browser's cache has the time of its first delivery; the maximum is the right offset.
    state.clockOffset = Math.max(state.clockOffset, response.now - Date.now() / 1000);
    latest[list] = response;
    failures[list] = 0;
    if (list === 'targets') lastSuccess = Date.now() / 1000;
    if (!Object.values(failures).some(Boolean)) lastError = '';
    renderStale();
    for (const node of document.querySelectorAll('.needs-script[hidden]')) node.hidden = false;
    if (firstPage) { renderBlocked(firstPage); renderProblems(firstPage); }
    render[list](response);
  } catch (error) {
    if (number !== requestNumbers[list]) return;
    failures[list] += 1;
    lastError = error.message;
    renderStale();
  }
}

function poll(list, seconds) {
  const next = async () => {
    await refresh(list);
    setTimeout(next, (document.hidden ? Math.max(seconds, 10) : seconds * Math.min(1 + failures[list], 10)) * 1000);
  };
  next();
}

function connectSearch(id, list) {
  let timer;
  byId(id).addEventListener('input', (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      state[list].q = event.target.value.trim().slice(0, 200);
      state[list].offset = 0;
      refresh(list);
    }, 200);
  });
}

connectSearch('targets-search', 'targets');
connectSearch('scripts-search', 'scripts');
poll('targets', 1);
poll('scripts', 3);
poll('slow', 2);
setInterval(() => {
  renderStale();
  if (state.stale) return;
  for (const timer of document.querySelectorAll('[data-since]')) timer.textContent = formatTimer(now() - Number(timer.dataset.since));
}, 250);
document.addEventListener('visibilitychange', () => { if (!document.hidden) for (const list of Object.keys(render)) refresh(list); });
