// Tests the status page in Chromium.
//
//   node check.mjs MODULES BROWSER [FOLDER]     MODULES contains node_modules; screenshots go to FOLDER
//
// One browser for all tests of a process. A line of the input is a request, `ID LIMIT_MS URL SCENARIO`; a line of the output is
// its result, `ID` and null or the error as JSON. Requests are processed concurrently, each in its own browser contexts,
// which have their own processes. The program ends when its input ends.
//
// Every scenario runs with light and dark colours, wide and at 360 px. It requires that there is no request to another
// origin, no console message, no horizontal scrolling and no axe-core violation, and that every API response matches its
// schema in docs/api/.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const [modules, executablePath, folder] = process.argv.slice(2);
const load = createRequire(join(modules, 'node_modules', 'index.js'));
const { chromium } = load('playwright-core');
const Ajv = load('ajv/dist/2020').default;
const axe = readFileSync(load.resolve('axe-core/axe.min.js'), 'utf8');

const docs = join(dirname(fileURLToPath(import.meta.url)), '../../docs/api');
const ajv = new Ajv({ strict: true, allErrors: true });
const schemas = Object.fromEntries(['targets', 'scripts', 'slow', 'incidents', 'error'].map((name) =>
  [name, ajv.compile(JSON.parse(readFileSync(join(docs, `${name}.schema.json`), 'utf8')))]));
function assertMatchesSchema(name, body) {
  assert.ok(schemas[name](body), `${name}: ${ajv.errorsText(schemas[name].errors)}\n${JSON.stringify(body).slice(0, 2000)}`);
}

const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
let launched; // promise of the browser
/** Returns the browser; starts it for the first request, and after it has crashed. */
async function browser() {
  launched ??= chromium.launch({ executablePath, args }).catch((error) => { launched = undefined; throw error; });
  const running = await launched;
  if (running.isConnected()) return running;
  launched = undefined;
  return await browser();
}

const BODY_LIMIT = 5000; // time limit for reading the body of a finished response, in milliseconds
const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });

/** Waits for a condition. Playwright's waitForFunction uses eval, which the page's Content-Security-Policy forbids. */
async function until(page, condition, argument, limit = 40000) {
  for (const end = Date.now() + limit; Date.now() < end;) {
    if (await page.evaluate(condition, argument)) return;
    await pause(50);
  }
  assert.fail(`timed out waiting for ${condition}\n${await page.evaluate(() => document.body.innerText)}`);
}

/** Creates an empty page in a new context, and records its errors, requests and responses. */
async function open(run) {
  run.context = await (await browser()).newContext({ permissions: ['clipboard-read', 'clipboard-write'] });
  const page = await run.context.newPage();
  const { origin } = new URL(run.url);
  const errors = [];
  page.on('request', (request) => { if (new URL(request.url()).origin !== origin) errors.push(`request to ${request.url()}`); });
  page.on('console', (message) => {
    if (run.scenario !== 'dead' || !/ERR_CONNECTION_REFUSED/.test(message.text())) errors.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => errors.push(`error: ${error}`));
  page.on('dialog', (dialog) => { errors.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  const checks = [];
  const checkResponse = async (request, name) => {
    // The body of a response that the page has abandoned is not available, or never arrives.
    const read = async () => { const response = await request.response(); return response.status() === 200 ? await response.json() : null; };
    const body = await Promise.race([read(), pause(BODY_LIMIT)]).catch(() => null);
    if (!body) return null;
    run.responses += 1;
    try { assertMatchesSchema(name, body); } catch (error) { return error.message; }
    return null;
  };
  page.on('requestfinished', (request) => {
    const match = /\/api\/v1\/(\w+)$/.exec(new URL(request.url()).pathname);
    if (match) checks.push(checkResponse(request, match[1]));
  });
  const done = async () => { assert.deepEqual([...errors, ...(await Promise.all(checks)).filter(Boolean)], []); };
  return { page, done };
}

async function assertAccessible(page, context, options = {}) {
  // Evaluated through the debugger: the page's Content-Security-Policy forbids an injected script.
  if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(axe);
  // With this option, axe details only violations.
  const violations = await page.evaluate((options) => globalThis.axe.run({ resultTypes: ['violations'], ...options }).then((results) => results.violations), options);
  const messages = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`);
  assert.deepEqual(messages, [], context);
}

/** Requires that no time, chip or flag wraps across lines, and that no cells of a row overlap. */
async function assertTidy(page, context) {
  const untidy = await page.evaluate(() => {
    const box = (node) => node.getBoundingClientRect();
    const shown = (node) => box(node).width > 0;
    const broken = [...document.querySelectorAll('main time, .chip, .flag')].filter((node) => shown(node) && (node.getClientRects().length > 1 || box(node).height > 2.2 * parseFloat(getComputedStyle(node).fontSize)));
    const overlapping = [...document.querySelectorAll('tbody tr')].flatMap((row) => {
      const parts = [...row.querySelectorAll('time, .chip, td.key')].filter((node) => shown(node));
      return parts.filter((one, index) => parts.slice(index + 1).some((other) => !one.contains(other) && !other.contains(one)
        && box(one).left < box(other).right - 1 && box(other).left < box(one).right - 1 && box(one).top < box(other).bottom - 1 && box(other).top < box(one).bottom - 1));
    });
    return [...broken, ...overlapping].slice(0, 5).map((node) => node.outerHTML);
  });
  assert.deepEqual(untidy, [], context);
}

const visibleText = (page) => page.evaluate(() => document.body.innerText);

/** Returns the headline without its number of incidents, its colour, and the title and icon of the tab. */
async function headline(page) {
  return await page.evaluate(() => {
    const overview = document.querySelector('#overview');
    const strong = overview.querySelector('strong') ?? overview;
    const before = strong.style.color;
    const colour = getComputedStyle(strong).color;
    const resolve = (name) => {
      strong.style.color = `var(--${name})`;
      const resolved = getComputedStyle(strong).color;
      strong.style.color = before;
      return resolved;
    };
    const name = ['good', 'bad-text', 'warn', 'muted'].find((one) => resolve(one) === colour) ?? colour;
    return { text: overview.innerText.replace(/\s+/g, ' ').replace(/ \d+ incidents? ended in the last hour\./, ''), colour: name, hidden: overview.hidden, title: document.title, icon: document.querySelector('#icon').getAttribute('href') };
  });
}

/** Durations as src/text/mod.rs formats them. */
const DURATIONS = [
  [null, '–'], [0, '0 s'], [0.00034, '340 µs'], [0.012999, '12 ms'], [0.999999, '999 ms'], [1, '1 s'], [1.25, '1.25 s'], [9.999999, '9.99 s'],
  [20.509, '20.5 s'], [59.999999, '59.9 s'], [60, '1 min'], [179.6, '2 min 59 s'], [3599.9, '59 min 59 s'], [7199.999999, '1 h 59 min'],
  [7260, '2 h 1 min'], [86399.9, '23 h 59 min'], [90000, '1 d 1 h'],
];

const scenarios = {
  /** Never ends; other scenarios must continue. */
  async hanging(page) { await page.evaluate(() => { for (;;); }); },
  async idle(page) {
    assert.match(await visibleText(page), /(target is not|No target is) blocked/);
    assert.equal(await page.title(), 'redis-script-exporter');
    assert.equal(await page.locator('.banner').count(), 0);
    assert.equal((await headline(page)).colour, 'good');
    const ages = await page.evaluate(() => [0, 1, 59, 60, 125, 7260].map((seconds) => formatAge(now() - seconds - 0.2)));
    assert.deepEqual(ages, ['now', '1 s ago', '59 s ago', '1 min ago', '2 min 5 s ago', '2 h 1 min ago']);
    assert.match(await page.evaluate(() => formatTime(now())), /(UTC|GMT|[A-Z]{3,4})/, 'times have a zone');
    assert.deepEqual(await page.evaluate((all) => all.map(formatDuration), DURATIONS.map(([seconds]) => seconds)), DURATIONS.map(([, text]) => text));
    // Before the first response the page says that it has no data yet.
    const held = [];
    await page.route('**/api/**', (route) => { held.push(route); });
    await page.reload();
    await until(page, () => document.querySelector('#overview').innerText === 'Loading…');
    await page.unroute('**/api/**');
    for (const route of held) await route.continue().catch(() => {});
    await until(page, () => document.querySelector('#overview').innerText.includes('not blocked'));
    assert.equal(await page.evaluate(() => visible('a\u202e\ufe0f\n\u3164')), 'a\\u{202e}\\u{fe0f}\\u{a}\\u{3164}');
  },
  async down(page) {
    assert.deepEqual(await headline(page), {
      text: "1 target is unreachable. 0 of 1 responding.", colour: 'bad-text', hidden: false,
      title: "1 target is unreachable – redis-script-exporter", icon: 'down.svg',
    });
  },
  async went_down(page) {
    // On a narrow screen, the row is collapsed.
    await until(page, () => document.querySelector('#targets').textContent.includes('last reply'));
    assert.match(await page.locator('#targets').textContent(), /unreachable for .*last reply (now|.* ago)/s);
    assert.match(await page.locator('#problems').innerText(), /Nothing is listening there: .* To see its state, run:\s+redis-cli -h 127\.0\.0\.1 -p \d+ PING/s);
  },
  async all_down(page) {
    const { text, colour, title } = await headline(page);
    assert.equal(text, "120 targets are unreachable. 0 of 120 responding.");
    assert.equal(colour, 'bad-text');
    assert.match(title, /^120 targets are unreachable/);
    assert.match(await page.locator('#problems').innerText(), /shard-000\.sock, .*shard-003\.sock and 116 more: /s);
    // The headline does not depend on which part of the list is shown.
    await page.locator('#targets-search').fill('shard-119');
    await until(page, () => document.querySelectorAll('#targets tbody tr').length === 1);
    assert.equal((await headline(page)).text, text);
    await page.locator('#targets-search').fill('');
    await until(page, () => document.querySelectorAll('#targets tbody tr').length === 50);
  },
  async blocked_and_down(page) {
    await page.waitForSelector('.banner');
    const { text, colour, title, icon } = await headline(page);
    assert.equal(text, "1 target is unreachable. 1 target is blocked. 0 of 2 responding.");
    assert.equal(colour, 'bad-text');
    assert.match(title, /^1 target is unreachable, 127.* BLOCKED/);
    assert.equal(icon, 'down.svg');
  },
  async one_down(page) {
    const { text, title, icon } = await headline(page);
    assert.equal(text, "1 target is unreachable. 119 of 120 responding.");
    assert.match(title, /^1 target is unreachable/);
    assert.equal(icon, 'down.svg');
    assert.match(await page.locator('#targets tbody tr').first().innerText(), /gone/);
    // A problem shared by many targets is listed once, with the command for the first of them.
    await until(page, () => document.querySelectorAll('#problems .command').length === 2 && / and 115 more/.test(document.querySelector('#problems').innerText));
    assert.match(await page.locator('#problems').innerText(), /To fix it on shard-000, and likewise on the others, run:\s*redis-cli -s \S*shard-000\.sock CONFIG SET slowlog-max-len 1024/);
    // Rows are collapsed on a phone.
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    if (page.viewportSize().width < 400) {
      assert.ok(height < 4800, `${height} px high`);
      const row = page.locator('#targets tbody tr').first();
      assert.doesNotMatch(await row.innerText(), /Last blockage/);
      await row.locator('button.fold').click();
      assert.match(await row.innerText(), /gone/);
      assert.equal(await row.locator('td').last().isVisible(), true);
      await row.locator('button.fold').click();
    }
    // Filters are kept in the URL and survive a reload.
    await page.locator('#levels button', { hasText: 'Down' }).click();
    await until(page, () => document.querySelectorAll('#targets tbody tr').length === 1);
    assert.equal(new URL(page.url()).search, '?level=down');
    await page.reload();
    await until(page, () => document.querySelectorAll('#targets tbody tr').length === 1);
    assert.equal((await headline(page)).text, text, 'the headline does not depend on the filter');
    assert.equal(await page.locator('#levels button[aria-pressed=true]').innerText(), 'Down 1');
    await page.locator('#levels button', { hasText: 'All' }).click();
    await page.locator('#targets-search').fill('shard-07');
    await until(page, () => location.search === '?targets=shard-07' && document.querySelectorAll('#targets tbody tr').length === 10);
    await page.locator('#targets-search').fill('');
    await until(page, () => location.search === '' && document.querySelectorAll('#targets tbody tr').length === 50);
  },
  async blind(page) {
    assert.deepEqual(await headline(page), {
      text: "1 target responds, but its slow scripts cannot be observed. 1 of 1 responding.", colour: 'warn', hidden: false,
      title: "1 target responds, but its slow scripts cannot be observed – redis-script-exporter", icon: 'degraded.svg',
    });
  },
  async state_file(page) {
    await until(page, () => document.querySelector('#overview strong')?.innerText === 'The state file cannot be written.');
    assert.equal((await headline(page)).icon, 'degraded.svg');
    assert.match(await page.locator('#problems').innerText(), /The state file .* cannot be written: .*check the directory/);
  },
  async unauthorized(page) {
    const { text, colour, title } = await headline(page);
    assert.match(text, /^1 target denies access to the exporter\./);
    assert.equal(colour, 'bad-text');
    assert.match(title, /^1 target denies access to the exporter/);
  },
  /** The exporter hangs, responds again, and is terminated. */
  async dead(page) {
    // Check both together, because on a busy machine the exporter may stop responding in between.
    const green = () => {
      const [overview, stale] = ['#overview', '#stale'].map((id) => document.querySelector(id));
      return !overview.hidden && overview.innerText.includes('not blocked') && stale.hidden && document.title === 'redis-script-exporter';
    };
    const gone = () => document.querySelector('#overview').hidden && !document.querySelector('#stale').hidden && document.title.startsWith('No response');
    await until(page, green);
    const held = [];
    await page.route('**/api/**', (route) => { held.push(route); });
    await until(page, gone);
    await page.unroute('**/api/**');
    for (const route of held) await route.abort('aborted').catch(() => {});
    await until(page, green);
    await page.route('**/api/**', (route) => route.abort('connectionrefused'));
    await until(page, gone);
    assert.doesNotMatch(await visibleText(page), /not blocked/);
    assert.match(await page.locator('#stale').innerText(), /does not respond/);
    assert.equal((await headline(page)).icon, 'unknown.svg');
  },
  async blocked(page) {
    await page.waitForSelector('.banner');
    const text = await visibleText(page);
    assert.match(text, /is blocked and does not respond/);
    assert.match(text, /SCRIPT KILL/);
    assert.match(text, /FUNCTION KILL/);
    assert.match(await page.title(), /BLOCKED/);
    assert.match(await page.locator('.banner a', { hasText: 'Runbook' }).getAttribute('href'), /runbooks\.md#redisscriptrunning$/);
  },
  async busy(page) {
    await until(page, () => ['busy_loop', 'is BUSY running a function'].every((words) => document.querySelector('.banner')?.innerText.includes(words)));
    const text = await visibleText(page);
    assert.match(text, /is BUSY running a function/);
    assert.match(text, /redis-cli -h 127\.0\.0\.1 -p \d+ FUNCTION KILL/);
    assert.doesNotMatch(text, / SCRIPT KILL/);
    assert.match(text, /UNKILLABLE/);
    // A server with late replies is announced as blocked first.
    await until(page, () => /BUSY/.test(document.querySelector('#announcement').textContent));
    // The banner, the row of the target and the incident show the same duration.
    const [banner, target, incident] = await page.evaluate(() => [document.querySelector('[role=timer]').dataset.since, document.querySelector('#targets td.key time').dataset.age, document.querySelector('#incidents td time').dataset.age].map(Number));
    assert.ok(Math.abs(banner - target) < 1 && Math.abs(banner - incident) < 1, `since ${banner}, ${target}, ${incident}`);
    const before = await page.locator('[role=timer]').textContent();
    await until(page, (then) => document.querySelector('[role=timer]').textContent !== then, before);
  },
  async busy_script(page) {
    await until(page, () => document.querySelector('.banner')?.innerText.includes('is BUSY running a script'));
    const text = await visibleText(page);
    assert.match(text, /redis-cli -h 127\.0\.0\.1 -p \d+ SCRIPT KILL/);
    assert.doesNotMatch(text, / FUNCTION KILL/);
    assert.match(text, /If the reply is UNKILLABLE, the script has already written data: wait until it ends, or send SHUTDOWN NOSAVE/);
    await until(page, () => /BUSY: script/.test(document.querySelector('#incidents').innerText));
    assert.match(await page.locator('#incidents').innerText(), /so far/);
  },
  async busy_module(page) {
    await until(page, () => document.querySelector('.banner')?.innerText.includes('is BUSY running a module command'));
    assert.equal(await page.locator('.banner .command').count(), 0);
    assert.match(await page.locator('.banner').innerText(), /Neither SCRIPT KILL nor FUNCTION KILL ends a module's command/);
  },
  async guard(page) {
    const banner = (name) => page.locator('.banner', { has: page.locator('h2', { hasText: new RegExp(`^${name} `) }) });
    await until(page, () => document.querySelectorAll('.banner').length === 3 && /guard killed it/.test(document.querySelector('#incidents').textContent));
    await until(page, () => /has refused the guard's kill/.test(document.querySelector('#blocked').innerText));
    const [refused, dryRun, budget] = await Promise.all(['refused', 'dry-run', 'budget'].map((name) => banner(name).innerText()));
    assert.match(refused, /The guard could not kill the script: it has already written data.* At that time \(.*\), it had run for at least [\d.]+ s/);
    assert.doesNotMatch(refused, /To stop it|SCRIPT KILL/);
    assert.match(refused, /has already written data/);
    assert.match(dryRun, /The guard would have killed the script \(mode dry-run\)\. At that time \(.*\), it had run for at least [\d.]+ s/);
    assert.match(dryRun, /To stop it:/);
    assert.match(budget, /The guard did not kill the script: its limit on kills has been reached/);
    const incidents = await page.locator('#incidents').textContent();
    for (const text of ['guard killed it after', 'guard could not kill it: it had written', 'guard would have killed it (dry run)', 'guard did not kill it: its limit on kills was reached']) {
      assert.ok(incidents.includes(text), `${text}: ${incidents}`);
    }
    await until(page, () => document.querySelectorAll('#incidents path.guard').length >= 5);
    assert.match(await page.locator('#incidents svg').first().getAttribute('aria-label'), /guard /);
  },
  async four_incidents(page) { await fourIncidents(page); },
  /** The data of the previous process is restored: incidents, last blockage, latest calls and callers. */
  async restarted(page) {
    await fourIncidents(page);
    await until(page, () => document.querySelectorAll('#calls tbody tr').length >= 2);
    assert.match(await page.locator('#calls').innerText(), page.viewportSize().width > 400 ? /worker-7/ : /busy_loop/);
    assert.match(await page.locator('#targets tbody tr').first().textContent(), /cause: busy_loop/);
    await page.locator('#scripts a', { hasText: 'busy_loop' }).first().click();
    await until(page, () => /Callers\s*worker-7 at 127\.0\.0\.1: 2 calls/.test(document.querySelector('#script')?.innerText ?? ''));
    await page.goBack();
    await until(page, () => document.querySelectorAll('#incidents tbody tr').length === 4);
  },
  async before_start(page) {
    await until(page, () => document.querySelectorAll('#calls tbody tr').length === 2);
    assert.equal(await page.locator('#calls .chip', { hasText: 'before the start' }).count(), 1);
    await until(page, () => document.querySelectorAll('#scripts tbody tr').length === 1);
    const calls = await page.locator('#scripts tbody tr td[data-label=Calls]').first().textContent();
    assert.equal(calls, '1', 'not counted');
  },
  async one_script(page) {
    await page.locator('#scripts a', { hasText: 'spin' }).first().click();
    await until(page, () => location.search.startsWith('?script=spin.lua') && document.querySelector('#script dl') && document.activeElement.id === 'script-title');
    const text = await page.locator('#script-panel').innerText();
    assert.match(text, /Script spin\.lua:spin/);
    assert.match(text, /2 in the slow log; 2 slow, 2 of them critical/);
    assert.match(text, /Red: longer than 2 ms \(--slow.critical\)/);
    assert.match(text, /worker-7/);
    assert.match(text, /redis.register_function/);
    assert.match(text, /Lint/);
    assert.ok(await page.locator('#script .durations rect.critical').count() > 0, 'bars by --slow.critical');
    assert.equal(await page.locator('#script .durations td.number').first().isVisible(), true);
    assert.equal(await page.locator('#script .trend circle.critical').count(), 2);
    assert.equal(await page.locator('#targets').isVisible(), false);
    assert.equal(await page.locator('#overview').isVisible(), true);
    // The p99 of a few calls equals the longest call.
    assert.match(text, /longest (\S+ \S+), p99 \1,/);
    await until(page, () => document.querySelector('#incidents').innerText.startsWith('No blockage by this script in the last 24 hours'));
    await page.reload();
    await until(page, () => document.querySelector('#script dl') && document.querySelectorAll('#calls tbody tr').length === 2);
    await page.goBack();
    await until(page, () => location.search === '' && document.querySelectorAll('#scripts tbody tr').length === 2);
    // A slow call links to its script, and a target to its own lists.
    await page.locator('#calls a', { hasText: 'spin' }).first().click();
    await until(page, () => location.search.startsWith('?script=spin.lua'));
    await page.locator('#all-scripts').click();
    await until(page, () => location.search === '' && document.querySelector('#targets tbody a'));
    await page.locator('#targets tbody a').first().click();
    await until(page, () => location.search.startsWith('?target=') && !document.querySelector('#filter').hidden);
    await page.locator('#filter a').click();
    await until(page, () => location.search === '');
    await until(page, () => document.querySelector('#incidents').innerText.startsWith('No blockage and no outage in'));
    await page.goto(new URL('?target=gone', page.url()).href);
    await until(page, () => document.querySelector('#targets').innerText.includes('There is currently no target with this name.') && document.querySelector('#incidents').innerText.startsWith('No blockage and no outage of this target in'));
    await page.goto(new URL('?script=nothing', page.url()).href);
    await until(page, () => document.querySelector('#script')?.innerText.includes('No call to this script'));
    await page.goto(new URL('?script=spin', page.url()).href);
    await until(page, () => document.querySelector('#script dl') && document.querySelector('#calls tbody tr'));
  },
  async thousand(page) {
    assert.match(await page.locator('#scripts .pager').innerText(), /1–50 of 1,00\d scripts/);
    assert.equal(await page.locator('#scripts tbody tr').count(), 50);
    await page.locator('#scripts-search').fill('many_0123');
    await until(page, () => document.querySelectorAll('#scripts tbody tr').length === 1);
    await page.locator('#scripts-search').fill('');
    await page.waitForSelector('#scripts .pager');
    await page.goto(new URL('?sort=name&order=asc&scripts=many_09', page.url()).href);
    await until(page, () => document.querySelector('#scripts .pager')?.innerText.includes('of 100 scripts') && document.querySelector('#scripts tbody td').innerText.includes('many_0900'));
    assert.equal(await page.locator('#scripts-search').inputValue(), 'many_09');
    assert.equal(await page.locator('#scripts th[aria-sort=ascending]').innerText().then((text) => text.trim()), 'Script');
    await page.goto(new URL('?', page.url()).href);
    await page.waitForSelector('#scripts .pager');
    await page.locator('#scripts .pager button', { hasText: 'Next' }).click();
    await until(page, () => document.querySelector('#scripts .pager').innerText.includes('51–100'));
  },
  async hostile(page) {
    const text = await visibleText(page);
    assert.ok(text.includes('<img src=x onerror=alert(1)>'), text);
    assert.ok(text.includes('abc\\u{202e}def'), 'characters that change the direction of text are escaped');
    assert.ok(!text.includes('\u202e'));
    assert.equal(await page.locator('main img, main script, main iframe').count(), 0);
    await page.locator('#scripts a', { hasText: '<img' }).first().click();
    await page.waitForSelector('#script dl');
    assert.match(await page.locator('#script').innerText(), /<b>me<\/b>/, 'the name of the client');
    assert.equal(await page.locator('main img, main script, main iframe').count(), 0);
    await page.goBack();
    await until(page, () => location.search === '' && document.querySelector('#scripts tbody'));
  },
};

/** Four blockages have ended, two of them by a kill. */
async function fourIncidents(page) {
  // On a busy disk, a write of the state file may fail temporarily, which the headline reports.
  await until(page, () => document.querySelectorAll('#incidents tbody tr').length === 4 && document.querySelector('#overview.ok'));
  const { text, colour } = await headline(page);
  assert.equal(text, 'The target is not blocked. 1 of 1 responding.');
  assert.match(await page.locator('#overview').innerText(), /4 incidents ended in the last hour\./);
  assert.equal(colour, 'good');
  const list = await page.evaluate(() => [...document.querySelectorAll('#incidents tbody tr')].map((row) => row.textContent));
  assert.equal(list.filter((row) => row.includes('killed')).length, 2, list.join('\n'));
  assert.equal(list.filter((row) => row.includes('finished')).length, 2, list.join('\n'));
  assert.ok(list.every((row) => row.includes('worker-7')), list.join('\n'));
  assert.equal(list.filter((row) => row.includes('busy_loop')).length, 2, list.join('\n'));
  assert.equal(await page.locator('#incidents .timeline rect.blockage').count(), 4);
  // Times have a zone even without hovering, and an ended incident looks different from one in progress.
  assert.ok(list.every((row) => /\d:\d\d:\d\d.*(UTC|GMT|[A-Z]{3,4})/.test(row)), list.join('\n'));
  const filled = await page.evaluate(() => [...document.querySelectorAll('#incidents .chip')].filter((chip) => getComputedStyle(chip).backgroundColor !== 'rgba(0, 0, 0, 0)').length);
  assert.equal(filled, 0);
  assert.match(await page.locator('#incidents .timeline svg').first().getAttribute('aria-label'), /^4 incidents of /);
  await page.locator('#incidents tbody tr', { hasText: 'busy_loop' }).first().locator('a').first().evaluate((link) => link.click());
  await until(page, () => location.search === '?script=busy_loop' && document.querySelectorAll('#incidents tbody tr').length === 2);
  await page.goBack();
  await until(page, () => document.querySelectorAll('#incidents tbody tr').length === 4);
}

/** Uses the page with only the keyboard. */
async function keyboard(page, scenario) {
  const tabTo = async (expected) => {
    for (let step = 0; step < 80; step += 1) {
      await page.keyboard.press('Tab');
      const key = await page.evaluate(() => {
        const focused = document.activeElement;
        const style = getComputedStyle(focused);
        if (focused !== document.body && (style.outlineStyle === 'none' || style.outlineWidth === '0px')) return `no visible focus: ${focused.outerHTML}`;
        return focused.dataset.key ?? focused.id ?? '';
      });
      assert.doesNotMatch(key, /^no visible focus/);
      if (key.startsWith(expected)) return;
    }
    assert.fail(`Tab does not reach ${expected}`);
  };
  if (scenario === 'busy') {
    // The word is shown for 2 s, which a poll on a busy machine may miss.
    await page.evaluate(() => {
      const watch = () => { globalThis.copied ||= document.activeElement.textContent === 'Copied'; };
      new MutationObserver(watch).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    // A state change between the two key presses replaces the button.
    for (let tries = 0; tries < 20 && !await page.evaluate(() => globalThis.copied); tries += 1) {
      await tabTo('copy');
      await page.keyboard.press('Enter');
      await until(page, () => globalThis.copied, undefined, 2000).catch(() => {});
    }
    assert.ok(await page.evaluate(() => globalThis.copied), 'Enter on the button copies nothing');
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^redis-cli .* FUNCTION KILL$/);
  }
  if (scenario === 'one_script') {
    await tabTo('source');
    await page.keyboard.press('Shift+Tab');
    await page.locator('#all-scripts').focus();
    await page.keyboard.press('Enter');
    await until(page, () => location.search === '');
  }
  await tabTo('targets-search');
  if (scenario === 'thousand') {
    await tabTo('sort calls');
    await page.keyboard.press('Enter');
    await until(page, () => document.querySelector('th[aria-sort]').innerText.startsWith('Calls') && document.activeElement.dataset.key === 'sort calls');
    await tabTo('script ');
    await page.keyboard.press('Enter');
    await until(page, () => document.querySelector('#script dl') && document.activeElement.id === 'script-title');
  }
}

const VIEWS = [
  ['light', { viewport: { width: 1280, height: 900 }, colorScheme: 'light' }],
  ['dark-360', { viewport: { width: 360, height: 740 }, colorScheme: 'dark' }],
];

/** Runs a scenario in all views. */
async function check(run) {
  const { url, scenario } = run;
  assert.ok(scenarios[scenario], `there is no scenario ${scenario}`);
  const { page, done } = await open(run);
  for (const [name, { viewport, colorScheme }] of VIEWS) {
    const context = `${scenario} ${name}`;
    run.step = context;
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.goto(url);
    await until(page, () => document.querySelector('#targets > *') && document.querySelector('#scripts > *') && document.querySelector('#calls > *'));
    await scenarios[scenario](page);
    run.step = `checks of ${context}`;
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok(widths[0] <= widths[1], `${context}: ${widths[0]} px wide in ${widths[1]}`);
    await assertAccessible(page, context);
    await assertTidy(page, context);
    if (folder) await page.screenshot({ path: join(folder, `${scenario}-${name}.png`), clip: { x: 0, y: 0, width: viewport.width, height: 1500 }, fullPage: true });
    await page.emulateMedia({ colorScheme: colorScheme === 'light' ? 'dark' : 'light' });
    await assertAccessible(page, `${context}, other colour scheme`, { runOnly: ['color-contrast'] });
    if (name === 'light') await keyboard(page, scenario);
  }
  run.step = `end of ${scenario}`;
  await done();
  for (const path of ['slow?limit=0', 'nowhere']) assertMatchesSchema('error', await (await fetch(new URL(`api/v1/${path}`, url))).json());
  for (const path of ['targets', 'scripts', 'slow', 'incidents']) {
    assertMatchesSchema(path, await (await fetch(new URL(`api/v1/${path}?limit=500`, url))).json());
  }
  assert.ok(run.responses > 3, 'too few API responses were checked');
}

/** Processes a request and returns its error, if any. */
async function handle(limit, url, scenario) {
  const run = { url, scenario, context: null, responses: 0, step: 'start' };
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${run.step} did not end within ${limit} ms`)), limit); });
  try {
    await Promise.race([check(run), late]);
    return null;
  } catch (error) {
    return error.stack ?? String(error);
  } finally {
    clearTimeout(timer);
    // Not awaited, because a hanging page must not delay the result.
    run.context?.close().catch(() => {});
  }
}

if (folder) mkdirSync(folder, { recursive: true });
// The failure of a page that has timed out has already been reported.
process.on('unhandledRejection', () => {});
for await (const line of createInterface({ input: process.stdin })) {
  const [id, limit, url, scenario] = line.split(' ');
  handle(Number(limit), url, scenario).then((error) => process.stdout.write(`${id} ${JSON.stringify(error)}\n`));
}
const running = await launched?.catch(() => undefined);
await running?.close();
process.exit();
