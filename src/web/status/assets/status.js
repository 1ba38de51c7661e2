// Status page: polls the API and renders its responses.
//
// API data is never parsed as HTML: it becomes text nodes, with invisible characters escaped. A hidden page polls less often.
'use strict';

const byId = (id) => document.getElementById(id);
const PAGE_ROWS = 50;
const MAX_ROWS = 500;
const DAY = 86400;
const state = {
  clockOffset: -Infinity, // exporter clock minus browser clock, seconds
  target: '', // name of the target to show; empty for all
  script: '', // name, label or SHA1 of the script whose page is shown; empty for none
  targets: { q: '', level: '', offset: 0, limit: PAGE_ROWS },
  scripts: { q: '', offset: 0, limit: PAGE_ROWS, sort: 'total', order: 'desc' },
  slow: { offset: 0, limit: 20 },
  incidents: { offset: 0, limit: 20 },
  open: new Set(), // rows that are expanded on a narrow screen
  banners: new Map(), // target → banner of its blockage
  blockages: undefined, // states of the blocked targets, and what they run
  stale: false, // true if the targets could not be fetched recently
};

// ---- URL -----------------------------------------------------------------------------------------------------------

/** URL parameters: where each value is stored, and its default. */
const PARAMETERS = {
  target: [state, 'target', ''], script: [state, 'script', ''], targets: [state.targets, 'q', ''], level: [state.targets, 'level', ''],
  scripts: [state.scripts, 'q', ''], sort: [state.scripts, 'sort', 'total'], order: [state.scripts, 'order', 'desc'],
};
const CHOICES = {
  level: ['', 'down', 'blocked', 'degraded', 'waiting', 'ok'], sort: ['total', 'calls', 'p99', 'longest', 'last_seen', 'name'], order: ['asc', 'desc'],
};

function readUrl() {
  const given = new URLSearchParams(location.search);
  for (const [name, [object, key, initial]] of Object.entries(PARAMETERS)) {
    const value = (given.get(name) ?? initial).slice(0, 200);
    object[key] = CHOICES[name] && !CHOICES[name].includes(value) ? initial : value;
  }
  for (const list of ['targets', 'scripts', 'slow', 'incidents']) state[list].offset = 0;
}
/** Relative URL of the page with these parameters changed. */
function urlWith(changes) {
  const parameters = new URLSearchParams();
  for (const [name, [object, key, initial]] of Object.entries(PARAMETERS)) {
    const value = changes[name] ?? object[key];
    if (value !== initial) parameters.set(name, value);
  }
  const query = parameters.toString();
  return query ? `?${query}` : location.pathname;
}
/** Changes parameters and the URL; `push` adds an entry to the browser's history. */
function navigate(changes, push) {
  const url = urlWith(changes);
  if (push) history.pushState(null, '', url); else history.replaceState(null, '', url);
  for (const [name, value] of Object.entries(changes)) PARAMETERS[name][0][PARAMETERS[name][1]] = value;
}
/** Applies the parameters of the URL to the page. */
function applyUrl() {
  byId('targets-search').value = state.targets.q;
  byId('scripts-search').value = state.scripts.q;
  document.body.classList.toggle('one-script', Boolean(state.script));
  byId('script-panel').hidden = !state.script;
  renderFilter();
}
/** Fetches all lists for a changed view. */
function refreshAll() {
  for (const list of Object.keys(render)) {
    delete latest[list];
    refresh(list);
  }
}
/** Link to another view of the page. */
function viewLink(changes, content, attributes = {}) {
  const follow = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    navigate(changes, true);
    applyUrl();
    refreshAll();
    scrollTo(0, 0);
    const panel = changes.script ? byId('script-title') : null;
    if (panel) panel.focus({ preventScroll: true });
  };
  return element('a', { href: urlWith(changes), onclick: follow, ...attributes }, content);
}
const scriptLink = (name, attributes = {}) => viewLink({ script: name }, untrusted(name), { 'data-key': `script ${name}`, ...attributes });
const targetLink = (name, attributes = {}) => viewLink({ target: name, script: '' }, untrusted(name), attributes);

// ---- formatting ----------------------------------------------------------------------------------------------------

const escapeCharacter = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;
/** Escapes invisible characters and those that change the direction of text. */
const visible = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}\p{DI}]/gu, escapeCharacter);

/** Formats a duration in its two largest units. Truncates so that a unit never overflows ("60 s"). */
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
/** Formats a time, with date and time zone. */
function formatTime(unix) {
  const date = new Date(unix * 1000);
  const isToday = new Date(now() * 1000).toDateString() === date.toDateString();
  const day = isToday ? {} : { year: 'numeric', month: 'short', day: 'numeric' };
  return date.toLocaleString(undefined, { ...day, hour: 'numeric', minute: '2-digit', second: '2-digit', timeZoneName: 'short' });
}
function formatAge(unix) {
  const seconds = Math.max(0, Math.floor(now() - unix));
  return seconds < 1 ? 'now' : `${formatDuration(seconds)} ago`;
}
/** Creates an element with the age of an event, which is updated; hovering shows the time itself. */
function ageElement(unix, suffix = ' ago') {
  const date = new Date(unix * 1000);
  return element('time', { datetime: date.toISOString(), title: date.toLocaleString(undefined, { dateStyle: 'full', timeStyle: 'long' }), 'data-age': unix, 'data-suffix': suffix }, ageText(unix, suffix));
}
const ageText = (unix, suffix) => (suffix === ' ago' ? formatAge(unix) : formatDuration(Math.max(0, Math.floor(now() - unix))));

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
/** Creates an element for untrusted text, isolated from the direction of the surrounding text. */
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
/** Replaces a table if its data has changed. Comparing nodes would miss the event listeners; ages are updated separately. */
const renderedKeys = {};
function updateTable(id, data, ...children) {
  const key = JSON.stringify({ ...data, now: 0, open: [...state.open], view: urlWith({}) });
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
/** Creates a row that is collapsed on narrow screens to its name and the cells of class `key`. */
function foldedRow(key, name, ...cells) {
  const row = element('tr', { role: 'row', class: state.open.has(key) ? 'open' : null });
  const toggle = () => {
    const isOpen = row.classList.toggle('open');
    if (isOpen) state.open.add(key); else state.open.delete(key);
    button.setAttribute('aria-expanded', String(isOpen));
  };
  const button = element('button', { type: 'button', class: 'fold', 'aria-expanded': String(state.open.has(key)), 'aria-label': 'Details', onclick: toggle, 'data-key': `fold ${key}` });
  name.prepend(button);
  row.append(name, ...cells);
  return row;
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
const RUNBOOK = 'https://github.com/redis-script-exporter/redis-script-exporter/blob/main/docs/runbooks.md#redisscriptrunning';

const kindText = ({ kind }) => (kind === 'module' ? 'module command' : kind);
/** Name of a target, followed by its address if the two differ. */
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

/** Shell command lines, each with a copy button. */
function commandLines(target, commands) {
  return commands.map(({ command, shell }) => {
    const button = element('button', { type: 'button', class: 'copy', 'data-key': `copy ${target} ${command}`, 'aria-label': `Copy the command for ${visible(command)} on ${visible(target)}` }, 'Copy');
    button.addEventListener('click', () => copy(shell, button));
    return element('div', { class: 'command' }, element('code', {}, visible(shell)), button);
  });
}

function banner(row) {
  const { target, blocked } = row;
  const running = element('p', { class: 'running' });
  if (blocked.name) {
    running.append(`Running: ${blocked.kind ?? 'script'} `, element('strong', { class: 'mono' }, scriptLink(blocked.name, { 'data-key': `running ${target}` })));
    if (blocked.script !== blocked.name) running.append(' ', untrusted(blocked.script, 'span', { class: 'muted mono' }));
    if (blocked.sha1) running.append(' ', untrusted(blocked.sha1, 'span', { class: 'muted mono' }));
  } else if (blocked.busy) {
    running.append(`The server does not report which ${kindText(blocked)} is running.`);
    if (blocked.kind !== 'module' && blocked.log_file) running.append(' The name has not appeared in its log file yet.');
    else if (blocked.kind !== 'module') running.append(' Set ', element('code', { class: 'flag' }, '--redis.log-file'), ' to show its name here.');
  } else {
    running.append('The running command is not known yet.');
  }
  const kills = commandLines(target, blocked.kill);
  return element('article', { class: 'banner' },
    element('h2', {}, untrusted(blockedTitle(row))),
    element('p', {}, element('span', { class: 'time', role: 'timer', 'data-since': blocked.since }, formatTimer(now() - blocked.since)),
      element('span', { class: 'since' }, 'since ', element('time', { datetime: new Date(blocked.since * 1000).toISOString() }, formatTime(blocked.since)))),
    running,
    guardLine(row),
    kills.length ? element('p', {}, kills.length > 1 ? 'To stop it, try both commands:' : 'To stop it:') : null,
    ...kills,
    element('p', {}, visible(blocked.advice), ' ', element('a', { href: RUNBOOK, rel: 'noopener noreferrer' }, 'Runbook')));
}

/** Describes what the guard has done since the blockage began, or what it will do. */
function guardLine({ guard, blocked }) {
  if (!guard) return null;
  const action = guard.actions.find(({ at }) => at >= blocked.since);
  if (action) {
    const detail = action.detail ? [': ', untrusted(action.detail)] : [];
    // The advice below says what to do about a script that has written.
    const text = action.outcome === 'unkillable' ? 'The guard could not kill the script: it has already written data' : action.text.charAt(0).toUpperCase() + action.text.slice(1);
    return element('p', {}, element('strong', {}, visible(text), ...detail, '.'), ` At that time (${formatTime(action.at)}), it had run for at least ${formatDuration(action.seconds)}.`);
  }
  const after = `a script or function once it has run for ${formatDuration(guard.kill_after)}, if its rules permit.`;
  if (guard.mode !== 'kill') return element('p', {}, `The guard only reports (dry-run): it would kill ${after}`);
  return element('p', {}, guard.ready ? `The guard kills ${after}` : `The guard can’t kill now: its connection or a permission is missing. It would kill ${after}`);
}

/** The latest action of the guard of a target. */
function guardAction({ guard }, separator) {
  const action = guard?.actions[0];
  if (!action) return null;
  const name = action.name ? [' (', untrusted(action.name), ')'] : [];
  const caller = action.client_name ?? action.client;
  return element('span', { class: 'muted', title: visible(action.text) }, `${separator}guard ${GUARD[action.outcome] ?? action.outcome}`, ...name, ', ', ageElement(action.at),
    ...(caller ? [', called by ', untrusted(caller)] : []));
}

function renderBlocked(response) {
  const rows = response.targets.filter((row) => row.blocked);
  const total = Object.entries(response.summary.states).reduce((sum, [name, n]) => sum + (/^(blocked|busy_)/.test(name) ? n : 0), 0);
  const container = byId('blocked');
  const banners = new Map();
  for (const row of rows.slice(0, MAX_BANNERS)) {
    const key = JSON.stringify([row.target, { ...row.blocked, since: Math.round(row.blocked.since) }, row.guard]);
    const previous = state.banners.get(row.target);
    banners.set(row.target, previous?.key === key ? previous : { key, node: banner(row) });
  }
  const nodes = [...banners.values()].map(({ node }) => node);
  const omitted = total - nodes.length;
  if (omitted > 0) nodes.push(element('p', { class: 'banner' }, `${plural(omitted, 'more target is', 'more targets are')} blocked; see the list of targets.`));
  const isSame = nodes.length === container.children.length && omitted <= 0 && nodes.every((node, index) => container.children[index] === node);
  if (!isSame) replaceChildren(container, nodes);
  state.banners = banners;
  // The list of incidents shows the same blockages, so it is refreshed now instead of at its own interval.
  const blockages = JSON.stringify(rows.map((row) => [row.target, row.state, row.blocked.name]));
  if (state.blockages !== undefined && state.blockages !== blockages) refresh('incidents');
  state.blockages = blockages;
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

const FIX_NOTE = 'If the reply is NOPERM, log in as a user that may run the command (--user). Changes are lost when the server restarts, unless CONFIG REWRITE writes them to its configuration file, or ACL SAVE writes the users to its ACL file.';

/** Names the first target, for a command that applies to several. */
const onFirst = (targets, names) => (targets > 1 ? [' on ', untrusted(names[0]), ', and likewise on the others'] : []);

function renderProblems({ summary }) {
  const { worst_problems: problems, more_problems: omitted, exporter_problems: ofExporter } = summary;
  const items = ofExporter.map((text) => element('li', { class: 'blind' }, visible(text)));
  items.push(...problems.map(({ impact, text, commands, test, targets, names }) => element('li', { class: impact },
    element('span', { class: 'where' }, ...names.flatMap((name, index) => [index ? ', ' : '', untrusted(name)]),
      targets > names.length ? ` and ${formatCount(targets - names.length)} more` : ''), ': ', visible(text),
    commands.length ? element('span', { class: 'fix' }, ' To fix it', ...onFirst(targets, names), ', run:') : null,
    ...commandLines(names[0], commands),
    test ? element('span', { class: 'fix' }, ' To see its state', ...onFirst(targets, names), ', run:') : null,
    ...commandLines(names[0], test ? [test] : []))));
  if (omitted) items.push(element('li', {}, `${plural(omitted, 'more problem', 'more problems')}; see the Problems column of the targets.`));
  if (problems.some(({ commands }) => commands.length)) items.push(element('li', { class: 'muted' }, FIX_NOTE));
  byId('problems-panel').hidden = items.length === 0;
  updateTable('problems', { problems, omitted, ofExporter }, ...items);
}

// ---- targets -------------------------------------------------------------------------------------------------------

/** Text and style of each state. */
const STATES = {
  ok: ['ok', 'ok'], blocked: ['blocked', 'bad'], busy_script: ['BUSY: script', 'bad'], busy_function: ['BUSY: function', 'bad'],
  busy_module: ['BUSY: module', 'bad'], busy_silent: ['BUSY, then silent', 'bad'], loading: ['loading', 'warning'], unauthorized: ['access denied', 'down'],
  unreachable: ['unreachable', 'down'], untried: ['not checked yet', ''],
};

function stateCell(row) {
  const [text, style] = row.level === 'degraded' ? ['degraded', 'warning'] : STATES[row.state] ?? [row.state, ''];
  const since = row.blocked?.since ?? row.since;
  return cell('State', { class: 'key' }, element('span', {}, element('span', { class: `chip ${style}` }, text),
    since ? element('span', { class: 'muted' }, ' for ', ageElement(since, '')) : null,
    row.last_reply ? element('span', { class: 'muted line' }, 'last reply ', ageElement(row.last_reply)) : null));
}

function targetRow(row) {
  const { server, last_blockage: blockage } = row;
  return foldedRow(`target ${row.target}`,
    cell('Target', { class: 'name' }, targetLink(row.target, { 'data-key': `target ${row.target}` }),
      row.address === row.target ? null : element('span', { class: 'muted' }, ' ', untrusted(row.address)), row.probed ? element('span', { class: 'muted' }, ' probed') : null),
    stateCell(row),
    cell('Server', {}, element('span', {}, server ? untrusted([server.name, server.version, server.role].filter(Boolean).join(' ')) : '–')),
    cell('Slow calls', { class: 'number' }, element('span', {}, formatCount(row.slow_calls.warning),
      row.slow_calls.critical ? element('span', { class: 'muted' }, ` (${formatCount(row.slow_calls.critical)} critical)`) : null)),
    cell('Last blockage', {}, blockage ? element('span', {}, `${formatDuration(blockage.seconds)}, `, ageElement(blockage.since + blockage.seconds), ', cause: ', blockage.name ? scriptLink(blockage.name, { 'data-key': `blockage ${row.target}` }) : blockage.cause) : null, guardAction(row, blockage ? '; ' : '') ?? (blockage ? null : '–')),
    cell('Problems', {}, row.problems.length ? plural(row.problems.length, 'problem', 'problems') : '–'));
}

/** Labels of the levels, as filters of the targets. */
const LEVELS = { down: 'Down', blocked: 'Blocked', degraded: 'Degraded', waiting: 'Waiting', ok: 'OK' };

function renderLevels({ summary }) {
  const choose = (level) => () => { navigate({ level }, false); state.targets.offset = 0; refresh('targets'); };
  const button = (level, text, count) => element('button', { type: 'button', class: `level ${level}`, 'aria-pressed': String(state.targets.level === level), 'data-key': `level ${level}`, onclick: choose(level) }, `${text} ${formatCount(count)}`);
  const levels = Object.entries(LEVELS).filter(([level]) => summary.levels[level] || state.targets.level === level);
  updateTable('levels', { levels: summary.levels, level: state.targets.level }, button('', 'All', summary.targets), ...levels.map(([level, text]) => button(level, text, summary.levels[level])));
}

function renderTargets(response) {
  renderLevels(response);
  const headers = [headerCell('Target'), headerCell('State'), headerCell('Server'), headerCell('Slow calls', { class: 'number' }), headerCell('Last blockage'), headerCell('Problems')];
  const none = state.target ? 'There is currently no target with this name.' : 'No target matches the search.';
  const body = response.targets.length
    ? table('Targets', headers, response.targets.map(targetRow))
    : element('p', { class: 'empty' }, response.summary.targets ? none : 'There are no targets yet.');
  updateTable('targets', response, body, pager(response, 'targets'));
}

/** Shows which target the lists are limited to. */
function renderFilter() {
  const bar = byId('filter');
  bar.hidden = !state.target;
  if (state.target) replaceChildren(bar, [element('span', {}, 'Only target ', untrusted(state.target, 'strong'), '. '), viewLink({ target: '' }, 'Show all targets', { 'data-key': 'all targets' })]);
}

// ---- incidents -----------------------------------------------------------------------------------------------------

const KINDS = {
  script: 'script', function: 'function', module: 'module command', command: 'command', unknown: 'unknown cause', unreachable: 'unreachable', unauthorized: 'access denied',
};
const ENDS = { killed: 'killed', finished: 'finished', connection_lost: 'connection lost' };
const MAX_TIMELINES = 10;
/** Actions of the guard against a script, by outcome. */
const GUARD = {
  killed: 'killed it', killed_again: 'killed it', killed_next: 'killed it, or the one after it', unkillable: 'could not kill it: it had written', from_master: 'could not kill it: it came from the master',
  not_busy: 'did nothing: it ended before the kill', other_kind: 'did nothing: it ended before the kill', not_permitted: 'could not kill it: permission missing', error: 'could not kill it: the server returned an error',
  unreachable: 'could not kill it: no connection', dry_run: 'would have killed it (dry run)', excluded: 'did not kill it: its patterns exclude it', unknown_script: 'did not kill it: its name was not certain',
  functions_off: 'did not kill it: functions are off', module: 'did not kill it: no kill ends a module command', replica: 'did not kill it: the server is a replica', unknown_role: 'did not kill it: the server may be a replica', budget: 'did not kill it: its limit on kills was reached',
};
const guardText = ({ outcome, seconds }) => `guard ${GUARD[outcome] ?? outcome} after ${formatDuration(seconds)}`;
const isOutage = ({ kind }) => kind === 'unreachable' || kind === 'unauthorized';

function incidentText(incident) {
  const what = incident.name ?? KINDS[incident.kind];
  const guard = incident.guard.map((action) => `; ${guardText(action)}`).join('');
  return `${formatTime(incident.began)}: ${visible(what)}, ${formatDuration(incident.seconds)}${incident.ended === null ? ' so far' : ''}${guard}`;
}

/** Draws the last 24 hours of a target, with a mark every 6 hours. */
function timeline(target, incidents, end) {
  const x = (unix) => Math.max(0, Math.min(960, 960 * (1 - (end - unix) / DAY)));
  const bars = incidents.map((incident) => {
    const from = Math.min(x(incident.began), 956);
    return svgElement('rect', { x: from, y: 2, width: Math.max(4, x(incident.ended ?? end) - from), height: 16, class: isOutage(incident) ? 'outage' : 'blockage' }, svgElement('title', {}, incidentText(incident)));
  });
  const marks = incidents.flatMap(({ guard }) => guard).map((action) => {
    const at = x(action.at);
    return svgElement('path', { d: `M${at - 5} 0h10l-5 8z`, class: 'guard' }, svgElement('title', {}, `${formatTime(action.at)}: ${guardText(action)}`));
  });
  const ticks = [0, 240, 480, 720, 960].map((at) => svgElement('line', { x1: at, y1: 0, x2: at, y2: 20 }));
  return element('div', { class: 'timeline' }, element('span', { class: 'where' }, targetLink(target, { 'data-key': `timeline ${target}` })),
    svgElement('svg', { viewBox: '0 0 960 20', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${plural(incidents.length, 'incident', 'incidents')} of ${visible(target)} in the last 24 hours: ${incidents.slice(0, 5).map(incidentText).join('; ')}` }, ...ticks, ...bars, ...marks));
}

function incidentRow(incident) {
  const client = [incident.client_name && untrusted(incident.client_name), incident.client && untrusted(incident.client, 'bdi', { class: 'muted' })].filter(Boolean);
  const style = isOutage(incident) ? 'down' : incident.ended === null ? 'bad' : 'severity critical';
  return foldedRow(`incident ${incident.target} ${incident.began}`,
    cell('Began', { class: 'name' }, ageElement(incident.began), ' ', element('span', { class: `chip ${style}` }, incident.busy ? `BUSY: ${KINDS[incident.kind]}` : KINDS[incident.kind]), ' ', element('span', { class: 'muted' }, formatTime(incident.began))),
    cell('Duration', { class: 'number key' }, incident.ended === null ? element('span', {}, ageElement(incident.began, ''), ' so far') : formatDuration(incident.seconds)),
    cell('Script', { class: 'mono' }, incident.name ? element('span', {}, scriptLink(incident.name, { 'data-key': `incident ${incident.target} ${incident.began}` }), identities(incident.name, [incident.script])) : '–'),
    cell('Target', {}, untrusted(incident.target)),
    cell('Caller', {}, element('span', {}, ...(client.length ? client.flatMap((part, index) => [index ? ' ' : '', part]) : ['–']))),
    cell('End', {}, incident.ended === null ? 'in progress' : ENDS[incident.end] ?? (isOutage(incident) ? 'reachable again' : 'ended'),
      ...incident.guard.map((action) => element('span', { class: 'muted', title: visible(action.detail ? `${action.text}: ${action.detail}` : action.text) }, `; ${guardText(action)}`))),
    cell('Refused clients', { class: 'number' }, incident.refused_clients === null ? '–' : formatCount(incident.refused_clients)));
}

function noIncidents() {
  if (state.script) return 'No blockage by this script in the last 24 hours';
  return state.target ? 'No blockage and no outage of this target in the last 24 hours' : 'No blockage and no outage in the last 24 hours';
}

function renderIncidents(response) {
  const end = now();
  const byTarget = new Map();
  for (const incident of response.incidents) {
    const list = byTarget.get(incident.target) ?? [];
    list.push(incident);
    byTarget.set(incident.target, list);
  }
  const shown = [...byTarget].slice(0, MAX_TIMELINES);
  const omitted = byTarget.size - shown.length;
  const axis = element('div', { class: 'timeline axis', 'aria-hidden': 'true' }, element('span', { class: 'where' }),
    element('div', { class: 'ticks' }, ...['24 h ago', '18 h', '12 h', '6 h', 'now'].map((text) => element('span', {}, text))));
  const rows = response.incidents.slice(0, state.incidents.limit);
  const headers = [headerCell('Began'), headerCell('Duration', { class: 'number' }), headerCell('Script'), headerCell('Target'), headerCell('Caller'), headerCell('End'), headerCell('Refused clients', { class: 'number' })];
  const hidden = response.total - rows.length;
  const showMore = () => { state.incidents.limit = Math.min(MAX_ROWS, state.incidents.limit * 4); refresh('incidents'); };
  const notes = [omitted ? `${plural(omitted, 'more target', 'more targets')} with incidents; see the list.` : '', response.dropped ? `${plural(response.dropped, 'short incident', 'short incidents')} omitted to limit memory use.` : ''].filter(Boolean).join(' ');
  const content = response.incidents.length
    ? [element('div', { class: 'timelines' }, ...shown.map(([target, list]) => timeline(target, list, end)), axis),
      notes ? element('p', { class: 'muted' }, notes) : null, table('Incidents', headers, rows.map(incidentRow)),
      hidden > 0 && rows.length < MAX_ROWS ? element('div', { class: 'pager' }, element('button', { type: 'button', 'data-key': 'more incidents', onclick: showMore }, `Show more of ${formatCount(response.total)}`)) : null]
    : [element('p', { class: 'empty' }, `${noIncidents()}, as far as this exporter has observed.`)];
  // Bars move by less than one of 960 steps within a minute.
  updateTable('incidents', { ...response, minute: Math.floor(end / 60) }, ...content);
}

// ---- scripts -------------------------------------------------------------------------------------------------------

const SORTABLE_COLUMNS = [
  ['name', 'Script'], ['total', 'Total time'], ['calls', 'Calls'], ['p99', 'p99'], ['longest', 'Longest'], ['last_seen', 'Last seen'],
];

function sortableHeader([key, text]) {
  const query = state.scripts;
  const isActive = query.sort === key;
  const sort = () => {
    const order = isActive ? (query.order === 'desc' ? 'asc' : 'desc') : key === 'name' ? 'asc' : 'desc';
    navigate({ sort: key, order }, false);
    query.offset = 0;
    refresh('scripts');
  };
  return element('th', { role: 'columnheader', scope: 'col', class: key === 'name' || key === 'last_seen' ? 'sortable' : 'sortable number', 'aria-sort': isActive ? (query.order === 'desc' ? 'descending' : 'ascending') : null },
    element('button', { type: 'button', onclick: sort, 'data-key': `sort ${key}` }, text));
}

/** Class of a bar: the severity of the longest calls that it can contain. */
const barClass = (le, { warning, critical }) => (le === null || le > critical ? 'critical' : le > warning ? 'warning' : null);
const boundText = (le) => (le === null ? 'longer' : `≤ ${formatDuration(le)}`);

/** Draws a histogram of calls by duration, with a logarithmic scale for the number of calls and the bounds of the first and last bars. */
function chart(row) {
  const barWidth = 6;
  const used = row.buckets.flatMap(({ calls }, index) => (calls ? [index] : []));
  const buckets = row.buckets.slice(Math.max(0, used[0] - 1), used.at(-1) + 2);
  const maxCalls = Math.max(...buckets.map((bucket) => bucket.calls), 1);
  const bars = buckets.flatMap(({ le, calls }, index) => {
    if (!calls) return [];
    const height = 3 + (25 * Math.log1p(calls)) / Math.log1p(maxCalls);
    return [svgElement('rect', { x: index * barWidth, y: 28 - height, width: barWidth - 1, height, class: barClass(le, row.thresholds) },
      svgElement('title', {}, `${boundText(le)}: ${plural(calls, 'call', 'calls')}`))];
  });
  const width = buckets.length * barWidth;
  const description = buckets.filter((bucket) => bucket.calls).map(({ le, calls }) => `${boundText(le)}: ${formatCount(calls)}`).join(', ');
  return element('div', { class: 'chart' },
    svgElement('svg', { viewBox: `0 0 ${width} 30`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `Calls by duration: ${description}` },
      svgElement('line', { x1: 0, y1: 29, x2: width, y2: 29 }), ...bars),
    element('div', { class: 'ticks', 'aria-hidden': 'true' }, element('span', {}, boundText(buckets[0]?.le ?? null)), element('span', {}, boundText(buckets.at(-1)?.le ?? null))));
}

/** Draws a histogram as rows: bound, bar and number of calls, with the thresholds between them. */
function durations(row) {
  const used = row.buckets.flatMap(({ calls }, index) => (calls ? [index] : []));
  const first = Math.max(0, used[0] - 1);
  const maxCalls = Math.max(...row.buckets.map((bucket) => bucket.calls), 1);
  const rows = row.buckets.slice(first, used.at(-1) + 2).map(({ le, calls }) => element('tr', { role: 'row' },
    element('th', { role: 'rowheader', scope: 'row' }, boundText(le)),
    element('td', { role: 'cell', class: 'bar', 'aria-hidden': 'true' }, svgElement('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none' }, svgElement('rect', { x: 0, y: 0, width: (100 * calls) / maxCalls, height: 10, class: barClass(le, row.thresholds) }))),
    element('td', { role: 'cell', class: 'number' }, plural(calls, 'call', 'calls'))));
  return element('div', {}, element('table', { role: 'table', class: 'durations', 'aria-label': 'Calls by duration' }, element('tbody', { role: 'rowgroup' }, ...rows)),
    element('p', { class: 'muted' }, `Yellow: longer than ${formatDuration(row.thresholds.warning)} (--slow.warning). Red: longer than ${formatDuration(row.thresholds.critical)} (--slow.critical).`));
}

/** Draws the latest slow calls of a script over time, with duration on a logarithmic scale and the thresholds. */
function trend(row, calls) {
  if (!calls.length) return element('p', { class: 'muted' }, 'No recent slow calls.');
  const { warning, critical } = row.thresholds;
  const seconds = calls.map((call) => Math.max(call.duration_seconds, 1e-6));
  const low = Math.log10(Math.min(warning, ...seconds) / 1.5);
  const high = Math.log10(Math.max(critical, ...seconds) * 1.5);
  const times = calls.map((call) => call.ended_at);
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const x = (unix) => (to > from ? 90 + (600 * (unix - from)) / (to - from) : 390);
  const y = (duration) => 130 - (120 * (Math.log10(duration) - low)) / (high - low);
  // The label of the lower threshold is below its line, that of the higher one is above it.
  const longest = Math.max(...seconds);
  const line = (duration, style) => [svgElement('line', { x1: 80, y1: y(duration), x2: 700, y2: y(duration), class: style }),
    svgElement('text', { x: 76, y: y(duration) + (style === 'warning' ? 12 : -2), 'text-anchor': 'end' }, formatDuration(duration))];
  const points = calls.map((call, index) => svgElement('circle', { cx: x(times[index]), cy: y(seconds[index]), r: 4, class: call.severity },
    svgElement('title', {}, `${formatTime(call.ended_at)}: ${formatDuration(call.duration_seconds)}, ${visible(call.target)}`)));
  return element('div', { class: 'trend' },
    svgElement('svg', { viewBox: '0 0 720 140', role: 'img', 'aria-label': `Latest ${plural(calls.length, 'slow call', 'slow calls')}: ${formatDuration(Math.min(...seconds))} to ${formatDuration(Math.max(...seconds))}` },
      ...line(warning, 'warning'), ...(critical > warning ? line(critical, 'critical') : []),
      // Label of the longest call, unless it would overlap that of a threshold.
      ...(Math.min(Math.abs(y(longest) - y(warning)), Math.abs(y(longest) - y(critical))) > 26 ? [svgElement('text', { x: 76, y: y(longest) + 4, 'text-anchor': 'end' }, formatDuration(longest))] : []), ...points),
    element('div', { class: 'ticks' }, element('span', {}, formatTime(from)), to > from ? element('span', {}, formatTime(to)) : null));
}

function callerItem({ client, client_name: name, calls_at_least: min, calls_at_most: max }) {
  return element('li', {}, untrusted(name ?? client ?? 'unknown', 'strong'), name && client ? ' at ' : '', name && client ? untrusted(client) : '',
    `: ${min === max ? plural(min, 'call', 'calls') : `${formatCount(min)} to ${formatCount(max)} calls`}`);
}

/** Linter findings. */
function lintFindings(findings) {
  if (!findings.length) return element('p', { class: 'muted' }, 'No lint findings.');
  return element('ul', {}, ...findings.map(({ line, severity, rule, message }) => element('li', {}, element('span', { class: `chip severity ${severity === 'error' ? 'critical' : 'warning'}` }, severity), ` Line ${line}: `, visible(message), ' ', element('span', { class: 'muted mono' }, rule))));
}

/** The page of one script. */
function renderScript(response, calls) {
  byId('script-title').textContent = `Script ${visible(response.scripts[0]?.name ?? state.script)}`;
  const row = response.scripts[0];
  if (!row) {
    updateTable('script', { script: state.script }, element('p', { class: 'empty' }, 'No call to this script has been in the slow log since the exporter started.'));
    return;
  }
  const list = element('dl', {});
  const add = (term, ...content) => list.append(element('dt', {}, term), element('dd', {}, ...content));
  const label = row.scripts.length > 1 ? 'Labels' : 'Label';
  add(label, ...row.scripts.flatMap((script, index) => [index ? ', ' : '', untrusted(script, 'code')]));
  if (row.sha1) add('SHA1', untrusted(row.sha1, 'code'));
  add('Commands', row.commands.map((command) => command.toUpperCase()).join(', '));
  add('Calls', `${formatCount(row.calls)} in the slow log; ${formatCount(row.slow_calls.warning)} slow, ${formatCount(row.slow_calls.critical)} of them critical`);
  add('Durations', `longest ${formatDuration(row.longest_seconds)}, p99 ${formatDuration(row.p99_seconds)}, total ${formatDuration(row.total_seconds)}`);
  add('Seen', 'first ', ageElement(row.first_seen), ', last ', ageElement(row.last_seen));
  add('Targets', element('ul', {}, ...row.targets.map(({ target, calls: count }) => element('li', {}, targetLink(target, { 'data-key': `of target ${target}` }), `: ${plural(count, 'call', 'calls')}`)),
    row.targets_total > row.targets.length ? element('li', {}, `and ${formatCount(row.targets_total - row.targets.length)} more`) : null));
  add('Callers', row.callers.length
    ? element('ul', {}, ...row.callers.map(callerItem), row.more_callers ? element('li', {}, 'and others with fewer calls') : null)
    : (state.clients === false ? 'hidden by --web.hide-clients' : 'unknown'));
  const own = calls.filter((call) => !call.before_start);
  const source = typeof row.source === 'string'
    ? [element('h3', {}, 'Source'), element('pre', { tabindex: '0', 'data-key': `source ${row.name}` }, row.source.split('\n').map(visible).join('\n')), element('h3', {}, 'Lint'), lintFindings(response.lint ?? [])]
    : [element('p', { class: 'muted' }, 'The source is not shown: set --web.show-source, and --script.dir for a server that does not return it.')];
  updateTable('script', { ...response, calls }, list, element('h3', {}, 'Calls by duration'), durations(row), element('h3', {}, 'Slow calls over time'), trend(row, own), ...source);
}

/** Identities (the label `script`) of a script, unless the name is the only one. */
function identities(name, scripts) {
  if (scripts.length === 1 && scripts[0] === name) return null;
  return element('span', { class: 'muted mono' }, ...scripts.filter(Boolean).flatMap((script) => [' ', untrusted(script)]));
}

function scriptRow(row) {
  return foldedRow(`script ${row.name}`,
    cell('Script', { class: 'name' }, scriptLink(row.name, { class: 'mono' }), identities(row.name, row.scripts)),
    cell('Total time', { class: 'number key' }, formatDuration(row.total_seconds)),
    cell('Calls', { class: 'number' }, formatCount(row.calls)),
    cell('p99', { class: 'number' }, formatDuration(row.p99_seconds)),
    cell('Longest', { class: 'number' }, formatDuration(row.longest_seconds)),
    cell('Last seen', {}, ageElement(row.last_seen)),
    cell('Durations', {}, chart(row)));
}

function renderScripts(response) {
  if (state.script) { renderScript(response, latest.slow?.calls ?? []); return; }
  const body = response.scripts.length
    ? table('Scripts', [...SORTABLE_COLUMNS.map(sortableHeader), headerCell('Durations')], response.scripts.map(scriptRow))
    : element('p', { class: 'empty' }, state.scripts.q ? 'No script matches the search.' : 'No script calls have been in the slow log since the exporter started.');
  updateTable('scripts', response, body, pager(response, 'scripts'));
}

// ---- latest slow calls ---------------------------------------------------------------------------------------------

function keysCell({ keys, key_count: total }) {
  if (!keys?.length) return total === null ? '–' : formatCount(total);
  return element('span', {}, ...keys.flatMap((key, index) => [index ? ', ' : '', untrusted(key)]),
    element('span', { class: 'muted' }, ` of ${formatCount(total ?? 0)}`));
}

function callRow(call) {
  const client = [call.client_name && untrusted(call.client_name), call.client && untrusted(call.client, 'bdi', { class: 'muted' })].filter(Boolean);
  const before = call.before_start
    ? element('span', { class: 'chip', title: 'In the slow log when the exporter first read it; not counted.' }, 'before the start') : null;
  return foldedRow(`call ${call.target} ${call.id} ${call.ended_at}`,
    cell('Script', { class: 'name mono' }, scriptLink(call.name, { 'data-key': `call ${call.target} ${call.id}` }), identities(call.name, [call.script])),
    cell('Ended', {}, element('span', {}, ageElement(call.ended_at), ' ', before)),
    cell('Duration', { class: 'number key' }, formatDuration(call.duration_seconds)),
    cell('Severity', {}, element('span', {}, element('span', { class: `chip severity ${call.severity}` }, call.severity))),
    cell('Command', {}, call.command.toUpperCase()),
    cell('Target', {}, untrusted(call.target)),
    cell('Client', {}, element('span', {}, ...(client.length ? client.flatMap((part, index) => [index ? ' ' : '', part]) : ['–']))),
    cell('Keys', { class: call.keys?.length ? null : 'number' }, keysCell(call)));
}

function renderCalls(response) {
  const headers = [headerCell('Script'), headerCell('Ended'), headerCell('Duration', { class: 'number' }), headerCell('Severity'), headerCell('Command'), headerCell('Target'), headerCell('Client'), headerCell('Keys', { class: 'number' })];
  const body = response.calls.length ? table('Latest slow calls', headers, response.calls.map(callRow))
    : element('p', { class: 'empty' }, 'No recent slow calls.');
  const showMore = () => { state.slow.limit = Math.min(MAX_ROWS, state.slow.limit * 2); refresh('slow'); };
  const more = response.more && state.slow.limit < MAX_ROWS
    ? element('div', { class: 'pager' }, element('button', { type: 'button', 'data-key': 'more calls', onclick: showMore }, 'Show more')) : null;
  updateTable('calls', response, body, more);
}

// ---- polling -------------------------------------------------------------------------------------------------------

const latest = {}; // latest response of each list
const render = {
  targets(response) {
    state.clients = response.shows.clients;
    if (isWhole('targets')) { renderBlocked(response); renderProblems(response); }
    renderTargets(response);
  },
  scripts: renderScripts,
  slow(response) {
    renderCalls(response);
    if (state.script && latest.scripts) renderScript(latest.scripts, response.calls);
  },
  incidents: renderIncidents,
};
/** True if the list is not filtered and starts at its first page. */
const isWhole = (list) => !state.target && !state[list].q && !state[list].level && state[list].offset === 0;
const requestNumbers = { targets: 0, scripts: 0, slow: 0, incidents: 0 };
const failures = { targets: 0, scripts: 0, slow: 0, incidents: 0 }; // consecutive failures
const STALE_AFTER = 15; // seconds without a response; a hidden page polls less often
let lastSuccess = Date.now() / 1000; // time of the latest response with targets, on the browser's clock
let lastError = '';

/** Shows a message if the data is stale, and hides the headline, which may no longer be true. */
function renderStale() {
  state.stale = failures.targets > 1 || (!document.hidden && Date.now() / 1000 - lastSuccess > STALE_AFTER);
  const isFailing = state.stale || Object.values(failures).some((count) => count > 1);
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

/** Query parameters of the request for a list. */
function queryOf(list) {
  const { target, script } = state;
  if (list === 'incidents') return { target, script, limit: MAX_ROWS };
  if (list === 'slow') return { ...state.slow, target, script, limit: script ? MAX_ROWS : state.slow.limit };
  if (list === 'scripts' && script) return { script, target, limit: 1 };
  return { ...state[list], target };
}

/** Fetches and renders a list. Drops the response if a newer request has been started in the meantime. */
async function refresh(list) {
  const number = ++requestNumbers[list];
  try {
    const response = await fetchList(list, queryOf(list));
    // Blocked targets must be shown whichever part of the list is selected.
    const firstPage = list === 'targets' && !isWhole(list) ? await fetchList('targets', { limit: PAGE_ROWS }) : null;
    if (number !== requestNumbers[list]) return;
    // A response from the browser's cache contains the time of its first delivery, so the maximum is the correct offset.
    state.clockOffset = Math.max(state.clockOffset, response.now - Date.now() / 1000);
    latest[list] = response;
    failures[list] = 0;
    if (list === 'targets') lastSuccess = Date.now() / 1000;
    if (!Object.values(failures).some(Boolean)) lastError = '';
    renderStale();
    for (const node of document.querySelectorAll('.needs-script[hidden]')) node.hidden = node.id === 'script-panel' && !state.script;
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
      navigate({ [list]: event.target.value.trim().slice(0, 200) }, false);
      state[list].offset = 0;
      refresh(list);
    }, 200);
  });
}

connectSearch('targets-search', 'targets');
connectSearch('scripts-search', 'scripts');
addEventListener('popstate', () => { readUrl(); applyUrl(); refreshAll(); });
byId('all-scripts').addEventListener('click', (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  navigate({ script: '' }, true);
  applyUrl();
  refreshAll();
});
readUrl();
applyUrl();
byId('overview').textContent = 'Loading…';
byId('overview').hidden = false;
poll('targets', 1);
poll('scripts', 3);
poll('slow', 2);
poll('incidents', 2);
setInterval(() => {
  renderStale();
  if (state.stale) return;
  for (const timer of document.querySelectorAll('[data-since]')) timer.textContent = formatTimer(now() - Number(timer.dataset.since));
  for (const age of document.querySelectorAll('[data-age]')) {
    const text = ageText(Number(age.dataset.age), age.dataset.suffix);
    if (age.textContent !== text) age.textContent = text;
  }
}, 250);
document.addEventListener('visibilitychange', () => { if (!document.hidden) for (const list of Object.keys(render)) refresh(list); });
