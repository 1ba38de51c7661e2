// Prints the scripts that a package of bull, bullmq or bottleneck composes from its folder, as an object of name and body.
// Usage: node load.cjs FOLDER; modules required by the package's own loader are resolved from the parents of the folder.
const fs = require('fs');
const path = require('path');

const folder = process.argv[2];
const loader = path.join(folder, 'script-loader.js');

async function load() {
  if (fs.existsSync(path.join(folder, 'Scripts.js'))) {
    const own = require(path.join(folder, 'Scripts.js'));
    return Object.fromEntries(own.names.map((name) => [name, own.payload(name)]));
  }
  if (fs.existsSync(loader)) {
    const { ScriptLoader } = require(loader);
    const own = new ScriptLoader();
    const commands = await (own.loadScripts ?? own.loadCommands).call(own, folder);
    return Object.fromEntries(commands.map(({ name, options }) => [name, options.lua]));
  }
  const files = fs.readdirSync(folder).filter((name) => name.endsWith('.lua'));
  const bodies = files.map((name) => [name.slice(0, -'.lua'.length), fs.readFileSync(path.join(folder, name), 'utf8')]);
  return Object.fromEntries(bodies.filter(([, body]) => !body.includes('@include')));
}

load().then((scripts) => console.log(JSON.stringify(scripts)));
