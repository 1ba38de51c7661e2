// Runs every dashboard query on a Prometheus with the artificial history of history.mjs, and compares the results with the
// events on the servers.
//
//   node answers.mjs DASHBOARD.json…                 compares
//   node answers.mjs --draw FOLDER DASHBOARD.json…   writes pages that show the dashboards at each moment, too
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Prometheus } from './prometheus.mjs';
import { END, GAP, RANGE, RATE_INTERVAL, RENAMED, START, blockages, calls, history, moments, scripts, servers } from './history.mjs';

const draw = process.argv[2] === '--draw' ? process.argv[3] : undefined;
const files = process.argv.slice(draw ? 4 : 2);
const dashboards = files.map((file) => ({ file: basename(file), json: JSON.parse(readFileSync(file, 'utf8')) }));

/** Time in seconds after a second of the history at which queries are evaluated; all exporters have been scraped by then. */
const DELAY = 0.9;

const problems = [];

/** Every query: its location ("file: title refId"), expression and panel. */
const queries = dashboards.flatMap(({ file, json }) => [
  ...json.panels.flatMap((panel) => (panel.targets ?? []).map((target) => ({ place: `${short(file)}: ${panel.title} ${target.refId}`, expr: target.expr, instant: target.instant, panel, target }))),
  ...json.annotations.list.filter((one) => one.expr).map((one) => ({ place: `${short(file)}: annotation ${one.name}`, expr: one.expr, instant: false })),
  ...json.templating.list.filter((one) => one.type === 'query').map((one) => ({ place: `${short(file)}: variable ${one.name}`, expr: one.query.query.replace(/^label_values\((.*), (\w+)\)$/, 'count by ($2) ($1)'), instant: true })),
]);

function short(file) {
  return file.replace(/^redis-scripts?-|\.json$/g, '');
}

/** Escapes a selected value for a regular expression, as Grafana does. */
const chosen = (text) => text.replace(/[.+*?()[\]{}^$|\\]/g, '\\\\$&');

/** Replaces variables as Grafana does. */
function substitute(expr, at, { job = '.+', instance = '.+', target = '.+', name = RENAMED } = {}) {
  const script = chosen(name === RENAMED ? scripts.settle : scripts[name] ?? name);
  const values = { __rate_interval_ms: RATE_INTERVAL * 1000, __rate_interval: `${RATE_INTERVAL}s`, __range: `${RANGE}s`, __from: (START + at - RANGE) * 1000, job, instance, target, name, script };
  return expr.replace(/\$(\w+)/g, (whole, variable) => {
    if (variable in values) return values[variable];
    throw new Error(`there is no variable ${whole}`);
  });
}

const prometheus = await Prometheus.start();
/** Labels of the rows that each query has returned. */
const seen = new Map(queries.map(({ place }) => [place, []]));
const asked = new Set();

/** Result of a query at a moment, as rows of labels and value; with `end`, the first point of a range query up to that second. */
async function rows(place, at, variables, end) {
  const query = queries.find((one) => one.place === place);
  if (!query) throw new Error(`there is no query ${place}`);
  asked.add(place);
  const expr = substitute(query.expr, at, variables);
  if (end) {
    const { result } = await prometheus.queryRange(expr, START + at + DELAY, START + end + DELAY, end - at);
    return result.filter(({ values: [[time]] }) => time === START + at + DELAY).map(({ metric, values: [[, value]] }) => ({ labels: metric, value: Number(value) }));
  }
  const { result } = await prometheus.query(expr, START + at + DELAY);
  seen.get(place).push(...result.map(({ metric }) => metric));
  return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
}

/** Compares the rows of a query with the expected ones: [labels, value, tolerance]. Rows may have more labels. */
async function expect(place, at, expected, { variables, end, some = false } = {}) {
  let found;
  try {
    found = await rows(place, at, variables, end);
  } catch (error) {
    problems.push(`${place} at ${at}: ${error.message}`);
    return;
  }
  const tell = (what) => problems.push(`${place} at ${at}: ${what}; rows: ${JSON.stringify(found.map(({ labels, value }) => [labels, value]))}`);
  const open = [...found];
  for (const [labels, value, tolerance = 1e-6] of expected) {
    const index = open.findIndex((row) => Object.entries(labels).every(([name, text]) => (row.labels[name] ?? '') === text));
    if (index < 0) {
      tell(`no row ${JSON.stringify(labels)}`);
      continue;
    }
    const [row] = open.splice(index, 1);
    if (!(Math.abs(row.value - value) <= tolerance)) tell(`${JSON.stringify(labels)} is ${row.value}, not ${value}`);
  }
  if (!some && open.length > 0) tell(`${open.length} rows too many`);
}

// Expected numbers, computed from the events.

const range = (at, window = RANGE) => (one) => one.at > at - window && one.at <= at;
const of = (filter) => (one) => Object.entries(filter).every(([key, value]) => one[key] === value);
const unseen = (at) => (one) => at === moments.gap && one.server === 'first' && one.at > GAP;
/** Calls in the window that Prometheus has scraped. */
const done = (at, filter = {}, window = RANGE) => calls.filter(range(at, window)).filter(of(filter)).filter((one) => !unseen(at)(one));
const sum = (list, key = 'duration') => list.reduce((total, one) => total + one[key], 0);
const by = (list, key) => {
  const groups = new Map();
  for (const one of list) groups.set(key(one), [...(groups.get(key(one)) ?? []), one]);
  return groups;
};
const named = (name) => (name === 'settle' ? RENAMED : name);
const FIRST = { job: servers.first.job, instance: servers.first.instance };
const SECOND = { job: servers.second.job, instance: servers.second.instance };
const CARTS = { instance: servers.carts.instance, target: 'carts' };
const SESSIONS = servers.sessions;
const only = (server) => ({ job: chosen(server.job), instance: chosen(server.instance), target: chosen(server.target) });

/** Rows of a panel that sums by name. */
const perName = (at, value, filter = {}, window = RANGE, rename = named) => [...by(done(at, filter, window), (one) => rename(one.name))].map(([name, list]) => [{ name }, value(list)]);

async function compare() {
  const o = (title) => `scripts-overview: ${title}`.replace('scripts-', '');
  const d = (title) => `detail: ${title}`;
  const m = moments;

  // The first row shows the worst state.
  const worst = { fine: 0, blocked: 3, single: 0, gap: 9, resumed: 0, busyFunction: 5, between: 0, busyScript: 6, down: 8, degraded: 1 };
  for (const [moment, code] of Object.entries(worst)) await expect(o('Worst state now A'), m[moment], [[{}, code]]);
  // Entries were lost in the time range until 1650.
  await expect(o('Worst state now A'), m.after, [[{}, 1]]);
  await expect(o('Servers, worst first A'), m.fine, [[FIRST, 0], [SECOND, 0], [CARTS, 0], [SESSIONS, 0]]);
  await expect(o('Servers, worst first A'), m.gap, [[FIRST, 9], [SECOND, 0], [CARTS, 0], [SESSIONS, 0]]);
  await expect(o('Servers, worst first A'), m.down, [[FIRST, 0], [SECOND, 6], [CARTS, 8], [SESSIONS, 0]]);
  await expect(o('Servers, worst first A'), m.down, [[SECOND, 6]], { variables: only(servers.second) });
  // The rows without a target are those of the exporter, one of them scraped by /probe; its configuration was rejected.
  await expect(o('Servers, worst first A'), m.degraded, [[FIRST, 0], [SECOND, 0], [CARTS, 0], [SESSIONS, 1], [{ instance: servers.carts.instance, target: '' }, 1], [{ instance: SESSIONS.instance, target: '' }, 1]]);
  await expect(o('Servers, worst first B'), m.fine, []);
  await expect(o('Servers, worst first B'), m.busyFunction, [[SECOND, 8]]);
  await expect(o('Servers, worst first C'), m.busyFunction, [[{ ...SECOND, kind: 'function', name: 'rebuild_index' }, 1]]);
  await expect(o('Servers, worst first C'), m.between, []);
  // Right after a function, the running script is shown by its name.
  await expect(o('Servers, worst first C'), m.busyScript, [[{ ...SECOND, kind: 'script', name: RENAMED }, 1]]);
  await expect(o('Servers, worst first D'), m.fine, [[FIRST, 1], [SECOND, 1], [{ ...CARTS, address: '10.0.0.7:6379' }, 1], [SESSIONS, 1]]);
  await expect(o('State of each server A'), m.busyScript, [[FIRST, 0], [SECOND, 6], [CARTS, 0], [SESSIONS, 0]]);
  await expect(o('State of each server A'), m.gap, [[FIRST, 9], [SECOND, 0], [CARTS, 0], [SESSIONS, 0]]);
  await expect(o('annotation BUSY episodes'), m.busyScript, [[{ ...SECOND, state: 'busy_script' }, 1]]);

  // Slow calls: each once, with the highest severity.
  const single = { ...FIRST, script: scripts['~77aa01bc9d3e'], name: '~77aa01bc9d3e', command: 'eval', severity: 'critical' };
  await expect(o('Latest slow calls A'), m.fine, []);
  await expect(o('Latest slow calls A'), m.single, [[single, (START + 700) * 1000]]);
  await expect(o('Latest slow calls B'), m.single, [[single, 2.5]]);
  // Scraped values remain while the exporter is not scraped.
  await expect(o('Latest slow calls A'), m.gap, [[single, (START + 700) * 1000]]);
  await expect(o('Scripts by total time E'), m.gap, [[{ name: '~77aa01bc9d3e' }, 2], [{ name: 'settle' }, 0], [{ name: 'rebuild_index' }, 0]]);
  await expect(o('Problems A'), m.gap, [[{ ...FIRST, problem: "exporter not scraped: see Prometheus' page of targets" }, 1]]);
  const slow = [
    [single, 700, 2.5],
    [{ ...FIRST, name: RENAMED, command: 'evalsha', severity: 'critical' }, 1105, 3],
    [{ ...FIRST, name: RENAMED, command: 'evalsha', severity: 'warning' }, 1112, 1.3],
    [{ ...SECOND, name: 'rebuild_index', command: 'fcall', severity: 'critical' }, 912, 12],
    [{ ...SECOND, name: RENAMED, command: 'evalsha', severity: 'critical' }, 924, 8],
    [{ ...SECOND, name: 'checkout', command: 'evalsha', severity: 'critical' }, 990, 20],
  ];
  await expect(o('Latest slow calls A'), m.slow, slow.map(([labels, at]) => [labels, (START + at) * 1000]));
  await expect(o('Latest slow calls B'), m.slow, slow.map(([labels, , duration]) => [labels, duration]));
  await expect(o('Latest slow calls B'), m.restarted, slow.map(([labels, , duration]) => [labels, duration]));
  const mine = slow.filter(([labels]) => labels.name === RENAMED);
  await expect(d('Latest slow calls A'), m.slow, mine.map(([labels, at]) => [labels, (START + at) * 1000]));
  await expect(d('Latest slow calls B'), m.slow, mine.map(([labels, , duration]) => [labels, duration]));

  // Blockages. The counter exists from the start, so its first increase is not lost.
  const blocked = by(blockages.filter(range(m.slow)), (one) => `${one.server} ${one.cause}`);
  const causes = (value) => [...blocked.values()].map((list) => [{ instance: servers[list[0].server].instance, cause: list[0].cause }, value(list)]);
  await expect(o('Blockages by cause A'), m.slow, causes((list) => list.length));
  await expect(o('Blockages by cause B'), m.slow, causes((list) => sum(list, 'seconds')));
  await expect(o('Time blocked, by cause A'), 913, [[{ cause: 'function' }, 12]], { some: true });
  for (const [at, warning, critical] of [[1113, 1, 0], [1106, 0, 1], [m.fine, 0, 0]]) {
    await expect(o('Slow calls A'), at, [[{}, warning]]);
    await expect(o('Slow calls B'), at, [[{}, critical]]);
  }
  await expect(o('Errors that clients got A'), 926, [[{ error: 'BUSY' }, 10, 4]], { some: true });
  await expect(o('Kills A'), 926, [[{ kind: 'script' }, 1], [{ kind: 'function' }, 0]]);
  await expect(o('Rejected and failed calls A'), 926, [[{}, 5, 2]]);
  await expect(o('Rejected and failed calls B'), 932, [[{}, 3, 1.1]]);

  // Calls by script: exact across the first call of a script, a gap, a restart that keeps the counters, and a new name.
  const plain = (name) => name;
  for (const [at, rename] of [[m.young, plain], [m.fine, plain], [m.single, plain], [m.gap, plain], [m.resumed, plain], [m.renamed, named], [m.busyScript, named], [m.slow, named]]) {
    await expect(o('Scripts by total time A'), at, perName(at, (list) => sum(list), {}, RANGE, rename));
    await expect(o('Scripts by total time B'), at, perName(at, (list) => list.length, {}, RANGE, rename));
  }
  // A restart without state: earlier calls are counted, and Prometheus extrapolates.
  await expect(o('Scripts by total time B'), m.restarted, perName(m.restarted, (list) => list.length).map(([labels, value]) => [labels, value, 1.5]));
  // A single call is its own p99.
  await expect(o('Scripts by total time C'), m.single, [[{ name: '~77aa01bc9d3e' }, 2.5]], { some: true });
  await expect(o('Scripts by total time C'), m.slow, [[{ name: '~77aa01bc9d3e' }, 2.5], [{ name: 'checkout' }, 20], [{ name: 'rebuild_index' }, 12, 6], [{ name: RENAMED }, 8]]);
  await expect(o('Scripts by total time D'), m.slow, [[{ name: '~77aa01bc9d3e' }, 2.5], [{ name: 'checkout' }, 20], [{ name: 'rebuild_index' }, 12], [{ name: RENAMED }, 8]]);
  await expect(o('Scripts by total time E'), m.slow, [[{ name: '~77aa01bc9d3e' }, 2], [{ name: 'checkout' }, 2], [{ name: 'rebuild_index' }, 2], [{ name: RENAMED }, 2]]);
  await expect(o('Scripts by total time E'), m.fine, [[{ name: 'settle' }, 0], [{ name: 'rebuild_index' }, 0]]);
  // The trend grows from 0.7 s to 1 s by 0.24 s a day.
  const growing = { ...CARTS, name: 'creeping' };
  const days = (1 - 0.7 - (0.24 * m.fine) / 86400) / 0.24;
  for (const panel of [o('Days until --slow.warning'), d('Growth')]) {
    const variables = { name: 'creeping' };
    await expect(`${panel} A`, m.fine, [[growing, days, 0.02]], { variables });
    await expect(`${panel} B`, m.fine, [[growing, 0.7, 0.01]], { variables });
    await expect(`${panel} C`, m.fine, [[growing, 0.24, 0.005]], { variables });
  }
  await expect(o('Calls per second A'), 700, [[{ command: 'eval' }, 1 / RATE_INTERVAL, 0.1], [{ command: 'evalsha' }, 1 / RATE_INTERVAL, 0.1], [{ command: 'fcall' }, 0]]);
  await expect(o('Time in scripts A'), 700, [[FIRST, 2.5 / RATE_INTERVAL, 0.25], [SECOND, 0.2 / RATE_INTERVAL, 0.02], [CARTS, 0, 0.01], [SESSIONS, 0]]);
  await expect(o('Cached scripts, functions A'), m.fine, [[FIRST, 12], [SECOND, 12], [CARTS, 12], [SESSIONS, 12]]);
  await expect(o('Cached scripts, functions B'), m.fine, [[{}, 12]]);
  await expect(o('Cached scripts, functions C'), 1052, [[{}, 90, 40]]);
  await expect(o('Memory of scripts and functions A'), m.fine, [[{ area: 'scripts_eval' }, 4 * 4096], [{ area: 'vm_eval' }, 4 * 65536]]);

  // Problems, settings, exporters.
  await expect(o('Problems A'), m.fine, []);
  await expect(o('Problems A'), m.degraded, [
    [{ ...SESSIONS, problem: 'slow log off: set slowlog-log-slower-than and slowlog-max-len' }, 0], [{ ...SESSIONS, problem: 'time limit 0, never BUSY, no kill: set busy-reply-threshold' }, 0],
    [{ ...SESSIONS, problem: 'slow log entries lost in the time range: raise slowlog-max-len' }, 7, 0.1], [{ instance: servers.carts.instance, target: '', problem: "configuration rejected: read the exporter's log" }, 0],
    [{ instance: SESSIONS.instance, target: '', problem: "configuration rejected: read the exporter's log" }, 0],
  ]);
  const all = (value) => [[FIRST, value], [SECOND, value], [CARTS, value], [SESSIONS, value]];
  for (const [ref, value] of Object.entries({ A: 0.01, B: 17, C: 128, D: 5, E: 1, F: 2 })) await expect(o(`Settings of each server ${ref}`), m.fine, all(value));
  const each = (first, second, shared) => [[FIRST, ...first], [SECOND, ...second], [{ instance: servers.carts.instance }, ...shared]];
  const probed = { instance: servers.sessions.instance };
  const age = 90_000 + m.after + DELAY;
  await expect(o('Exporters A'), m.after, [...each([500 + DELAY], [150 + DELAY], [age]), [probed, age]]);
  await expect(o('Exporters B'), m.after, [...each([1], [1], [1]), [probed, 1]]);
  await expect(o('Exporters C'), m.after, each([9e6], [9e6], [9e6]));
  await expect(o('Exporters D'), m.after, [[{ instance: servers.carts.instance }, 1]]);
  await expect(o('Exporters E'), m.after, each([0], [0], [1]));
  await expect(o('Polls A'), m.fine, [[{}, 4, 0.01]]);
  await expect(o('Polls B'), m.fine, []);
  await expect(o('Polls B'), 926, [[{}, 1, 0.4]]);
  await expect(o('Poll and heartbeat time A'), m.fine, [[{}, 0.004, 1e-4]]);
  await expect(o('Poll and heartbeat time B'), m.fine, [[{}, 0.00991, 1e-4]]);
  await expect(o('Slow log entries A'), 700, [[{ class: 'script' }, 0.5, 0.26], [{ class: 'other' }, 0]]);
  await expect(o('Slow log entries B'), 1052, [[{}, 7 / RATE_INTERVAL, 0.7]]);
  await expect(o('Slow log entries C'), 1052, [[{}, 3 / RATE_INTERVAL, 0.3]]);
  await expect(o('State file A'), m.fine, [[{}, 15, 6]]);
  await expect(o('State file B'), m.fine, []);
  await expect(o('State file B'), 1252, [[FIRST, 30, 15]]);
  await expect(o('Discovery A'), m.fine, [[{ discovery: 'cluster' }, 1]]);
  await expect(o('Discovery B'), m.fine, [[{ discovery: 'cluster' }, 0]]);
  await expect(o('Discovery C'), m.fine, []);
  await expect(o('Discovery C'), 1255, [[{ discovery: 'cluster' }, 1]]);
  await expect(o('Problems A'), 1255, [[{ instance: servers.carts.instance, target: '', problem: "discovery fails: read the exporter's log" }, 0]], { some: true });

  // Details of one script.
  const runs = (at, name, code, variables) => expect(d('Runs now? A'), at, [[{}, code]], { variables: { name, ...variables } });
  await runs(m.fine, 'settle', 0);
  await runs(m.blocked, 'settle', 2);
  await runs(m.busyFunction, 'rebuild_index', 3);
  await runs(m.busyFunction, RENAMED, 0);
  await runs(m.busyScript, RENAMED, 3);
  await runs(m.busyScript, 'rebuild_index', 0);
  await runs(m.down, 'rebuild_index', 1);
  await runs(m.gap, 'settle', 1);
  await runs(m.down, RENAMED, 0, only(servers.first));
  for (const [at, name] of [[m.fine, 'settle'], [m.gap, 'settle'], [m.resumed, 'settle'], [m.renamed, RENAMED], [m.slow, RENAMED]]) {
    const variables = { name };
    const list = done(at, { name: 'settle' });
    await expect(d('Calls A'), at, [[{ name }, list.length]], { variables });
    await expect(d('Total time A'), at, [[{ name }, sum(list)]], { variables });
    // Computed from the server's own counters, which the first exporter does not report during the gap.
    const share = sum(list) / sum(done(at));
    await expect(d('Share of all script time A'), at, [[{ name }, share, share * 0.2]], { variables });
    await expect(d('Longest A'), at, [[{ name }, Math.max(...list.map((one) => one.duration))]], { variables });
  }
  // One of the two sidecars.
  await expect(d('Calls A'), m.fine, [[{ name: 'settle' }, done(m.fine, { name: 'settle', server: 'first' }).length]], { variables: { name: 'settle', ...only(servers.first) } });
  const one = { variables: { name: '~77aa01bc9d3e' } };
  await expect(d('p99 A'), m.single, [[{}, 2.5]], one);
  await expect(d('p99 A'), m.fine, [], one);
  for (const ref of ['A', 'B', 'C']) await expect(d(`p99, mean and longest ${ref}`), 701, [[{}, 2.5]], one);
  // Single calls after a longer one.
  for (const [at, duration] of [[1106, 3], [1113, 1.3]]) await expect(d('p99, mean and longest A'), at, [[{ name: RENAMED }, duration]]);
  for (const ref of ['A', 'B']) await expect(d(`p99, mean and longest ${ref}`), 709, [], one);
  await expect(d('p99, mean and longest C'), 709, [[{}, 2.5]], one);
  await expect(d('p99, mean and longest D'), 709, [[{}, 1]], one);
  await expect(d('p99, mean and longest E'), 709, [[{}, 2]], one);
  await expect(d('Durations A'), 701, [[{ le: '2' }, 0], [{ le: '5' }, 1], [{ le: '+Inf' }, 1]], { ...one, some: true });
  // The chart of a renamed script includes the time before the new name.
  const before = { variables: { name: RENAMED }, end: m.renamed };
  await expect(d('Calls per minute, by server A'), 850, [[FIRST, 0], [SECOND, 15]], before);
  await expect(d('p99, mean and longest A'), 850, [[{ name: RENAMED }, 0.2]], before);
  // First seconds after the gap: 5,000 earlier calls must not be attributed to these seconds.
  for (const at of [841, 842, m.resumed, 844, 846]) {
    const both = (value) => [[FIRST, value('first')], [SECOND, value('second')]];
    const now = (server) => done(at, { name: 'settle', server }, RATE_INTERVAL);
    const variables = { name: 'settle' };
    await expect(d('Calls per minute, by server A'), at, both((server) => (60 / RATE_INTERVAL) * now(server).length), { variables });
    await expect(d("Share of each server's time A"), at, both((server) => sum(now(server)) / RATE_INTERVAL), { variables });
  }
  await expect(d('Identity A'), m.renamed, [[{ ...FIRST, script: scripts.settle, origin: 'server' }, 1], [{ ...SECOND, script: scripts.settle }, 1]]);
  const beside = [...by(done(m.slow).filter((call) => call.name !== 'settle' && call.server !== 'carts'), (call) => `${call.server} ${call.name}`).values()];
  const neighbours = (value) => beside.map((list) => [{ instance: servers[list[0].server].instance, name: list[0].name }, value(list)]);
  await expect(d('Neighbours A'), m.slow, neighbours((list) => sum(list)));
  await expect(d('Neighbours B'), m.slow, neighbours((list) => list.length));

  // Variables.
  for (const dashboard of ['overview', 'detail']) {
    await expect(`${dashboard}: variable job`, m.fine, [[{ job: servers.first.job }, 3], [{ job: servers.sessions.job }, 1]]);
    await expect(`${dashboard}: variable instance`, m.fine, ['first', 'second', 'carts', 'sessions'].map((name) => [{ instance: servers[name].instance }, 1]));
    await expect(`${dashboard}: variable target`, m.fine, [[{ target: '127.0.0.1:6379' }, 2], [{ target: 'carts' }, 1], [{ target: SESSIONS.target }, 1]]);
  }
  await expect('detail: variable name', m.renamed, [[{ name: RENAMED }, 2], [{ name: 'rebuild_index' }, 1]], { some: true });
  await expect('detail: variable script', m.renamed, [[{ script: scripts.settle }, 2]]);
  await expect('detail: annotation BUSY episodes', m.fine, []);

  for (const { place } of queries) if (!asked.has(place)) problems.push(`${place}: no answer is expected anywhere`);
}

/** Checks that the columns and legends that a panel overrides exist. */
function columns(file, panel) {
  const place = `${short(file)}: ${panel.title}`;
  const isTable = panel.type === 'table';
  const names = new Set(['Time']);
  for (const target of panel.targets) {
    if ((target.format === 'table') !== isTable || target.instant === ['timeseries', 'state-timeline', 'heatmap'].includes(panel.type)) problems.push(`${place} ${target.refId}: is of the wrong kind for a ${panel.type}`);
    if (isTable) names.add(panel.targets.length > 1 ? `Value #${target.refId}` : 'Value');
    for (const labels of seen.get(`${place} ${target.refId}`)) {
      if (isTable) for (const label of Object.keys(labels)) names.add(label);
      else if (panel.type !== 'stat') names.add(target.legendFormat?.replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '').trim());
    }
  }
  if (names.has('') || names.has(undefined)) problems.push(`${place}: a series has no name`);
  for (const { options } of panel.transformations ?? []) {
    for (const option of ['excludeByName', 'indexByName', 'renameByName']) {
      for (const column of Object.keys(options[option] ?? {})) if (!names.has(column)) problems.push(`${place}: ${option}: there is no column ${column}`);
    }
    for (const column of names) if (column !== 'Time' && options.renameByName && !options.renameByName[column] && !options.excludeByName[column]) problems.push(`${place}: the column ${column} has no title`);
    for (const title of Object.values(options.renameByName ?? {})) names.add(title);
  }
  for (const name of [...panel.fieldConfig.overrides.map(({ matcher }) => matcher.options), ...(panel.options.sortBy ?? []).map(({ displayName }) => displayName)]) {
    if (!names.has(name)) problems.push(`${place}: there is no ${name} to change`);
  }
}

/** Writes a page for each dashboard and moment. */
async function pages(folder) {
  mkdirSync(folder, { recursive: true });
  const template = readFileSync(join(dirname(new URL(import.meta.url).pathname), 'preview.html'), 'utf8');
  const shown = { 'redis-script-detail.json': { single: '~77aa01bc9d3e', busyFunction: 'rebuild_index', down: 'rebuild_index', fine: 'settle', blocked: 'settle', gap: 'settle', resumed: 'settle', degraded: 'creeping' } };
  for (const [moment, at] of Object.entries(moments)) {
    for (const { file, json } of dashboards) {
      const answers = {};
      const name = shown[file]?.[moment] ?? RENAMED;
      for (const query of queries.filter(({ place }) => place.startsWith(`${short(file)}: `))) {
        const expr = substitute(query.expr, at, { name });
        const end = START + at + DELAY;
        const key = query.panel ? `${query.panel.title} ${query.target.refId}` : query.place.slice(short(file).length + 2);
        answers[key] = query.instant ? await prometheus.query(expr, end) : await prometheus.queryRange(expr, end - RANGE, end, 2);
      }
      const data = { dashboard: json, answers, moment, script: name, now: START + at + DELAY, range: RANGE, step: 2, detail: file in shown };
      // A closing tag in a string would end the page's script element.
      const page = template.replace('/* DATA */ null', () => JSON.stringify(data).replaceAll('</', '<\\/'));
      writeFileSync(join(folder, `${json.uid}-${moment}.html`), page);
    }
  }
}

/** Checks that the series of the history match their description in docs/METRICS.md. */
function documented(series) {
  const text = readFileSync(join(dirname(new URL(import.meta.url).pathname), '../../docs/METRICS.md'), 'utf8');
  const known = new Map([['up', []]]);
  for (const [, name, type, labels] of text.matchAll(/^\| `(\w+)` \| (\w+) \| (.*?) ?\|/gm)) {
    const list = [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label);
    if (type === 'histogram') {
      known.set(`${name}_bucket`, [...list, 'le']).set(`${name}_sum`, list).set(`${name}_count`, list);
    } else known.set(name, list);
  }
  const wrong = new Set();
  for (const { labels: { __name__: name, job, instance, ...labels } } of series) {
    const is = Object.keys(labels).sort().join();
    const should = known.get(name) && [...known.get(name)].sort().join();
    if (is !== should) wrong.add(`made history: ${name} has the labels ${is || 'none'}, but in docs/METRICS.md ${should ?? 'it does not exist'}`);
  }
  problems.push(...wrong);
}

try {
  const series = history();
  documented(series);
  await prometheus.store(series);
  await compare();
  for (const { file, json } of dashboards) for (const panel of json.panels) if (panel.targets) columns(file, panel);
  if (draw) await pages(draw);
} finally {
  prometheus.stop();
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
else console.log(`${queries.length} queries of the dashboards have the right answers, over ${END} seconds of history`);
