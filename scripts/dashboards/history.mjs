// Artificial history: exporters are scraped every second while their servers run slow calls, block, fail and restart.
//
// The series are those of docs/METRICS.md. The events on the servers are in `calls`, `blockages` and `moments`; answers.mjs
// computes the expected results from these, not from the series.

/** Unix time of second 0 of the history. */
export const START = 1_790_000_000;

/** Last second of the history. */
export const END = 1310;

/** Time range of the dashboard at each moment, and $__rate_interval, in seconds. */
export const RANGE = 600;
export const RATE_INTERVAL = 4;

/** Second at which the scrapes of the first sidecar stop, for 120 s. */
export const GAP = 720;

const WARNING = 1;
const CRITICAL = 2;
const BUCKETS = [0.05, 0.25, 0.5, 1, 2, 5, 60, Infinity];
const COMMANDS = ['eval', 'evalsha', 'fcall'];
const STATES = ['ok', 'loading', 'blocked', 'busy_module', 'busy_function', 'busy_script', 'unauthorized', 'unreachable'];
const JOB = 'redis-scripts';

/** Labels of the four servers: two sidecars with the same target, and two servers of one exporter, one of which is scraped by /probe. */
export const servers = {
  first: { job: JOB, instance: '10.1.0.5:10379', target: '127.0.0.1:6379' },
  second: { job: JOB, instance: '10.1.0.6:10379', target: '127.0.0.1:6379' },
  carts: { job: JOB, instance: 'exporter:10379', target: 'carts' },
  sessions: { job: 'redis-scripts-probed', instance: '10.0.0.8:6379', target: '10.0.0.8:6379' },
};

/** Script labels, by the final names of the scripts. `settle` is renamed once. */
export const scripts = { settle: '0f5a81c6d2e3', rebuild_index: 'rebuild_index', '~77aa01bc9d3e': '~77aa01bc9d3e', checkout: 'c4ec0de1a2b3', steady: '57eadb0e1122', noisy: '4015e0aa3344', newcomer: '4e3c0aa35566', creeping: 'c4ee914a7788' };
export const RENAMED = 'settle_cart';

/** All script calls: { at, server, name, command, duration }. */
export const calls = [];

/** All ended blockages: { at, server, cause, seconds }. */
export const blockages = [];

/** Named situations, each with its second in the history. */
export const moments = {
  young: 100, fine: 650, blocked: 699, single: 710, gap: 780, resumed: 843, renamed: 870, busyFunction: 908, between: 914, busyScript: 920, down: 980, degraded: 1060, slow: 1120, restarted: 1200, after: 1300,
};

class Counters {
  #values = new Map();
  add(metric, labels, by = 1) {
    const key = JSON.stringify([metric, labels]);
    this.#values.set(key, (this.#values.get(key) ?? 0) + by);
  }
  each(tell) {
    for (const [key, value] of this.#values) tell(...JSON.parse(key), value);
  }
}

/** A server in the view of its exporter. */
class Server {
  state = 'ok';
  blockedSince;
  running;
  slowlog = true;
  timeLimit = 5;
  namesOf = {};
  recent = [];

  constructor(labels) {
    this.labels = labels;
    this.restart();
  }

  /** Resets the server to the state of an exporter that has started without a state file. */
  restart() {
    this.counters = new Counters();
    this.last = new Map();
    this.known = new Set();
    for (const command of COMMANDS) {
      for (const metric of ['calls_total', 'calls_duration_seconds_total']) this.counters.add(metric, { command }, 0);
      for (const severity of ['warning', 'critical']) this.counters.add('slow_calls_total', { command, severity }, 0);
    }
    for (const cause of ['script', 'function', 'module', 'command', 'unknown']) {
      this.counters.add('blockages_total', { cause }, 0);
      this.counters.add('blockage_seconds_total', { cause }, 0);
    }
    for (const error of ['BUSY', 'NOSCRIPT', 'UNKILLABLE', 'NOTBUSY']) this.counters.add('errors_total', { error }, 0);
    for (const kind of ['script', 'function']) this.counters.add('kills_total', { kind }, 0);
    for (const one of ['script', 'other']) this.counters.add('slowlog_entries_total', { class: one }, 0);
    for (const metric of ['slowlog_lost_entries_total', 'slowlog_unreadable_entries_total', 'exporter_script_overflow_total', 'exporter_polls_total', 'exporter_poll_failures_total', 'exporter_poll_seconds_total', 'rejected_calls_total', 'failed_calls_total', 'evicted_scripts_total']) this.counters.add(metric, {}, 0);
  }

  /** Counts a call that has ended. */
  call(at, command, script, duration) {
    const key = { command, script };
    this.known.add(script);
    for (const le of BUCKETS) this.counters.add('duration_seconds_bucket', { ...key, le: le === Infinity ? '+Inf' : String(le) }, duration <= le ? 1 : 0);
    this.counters.add('duration_seconds_sum', key, duration);
    this.counters.add('duration_seconds_count', key);
    this.counters.add('calls_total', { command });
    this.counters.add('calls_duration_seconds_total', { command }, duration);
    this.counters.add('slowlog_entries_total', { class: 'script' });
    this.recent.push({ at, script, duration });
    for (const [severity, threshold] of [['warning', WARNING], ['critical', CRITICAL]]) {
      if (duration < threshold) continue;
      this.counters.add('slow_calls_total', { command, severity });
      this.last.set(JSON.stringify({ ...key, severity }), { at, duration });
    }
  }

  name(script) {
    return this.namesOf[script] ?? Object.entries(scripts).find(([, label]) => label === script)?.[0] ?? script;
  }

  /** Passes all of the server's series at a time to `tell`. */
  scrape(now, tell) {
    const up = !['unauthorized', 'unreachable'].includes(this.state);
    tell('target_up', {}, up ? 1 : 0);
    for (const state of STATES) tell('target_state', { state }, state === this.state ? 1 : 0);
    tell('target_info', { address: this.labels.target === 'carts' ? '10.0.0.7:6379' : this.labels.target, server: 'redis', version: '7.4.1', redis_cli: 'redis-cli -h 10.0.0.7', role: 'master', mode: 'standalone' }, 1);
    tell('blocked_seconds', {}, this.blockedSince === undefined ? 0 : now - this.blockedSince);
    if (this.running) tell('running_info', { kind: this.running.kind, script: this.running.script, name: this.name(this.running.script) }, 1);
    tell('slow_threshold_seconds', { severity: 'warning' }, WARNING);
    tell('slow_threshold_seconds', { severity: 'critical' }, CRITICAL);
    tell('slowlog_enabled', {}, this.slowlog ? 1 : 0);
    if (this.slowlog) tell('slowlog_threshold_seconds', {}, 0.01);
    tell('slowlog_length', {}, 17);
    tell('slowlog_max_length', {}, 128);
    tell('time_limit_seconds', {}, this.timeLimit);
    tell('cached_scripts', {}, 12);
    tell('functions', {}, 3);
    tell('memory_bytes', { area: 'scripts_eval' }, 4096);
    tell('memory_bytes', { area: 'vm_eval' }, 65536);
    if (this.state === 'ok') this.polled = now;
    tell('exporter_last_poll_timestamp_seconds', {}, START + this.polled);
    for (const [key, { at, duration }] of this.last) {
      tell('last_slow_call_timestamp_seconds', JSON.parse(key), START + at);
      tell('last_slow_call_duration_seconds', JSON.parse(key), duration);
    }
    for (const script of this.known) {
      tell('info', { script, sha1: /^[0-9a-f]{12}$/.test(script) ? script.padEnd(40, '0') : '', name: this.name(script), origin: 'server' }, 1);
      const recent = this.recent.filter((one) => one.script === script && now - one.at < 600).map((one) => one.duration);
      if (recent.length > 0) tell('max_duration_seconds', { script }, Math.max(...recent));
    }
    this.recent = this.recent.filter((one) => now - one.at < 600);
    this.counters.add('exporter_polls_total', {});
    this.counters.add('exporter_poll_seconds_total', {}, 0.004);
    for (const le of ['0.001', '0.01', '+Inf']) this.counters.add('heartbeat_duration_seconds_bucket', { le }, le === '0.001' ? 0 : 1);
    this.counters.each(tell);
  }
}

/** Creates all series. */
export function history() {
  const all = new Map();
  const record = (labels, time, value) => {
    const key = JSON.stringify(labels);
    let one = all.get(key);
    if (!one) all.set(key, (one = { labels, samples: [] }));
    one.samples.push([time, value]);
  };

  // Scraped endpoints. The last one is /probe of the same exporter as the previous one.
  const scrapes = ['first', 'second', 'carts', 'sessions'].map((name, index) => ({
    name, offset: 137 + 200 * index, started: -90_000, reload: 1, discovered: 1, failures: 0, scraped: true, before: new Set(),
  }));
  const at = Object.fromEntries(Object.entries(servers).map(([name, labels]) => [name, new Server(labels)]));
  const [first, second, shared, probe] = scrapes;

  // From 26 hours before: longest calls on `carts`, scraped every minute. `creeping` grows by 0.24 s a day, and reaches
  // 0.7 s at second 0; `noisy` jumps, `steady` is slow all the time, and `newcomer` is an hour old.
  const trends = {
    creeping: (hour) => 0.7 + (0.24 * hour) / 24,
    noisy: (hour) => [0.3, 0.9, 0.4, 0.7, 0.2, 0.6][((Math.floor(hour * 2) % 6) + 6) % 6],
    steady: () => 1.5,
    newcomer: (hour) => (hour < -1 ? undefined : 0.9 + 0.05 * hour),
  };
  for (let second = -26 * 3600; second < 0; second += 60) {
    const time = (START + second) * 1000 + shared.offset;
    for (const [name, trend] of Object.entries(trends)) {
      const value = trend(second / 3600);
      if (value !== undefined) record({ __name__: 'redis_script_max_duration_seconds', ...servers.carts, script: scripts[name] }, time, value);
    }
    record({ __name__: 'redis_script_target_up', ...servers.carts }, time, 1);
    for (const [severity, value] of [['warning', WARNING], ['critical', CRITICAL]]) record({ __name__: 'redis_script_slow_threshold_seconds', ...servers.carts, severity }, time, value);
    for (const name of Object.keys(trends)) record({ __name__: 'redis_script_info', ...servers.carts, script: scripts[name], sha1: scripts[name].padEnd(40, '0'), name, origin: 'server' }, time, 1);
  }
  for (const name of Object.keys(trends)) at.carts.known.add(scripts[name]);

  const events = new Map();
  const when = (second, act) => events.set(second, [...(events.get(second) ?? []), act]);
  const call = (second, server, name, command, duration) => {
    calls.push({ at: second, server, name, command, duration });
    when(second, () => at[server].call(second, command, scripts[name], duration));
  };
  const block = (from, until, server, cause, running, busyAfter = 2) => {
    when(from, () => Object.assign(at[server], { state: 'blocked', blockedSince: from }));
    if (running && until - from > busyAfter) {
      when(from + busyAfter, () => Object.assign(at[server], { state: `busy_${running.kind}`, running: { kind: running.kind, script: scripts[running.name] } }));
    }
    when(until, () => {
      Object.assign(at[server], { state: 'ok', blockedSince: undefined, running: undefined });
      at[server].counters.add('blockages_total', { cause });
      at[server].counters.add('blockage_seconds_total', { cause }, until - from);
    });
    blockages.push({ at: until, server, cause, seconds: until - from });
  };
  const count = (second, server, metric, labels, by) => when(second, () => at[server].counters.add(metric, labels, by));

  // Regular calls. The first sidecar has counted 5,000 earlier calls, which are in its state file.
  when(0, () => { for (let index = 0; index < 5000; index += 1) at.first.call(-700, 'evalsha', scripts.settle, 0.04); });
  for (let second = 5; second <= END; second += 15) call(second, 'first', 'settle', 'evalsha', 0.04);
  for (let second = 8; second <= END; second += 30) call(second, 'second', 'settle', second % 60 === 8 ? 'eval' : 'evalsha', 0.2);
  for (let second = 10; second <= END; second += 20) call(second, 'carts', 'rebuild_index', 'fcall', 0.03);
  // A single call that blocks the first sidecar for 2.5 s.
  block(697, 700, 'first', 'script');
  call(700, 'first', '~77aa01bc9d3e', 'eval', 2.5);
  // The first sidecar is not scraped for 120 s. In the meantime, its exporter is restarted and keeps its counters.
  when(GAP, () => { first.scraped = false; });
  when(800, () => { first.started = 800; });
  when(GAP + 120, () => { first.scraped = true; });
  // A reload names a script.
  when(860, () => { for (const one of [at.first, at.second]) one.namesOf[scripts.settle] = RENAMED; });
  // A function, and 4 s later a script, which is killed.
  block(900, 912, 'second', 'function', { kind: 'function', name: 'rebuild_index' });
  call(912, 'second', 'rebuild_index', 'fcall', 12);
  block(916, 924, 'second', 'script', { kind: 'script', name: 'settle' });
  call(924, 'second', 'settle', 'evalsha', 8);
  count(924, 'second', 'kills_total', { kind: 'script' }, 1);
  count(924, 'second', 'errors_total', { error: 'BUSY' }, 40);
  count(924, 'second', 'rejected_calls_total', {}, 20);
  count(924, 'second', 'exporter_poll_failures_total', {}, 4);
  count(930, 'second', 'errors_total', { error: 'NOSCRIPT' }, 12);
  count(930, 'second', 'failed_calls_total', {}, 12);
  // One server is down while another one is BUSY.
  when(960, () => { at.carts.state = 'unreachable'; });
  when(1020, () => { at.carts.state = 'ok'; });
  block(970, 990, 'second', 'script', { kind: 'script', name: 'checkout' });
  call(990, 'second', 'checkout', 'evalsha', 20);
  // Server settings that hide slow scripts, and a rejected configuration.
  when(1040, () => { Object.assign(at.sessions, { slowlog: false, timeLimit: 0 }); shared.reload = 0; probe.reload = 0; });
  count(1050, 'sessions', 'slowlog_lost_entries_total', {}, 7);
  count(1050, 'sessions', 'slowlog_unreadable_entries_total', {}, 3);
  count(1050, 'sessions', 'evicted_scripts_total', {}, 6);
  when(1100, () => { Object.assign(at.sessions, { slowlog: true, timeLimit: 5 }); shared.reload = 1; probe.reload = 1; });
  // A critical call, and a later one that is only slow.
  call(1105, 'first', 'settle', 'evalsha', 3);
  call(1112, 'first', 'settle', 'evalsha', 1.3);
  // The first exporter cannot write its state file, and discovery fails.
  when(1250, () => { first.failures = 2; shared.discovered = 0; });
  when(1260, () => { shared.discovered = 1; });
  // The second sidecar is restarted without a state file.
  when(1150, () => { at.second.restart(); second.started = 1150; });

  for (let now = 0; now <= END; now += 1) {
    for (const act of events.get(now) ?? []) act();
    for (const scrape of scrapes) {
      const time = (START + now) * 1000 + scrape.offset;
      const { job, instance } = servers[scrape.name];
      record({ __name__: 'up', job, instance }, time, scrape.scraped ? 1 : 0);
      const seen = new Set();
      const tell = (name, labels, value) => {
        const all = { __name__: name, job, instance, ...labels };
        seen.add(JSON.stringify(all));
        record(all, time, value);
      };
      if (scrape.scraped) {
        at[scrape.name].scrape(now, (metric, labels, value) => tell(`redis_script_${metric}`, { target: servers[scrape.name].target, ...labels }, value));
        tell('redis_script_exporter_build_info', { version: '1.0.0', revision: 'abc' }, 1);
        tell('process_start_time_seconds', {}, START + scrape.started);
        tell('redis_script_exporter_config_last_reload_successful', {}, scrape.reload);
        if (scrape.name === 'first') {
          tell('redis_script_exporter_state_writes_total', {}, Math.floor(now / 10));
          tell('redis_script_exporter_state_write_failures_total', {}, scrape.failures);
        }
        if (scrape.name === 'carts') {
          tell('redis_script_exporter_discovery_up', { discovery: 'cluster' }, scrape.discovered);
          tell('redis_script_exporter_discovery_refused_servers', { discovery: 'cluster' }, 0);
          tell('redis_script_exporter_discovered_targets', { discovery: 'cluster' }, 1);
        }
        if (scrape.name !== 'sessions') {
          tell('process_resident_memory_bytes', {}, 9_000_000);
          tell('redis_script_exporter_probed_targets', {}, scrape.name === 'carts' ? 1 : 0);
        }
      }
      for (const key of scrape.before) if (!seen.has(key)) record(JSON.parse(key), time, null);
      scrape.before = seen;
    }
  }
  return [...all.values()];
}
