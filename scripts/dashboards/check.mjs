// Checks dashboards against the types that Grafana publishes for them.
//
//   node check.mjs FOLDER DASHBOARD.json…     FOLDER contains node_modules; generated files are written to it
//
// Grafana's schema is published as TypeScript. Each part of a dashboard is therefore written as a literal of its expected
// type, with options and field settings according to the panel type. The compiler reports missing fields, unknown fields
// and invalid values.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const [folder, ...files] = process.argv.slice(2);

// Panel type → its name in the schema. An unlisted type is an error, or must be added here.
const panels = {
  bargauge: 'BarGauge',
  heatmap: 'Heatmap',
  stat: 'Stat',
  'state-timeline': 'StateTimeline',
  table: 'Table',
  timeseries: 'TimeSeries',
};
// These panels have no specific field settings.
const plain = new Set(['bargauge', 'stat']);

const types = '@grafana/schema/dist/types/raw';
const head = `
import type * as D from '${types}/dashboard/x/dashboard_types.gen';
${Object.values(panels).map((name) => `import type * as ${name} from '${types}/composable/${name.toLowerCase()}/panelcfg/x/${name}PanelCfg_types.gen';`).join('\n')}

/** A type in its JSON form: enumeration values are plain strings and numbers. */
type Json<T> = unknown extends T ? T
  : T extends string ? \`\${T}\`
  : T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : number)
  : T extends ReadonlyArray<infer U> ? Array<Json<U>>
  : T extends object ? { [K in keyof T]: Json<T[K]> }
  : T;

// Fields added by Grafana's Prometheus data source, which the published package does not contain.
interface PrometheusQuery {
  refId: string; datasource: D.DataSourceRef; expr: string; editorMode: 'code' | 'builder';
  instant: boolean; range: boolean; legendFormat?: string; format?: 'time_series' | 'table' | 'heatmap';
}
interface PrometheusAnnotation extends D.AnnotationQuery {
  expr?: string; step?: string; titleFormat?: string; textFormat?: string; tagKeys?: string;
}
interface QueryVariable extends D.VariableModel { definition?: string }
interface DataLink { title: string; url: string; targetBlank?: boolean }
`;

const problems = [];
const parts = [];
const check = (where, type, value) => parts.push({ where, text: `const part_${parts.length}: ${type} = ${JSON.stringify(value)};` });

for (const file of files) {
  const text = readFileSync(file, 'utf8');
  const dashboard = JSON.parse(text);
  const name = basename(file);
  if (text !== JSON.stringify(dashboard, null, 2) + '\n') {
    problems.push(`${name}: is not formatted with two spaces, as \`JSON.stringify(…, null, 2)\` does it`);
  }
  const { annotations, templating, panels: list, ...rest } = dashboard;
  check(name, 'Json<D.Dashboard>', rest);
  for (const one of annotations.list) check(`${name}: annotation ${one.name}`, 'Json<PrometheusAnnotation>', one);
  for (const one of templating.list) check(`${name}: variable ${one.name}`, 'Json<QueryVariable>', one);
  for (const panel of list) {
    const where = `${name}: panel ${panel.id} ${panel.title}`;
    if (panel.type === 'row') {
      check(where, 'Json<D.RowPanel>', panel);
      continue;
    }
    const kind = panels[panel.type];
    if (!kind) {
      problems.push(`${where}: panels of the type ${panel.type} are not checked here`);
      continue;
    }
    const { options, targets, fieldConfig, ...frame } = panel;
    const { custom, links, ...defaults } = fieldConfig.defaults;
    const settings = plain.has(panel.type) ? 'Record<string, never>' : `Partial<Json<${kind}.FieldConfig>>`;
    check(where, 'Json<D.Panel>', frame);
    check(`${where}: options`, `Json<${kind}.Options>`, options);
    check(`${where}: field settings`, 'Json<D.FieldConfig>', defaults);
    check(`${where}: field settings, custom`, settings, custom ?? {});
    check(`${where}: links`, 'Array<DataLink>', links ?? []);
    for (const target of targets) check(`${where}: query ${target.refId}`, 'PrometheusQuery', target);
    for (const { matcher, properties } of fieldConfig.overrides) {
      const of = `${where}: override of ${matcher.options}`;
      check(of, 'Json<D.MatcherConfig>', matcher);
      for (const { id, value, ...more } of properties) {
        check(of, 'Record<string, never>', more);
        if (id === 'links') check(of, 'Array<DataLink>', value);
        else if (id.startsWith('custom.')) check(of, settings, { [id.slice('custom.'.length)]: value });
        else check(of, 'Json<D.FieldConfig>', { [id]: value });
      }
    }
  }
}

writeFileSync(join(folder, 'dashboards.ts'), head + parts.map((part) => part.text).join('\n') + '\n');
const options = { noEmit: true, strict: true, skipLibCheck: true, target: 'es2022', module: 'es2022', moduleResolution: 'node', types: [] };
writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['dashboards.ts'] }));
const compiler = spawnSync(process.execPath, [join(folder, 'node_modules/typescript/bin/tsc'), '-p', folder, '--pretty', 'false'], { encoding: 'utf8' });
const first = head.split('\n').length;
for (const line of (compiler.stdout + compiler.stderr).split('\n').filter(Boolean)) {
  const found = /dashboards\.ts\((\d+),\d+\): (.*)/.exec(line);
  const part = found && parts[Number(found[1]) - first];
  problems.push(part ? `${part.where}: ${found[2]}` : line);
}
if (compiler.status !== 0 && problems.length === 0) problems.push(`the compiler ended with ${compiler.status}`);

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`${files.length} dashboards in ${parts.length} parts fit Grafana's schema`);
