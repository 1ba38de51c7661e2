// Looks at the status page with Chromium, and fails if anything about it is not as it should be.
//
//   node check.mjs MODULES BROWSER URL SCENARIO [FOLDER]     MODULES holds node_modules; FOLDER takes pictures
//
// In every scenario, light and dark, wide and 360 px: nothing is asked of another origin, no message on the console, no
// horizontal scrolling, no violation found by axe-core, and every answer of the API fits its schema in docs/api/.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [modules, executablePath, url, scenario, folder] = process.argv.slice(2);
const load = createRequire(join(modules, 'node_modules', 'index.js'));
const { chromium } = load('playwright-core');
const Ajv = load('ajv/dist/2020').default;
const axe = readFileSync(load.resolve('axe-core/axe.min.js'), 'utf8');

const docs = join(dirname(fileURLToPath(import.meta.url)), '../../docs/api');
const ajv = new Ajv({ strict: true, allErrors: true });
const schemas = Object.fromEntries(['targets', 'scripts', 'slow', 'error'].map((name) =>
  [name, ajv.compile(JSON.parse(readFileSync(join(docs, `${name}.schema.json`), 'utf8')))]));
function fits(name, answer) {
  assert.ok(schemas[name](answer), `${name}: ${ajv.errorsText(schemas[name].errors)}\n${JSON.stringify(answer).slice(0, 2000)}`);
}

const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath, args });
let answers = 0;

/** Asks until something holds. Playwright's own way evaluates text in the page, which the page's policy refuses. */
async function until(page, holds, argument) {
  for (const end = Date.now() + 40000; Date.now() < end;) {
    if (await page.evaluate(holds, argument)) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.fail(`did not come to hold: ${holds}\n${await page.evaluate(() => document.body.innerText)}`);
}

async function open(options) {
  const context = await browser.newContext({ ...options, bypassCSP: false });
  const page = await context.newPage();
  const wrong = [];
  page.on('request', (request) => { if (new URL(request.url()).origin !== new URL(url).origin) wrong.push(`asked ${request.url()}`); });
  page.on('console', (message) => {
    if (scenario !== 'dead' || !/ERR_CONNECTION_REFUSED/.test(message.text())) wrong.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong.push(`error: ${error}`));
  page.on('dialog', (dialog) => { wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  const checks = [];
  page.on('response', (response) => {
    const path = new URL(response.url()).pathname;
    const found = /\/api\/v1\/(\w+)$/.exec(path);
    if (found && response.status() === 200) checks.push(response.json().then((answer) => { answers += 1; fits(found[1], answer); }, () => {}));
  });
  await page.goto(url);
  await until(page, () => document.querySelector('#targets > *') && document.querySelector('#scripts > *') && document.querySelector('#calls > *'));
  return { context, page, done: async () => { await Promise.all(checks); assert.deepEqual(wrong, []); await context.close(); } };
}

async function isAccessible(page, what) {
  // Through the debugger, not as a script of the page, whose policy would refuse it.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`);
  assert.deepEqual(told, [], what);
}

const visibleText = (page) => page.evaluate(() => document.body.innerText);

/** The headline with its colour, and what the tab shows. */
async function headline(page) {
  return await page.evaluate(() => {
    const overview = document.querySelector('#overview');
    const shown = overview.querySelector('strong') ?? overview;
    const before = shown.style.color;
    const colour = getComputedStyle(shown).color;
    const named = (name) => {
      shown.style.color = `var(--${name})`;
      const found = getComputedStyle(shown).color;
      shown.style.color = before;
      return found;
    };
    const name = ['good', 'bad-text', 'warn', 'quiet'].find((one) => named(one) === colour) ?? colour;
    return { text: overview.innerText.replace(/\s+/g, ' '), colour: name, hidden: overview.hidden, title: document.title, icon: document.querySelector('#icon').getAttribute('href') };
  });
}

const scenarios = {
  async idle(page) {
    assert.match(await visibleText(page), /(target is not|No target is) blocked/);
    assert.equal(await page.title(), 'redis-script-exporter');
    assert.equal(await page.locator('.banner').count(), 0);
    assert.equal((await headline(page)).colour, 'good');
  },
  async down(page) {
    assert.deepEqual(await headline(page), {
      text: "1 target can't be reached. 0 of 1 answer as they should.", colour: 'bad-text', hidden: false,
      title: "1 target can't be reached – redis-script-exporter", icon: 'down.svg',
    });
  },
  async all_down(page) {
    const { text, colour, title } = await headline(page);
    assert.equal(text, "120 targets can't be reached. 0 of 120 answer as they should.");
    assert.equal(colour, 'bad-text');
    assert.match(title, /^120 targets can't be reached/);
    assert.match(await page.locator('#problems').innerText(), /shard-000\.sock, .*shard-003\.sock and 116 more: The exporter can't reach/s);
    // It holds whatever part of the list is looked at.
    await page.locator('#targets-search').fill('shard-119');
    await until(page, () => document.querySelectorAll('#targets tbody tr').length === 1);
    assert.equal((await headline(page)).text, text);
    await page.locator('#targets-search').fill('');
    await until(page, () => document.querySelectorAll('#targets tbody tr').length === 50);
  },
  async blocked_and_down(page) {
    await page.waitForSelector('.banner');
    const { text, colour, title, icon } = await headline(page);
    assert.equal(text, "1 target is blocked. 1 target can't be reached. 0 of 2 answer as they should.");
    assert.equal(colour, 'bad-text');
    assert.match(title, /BLOCKED/);
    assert.equal(icon, 'blocked.svg');
  },
  async unauthorized(page) {
    const { text, colour, title } = await headline(page);
    assert.match(text, /^1 target does not accept the exporter\./);
    assert.equal(colour, 'bad-text');
    assert.match(title, /^1 target does not accept the exporter/);
  },
  /** The exporter hangs, answers again, and is gone. */
  async dead(page) {
    const green = () => { const overview = document.querySelector('#overview'); return !overview.hidden && overview.innerText.includes('not blocked'); };
    const gone = () => document.querySelector('#overview').hidden && !document.querySelector('#stale').hidden && document.title.startsWith('No answer');
    await until(page, green);
    const held = [];
    await page.route('**/api/**', (route) => { held.push(route); });
    await until(page, gone);
    await page.unroute('**/api/**');
    for (const route of held) await route.abort('aborted').catch(() => {});
    await until(page, green);
    assert.equal(await page.locator('#stale').isVisible(), false);
    assert.equal(await page.title(), 'redis-script-exporter');
    await page.route('**/api/**', (route) => route.abort('connectionrefused'));
    await until(page, gone);
    assert.doesNotMatch(await visibleText(page), /not blocked/);
    assert.match(await page.locator('#stale').innerText(), /does not answer/);
    assert.equal((await headline(page)).icon, 'unknown.svg');
  },
  async blocked(page) {
    await page.waitForSelector('.banner');
    const text = await visibleText(page);
    assert.match(text, /is blocked and answers nothing/);
    assert.match(text, /SCRIPT KILL/);
    assert.match(text, /FUNCTION KILL/);
    assert.match(await page.title(), /BLOCKED/);
  },
  async busy(page) {
    await until(page, () => document.querySelector('.banner')?.innerText.includes('busy_loop'));
    const text = await visibleText(page);
    assert.match(text, /is BUSY with a function/);
    assert.match(text, /redis-cli -h 127\.0\.0\.1 -p \d+ FUNCTION KILL/);
    assert.doesNotMatch(text, / SCRIPT KILL/);
    assert.match(text, /UNKILLABLE/);
    assert.match(await page.locator('#announcement').textContent(), /BUSY/);
    const before = await page.locator('[role=timer]').textContent();
    await until(page, (then) => document.querySelector('[role=timer]').textContent !== then, before);
  },
  async thousand(page) {
    assert.match(await page.locator('#scripts .pager').innerText(), /1–50 of 1,00\d scripts/);
    assert.equal(await page.locator('#scripts tbody tr').count(), 50);
    await page.locator('#scripts-search').fill('many_0123');
    await until(page, () => document.querySelectorAll('#scripts tbody tr').length === 1);
    await page.locator('#scripts-search').fill('');
    await page.waitForSelector('#scripts .pager');
    await page.locator('#scripts .pager button', { hasText: 'Next' }).click();
    await until(page, () => document.querySelector('#scripts .pager').innerText.includes('51–100'));
  },
  async hostile(page) {
    const text = await visibleText(page);
    assert.ok(text.includes('<img src=x onerror=alert(1)>'), text);
    assert.ok(text.includes('abc\ufffddef'), 'what turns the direction around is replaced');
    assert.ok(!text.includes('\u202e'));
    assert.equal(await page.locator('main img, main script, main iframe').count(), 0);
    await page.locator('#scripts button.more', { hasText: '<img' }).first().click();
    await page.waitForSelector('#scripts .detail');
    assert.match(await page.locator('#scripts .detail').innerText(), /<b>me<\/b>/, 'the name of the client');
  },
};

/** Everything that can be done by keyboard alone. */
async function keyboard(page) {
  const reach = async (wanted) => {
    for (let step = 0; step < 80; step += 1) {
      await page.keyboard.press('Tab');
      const key = await page.evaluate(() => {
        const at = document.activeElement;
        const style = getComputedStyle(at);
        if (at !== document.body && (style.outlineStyle === 'none' || style.outlineWidth === '0px')) return `not visible: ${at.outerHTML}`;
        return at.dataset.key ?? at.id ?? '';
      });
      assert.doesNotMatch(key, /^not visible/);
      if (key.startsWith(wanted)) return;
    }
    assert.fail(`${wanted} is not reached by Tab`);
  };
  if (scenario === 'busy') {
    await reach('copy');
    await page.keyboard.press('Enter');
    await until(page, () => document.activeElement.textContent === 'Copied');
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^redis-cli .* FUNCTION KILL$/);
  }
  await reach('targets-search');
  if (scenario === 'thousand') {
    await reach('sort calls');
    await page.keyboard.press('Enter');
    await until(page, () => document.querySelector('th[aria-sort]').innerText.startsWith('Calls') && document.activeElement.dataset.key === 'sort calls');
    await reach('script ');
    await page.keyboard.press('Enter');
    await until(page, () => document.activeElement.getAttribute('aria-expanded') === 'true');
  }
}

try {
  if (folder) mkdirSync(folder, { recursive: true });
  for (const [name, options] of [
    ['light', { viewport: { width: 1280, height: 900 }, colorScheme: 'light', permissions: ['clipboard-read', 'clipboard-write'] }],
    ['dark-360', { viewport: { width: 360, height: 740 }, colorScheme: 'dark' }],
  ]) {
    const { page, done } = await open(options);
    await scenarios[scenario](page);
    const what = `${scenario} ${name}`;
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok(widths[0] <= widths[1], `${what}: ${widths[0]} px wide in ${widths[1]}`);
    await isAccessible(page, what);
    if (folder) await page.screenshot({ path: join(folder, `${scenario}-${name}.png`), clip: { x: 0, y: 0, width: options.viewport.width, height: 1500 }, fullPage: true });
    // The other scheme too: its colours are others.
    await page.emulateMedia({ colorScheme: options.colorScheme === 'light' ? 'dark' : 'light' });
    await isAccessible(page, `${what}, the other colours`);
    if (name === 'light') await keyboard(page);
    await done();
  }
  for (const path of ['slow?limit=0', 'nowhere']) fits('error', await (await fetch(new URL(`api/v1/${path}`, url))).json());
  for (const path of ['targets', 'scripts', 'slow']) {
    fits(path, await (await fetch(new URL(`api/v1/${path}?limit=500`, url))).json());
  }
  assert.ok(answers > 3, 'answers were looked at');
} finally {
  await browser.close();
}
