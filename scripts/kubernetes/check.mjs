// Checks every document of deploy/kubernetes/ and of the rendered chart against the published schema of its kind, and what the documents say of
// each other. Arguments: the folder of the installed modules, and the files.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, ...files] = process.argv.slice(2);
const require = createRequire(`${resolve(modules)}/`);
const { parseAllDocuments } = require('yaml');

/** The class of a kind, which knows its schema. */
async function model({ apiVersion, kind }) {
  const place = apiVersion.startsWith('monitoring.coreos.com/') ? '@kubernetes-models/prometheus-operator' : 'kubernetes-models';
  const file = resolve(modules, 'node_modules', place, apiVersion, `${kind}.js`);
  return (await import(pathToFileURL(file)))[kind];
}

/** Where in a document the keys and elements are. */
function* places(value, path = []) {
  if (path.length) yield path;
  if (value !== null && typeof value === 'object') {
    for (const key of Object.keys(value)) yield* places(value[key], [...path, key]);
  }
}

/** A copy with something at this place that nothing in these schemas may be. */
function broken(document, path) {
  const copy = structuredClone(document);
  const parent = path.slice(0, -1).reduce((value, key) => value[key], copy);
  const old = parent[path.at(-1)];
  parent[path.at(-1)] = old !== null && typeof old === 'object' ? 4.5 : [[4.5]];
  return copy;
}

/**
 * Keys that the schema does not know. It lets them pass, as a server does that drops them: so what stands there does not
 * matter to it, and that gives them away.
 */
function unknownKeys(Model, document) {
  return [...places(document)].filter((path) => {
    try {
      new Model(broken(document, path)).validate();
      return true;
    } catch {
      return false;
    }
  });
}

const problems = [];
for (const file of files) {
  for (const parsed of parseAllDocuments(readFileSync(file, 'utf8'), { strict: true })) {
    const say = (text) => problems.push(`${file}: ${text}`);
    if (parsed.errors.length) {
      parsed.errors.forEach((error) => say(error.message));
      continue;
    }
    const document = parsed.toJS();
    if (document.kind === 'Kustomization') {
      for (const name of document.resources ?? []) {
        if (!files.includes(`${dirname(file)}/${name}`)) say(`there is no ${name}`);
      }
      continue;
    }
    try {
      const Model = await model(document);
      new Model(document).validate();
      for (const path of unknownKeys(Model, document)) say(`${path.join('.')} is not known`);
    } catch (error) {
      say(error.message);
      continue;
    }
    const pod = document.kind === 'Pod' ? document.spec : document.spec?.template?.spec;
    for (const container of pod?.containers ?? []) {
      const mounts = (container.volumeMounts ?? []).map((mount) => mount.name);
      const there = [...(pod.volumes ?? []), ...(document.spec.volumeClaimTemplates ?? []).map((claim) => claim.metadata)];
      for (const mount of mounts) if (!there.some((volume) => volume.name === mount)) say(`${container.name} mounts ${mount}, which is no volume`);
      const { securityContext: own = {} } = container;
      const restricted = pod.securityContext?.runAsNonRoot && pod.securityContext.seccompProfile?.type === 'RuntimeDefault'
        && own.allowPrivilegeEscalation === false && own.capabilities?.drop?.includes('ALL');
      if (!restricted) say(`${container.name} is not within the restricted Pod Security Standard`);
    }
  }
}
if (problems.length) {
  problems.forEach((problem) => console.error(`check-kubernetes: ${problem}`));
  process.exit(1);
}
