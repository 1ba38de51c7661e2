// Checks every document of deploy/kubernetes/ and of the rendered chart against the published schema of its kind, and the
// references between documents. Arguments: the directory of the installed modules, and the files.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, ...files] = process.argv.slice(2);
const require = createRequire(`${resolve(modules)}/`);
const { parseAllDocuments } = require('yaml');

/** Returns the class of a kind, which contains its schema. */
async function model({ apiVersion, kind }) {
  const place = apiVersion.startsWith('monitoring.coreos.com/') ? '@kubernetes-models/prometheus-operator' : 'kubernetes-models';
  const file = resolve(modules, 'node_modules', place, apiVersion, `${kind}.js`);
  return (await import(pathToFileURL(file)))[kind];
}

/** Yields the paths of all keys and elements in a document. */
function* places(value, path = []) {
  if (path.length) yield path;
  if (value !== null && typeof value === 'object') {
    for (const key of Object.keys(value)) yield* places(value[key], [...path, key]);
  }
}

/** Returns a copy with a value at this path that is invalid in every schema. */
function broken(document, path) {
  const copy = structuredClone(document);
  const parent = path.slice(0, -1).reduce((value, key) => value[key], copy);
  const old = parent[path.at(-1)];
  parent[path.at(-1)] = old !== null && typeof old === 'object' ? 4.5 : [[4.5]];
  return copy;
}

/**
 * Returns the keys that the schema does not define. The schema ignores them, as does a server that drops unknown keys, so
 * they are found by inserting an invalid value, which the schema accepts only there.
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
