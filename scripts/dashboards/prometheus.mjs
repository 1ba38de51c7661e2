// A Prometheus with artificial series: starts the server, sends samples, and runs queries.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Value of a sample that ends its series (the staleness marker that Prometheus writes when a series is missing from a scrape). */
const STALE = Buffer.from('7ff0000000000002', 'hex').reverse();

/** Time limit for Prometheus to start. */
const START_LIMIT_MS = 20_000;

/** Seconds of history in one request. Samples must arrive in order of time, even across series. */
const SLICE_S = 600;

export class Prometheus {
  #process;
  #folder;
  #url;

  /** Starts Prometheus on a free loopback port. */
  static async start() {
    const prometheus = new Prometheus();
    const port = await freePort();
    prometheus.#folder = mkdtempSync(join(tmpdir(), 'dashboards-'));
    prometheus.#url = `http://127.0.0.1:${port}`;
    const config = join(prometheus.#folder, 'prometheus.yml');
    writeFileSync(config, '{}\n');
    let log = '';
    prometheus.#process = spawn('prometheus', [
      `--config.file=${config}`, `--storage.tsdb.path=${join(prometheus.#folder, 'data')}`, '--storage.tsdb.retention.time=100y',
      `--web.listen-address=127.0.0.1:${port}`, '--web.enable-remote-write-receiver', '--log.level=warn',
    ], { stdio: ['ignore', 'ignore', 'pipe'] });
    prometheus.#process.stderr.on('data', (data) => { log += data; });
    const since = Date.now();
    for (;;) {
      if (await fetch(`${prometheus.#url}/-/ready`).then((answer) => answer.ok, () => false)) return prometheus;
      if (prometheus.#process.exitCode !== null || Date.now() - since > START_LIMIT_MS) {
        prometheus.stop();
        throw new Error(`Prometheus did not start: ${log}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  stop() {
    this.#process.kill();
    this.#process.once('exit', () => rmSync(this.#folder, { recursive: true, force: true }));
  }

  /** Stores series: each has `labels` and `samples`, pairs of time in ms and value. The value null ends a series. */
  async store(series) {
    const slices = new Map();
    for (const one of series) {
      const labels = Object.entries(one.labels).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, Buffer.from(value))])));
      const head = Buffer.concat(labels);
      let current, slice;
      for (const [time, value] of one.samples) {
        const at = Math.floor(time / 1000 / SLICE_S);
        if (at !== slice) {
          slice = at;
          current = [head];
          if (!slices.has(at)) slices.set(at, []);
          slices.get(at).push(current);
        }
        current.push(sample(time, value));
      }
    }
    for (const at of [...slices.keys()].sort((a, b) => a - b)) {
      const body = snappy(Buffer.concat(slices.get(at).map((parts) => field(1, Buffer.concat(parts)))));
      const headers = { 'Content-Encoding': 'snappy', 'Content-Type': 'application/x-protobuf', 'X-Prometheus-Remote-Write-Version': '0.1.0' };
      const answer = await fetch(`${this.#url}/api/v1/write`, { method: 'POST', headers, body });
      if (!answer.ok) throw new Error(`Prometheus rejected samples: ${answer.status} ${await answer.text()}`);
    }
  }

  /** Result of an instant query. */
  query(query, time) {
    return this.#ask('query', { query, time });
  }

  /** Result of a range query. */
  queryRange(query, start, end, step) {
    return this.#ask('query_range', { query, start, end, step });
  }

  async #ask(path, parameters) {
    const answer = await fetch(`${this.#url}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) });
    const json = await answer.json();
    if (json.status !== 'success') throw new Error(`${json.error}: ${parameters.query}`);
    return json.data;
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// Remote write 0.1: a protobuf WriteRequest in the block format of snappy.

function varint(value) {
  const bytes = [];
  let rest = BigInt(value);
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** Encodes a field of the wire type "length-delimited". */
function field(number, content) {
  return Buffer.concat([Buffer.from([(number << 3) | 2]), varint(content.length), content]);
}

/** Encodes the field `samples` of a TimeSeries: value (double) and timestamp (int64). */
function sample(time, value) {
  const stamp = varint(time);
  const buffer = Buffer.alloc(12 + stamp.length);
  buffer[0] = (2 << 3) | 2;
  buffer[1] = 10 + stamp.length;
  buffer[2] = (1 << 3) | 1;
  if (value === null) STALE.copy(buffer, 3);
  else buffer.writeDoubleLE(value, 3);
  buffer[11] = 2 << 3;
  stamp.copy(buffer, 12);
  return buffer;
}

/** Encodes content in the block format of snappy, using only literals. */
function snappy(content) {
  const parts = [varint(content.length)];
  for (let at = 0; at < content.length; at += 65536) {
    const piece = content.subarray(at, at + 65536);
    const length = Buffer.alloc(3);
    length[0] = 61 << 2;
    length.writeUInt16LE(piece.length - 1, 1);
    parts.push(length, piece);
  }
  return Buffer.concat(parts);
}
