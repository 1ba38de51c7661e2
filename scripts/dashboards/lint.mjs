// Checks the dashboards with the rules of Grafana's dashboard-linter, as described in its documentation.
//
//   node lint.mjs DASHBOARD.json…
//
// Not included: target-promql-rule, which answers.mjs covers, and the rules about Loki.
import { readFileSync } from 'node:fs';

/** Intentional deviations. An unused exception is also an error. */
const exceptions = [
  {
    rule: 'target-rate-interval-rule',
    unless: ({ range, panel }) => range === '$__range' && ['stat', 'table'].includes(panel.type),
    reason: 'Tables and single numbers are about the whole time range.',
  },
  {
    rule: 'target-rate-interval-rule',
    unless: ({ range, panel }) => range === '$__range' && panel.type === 'state-timeline',
    reason: 'A server whose exporter is not scraped is known from the time range.',
  },
  {
    rule: 'target-rate-interval-rule',
    unless: ({ range, before }) => range === '$__range' && /redis_script_info\{[^}]*\}$/.test(before),
    reason: 'A chart has one name of a script for the whole time range.',
  },
  {
    rule: 'target-rate-interval-rule',
    unless: ({ range, panel }) => ['2d', '2h'].includes(range) && ['Days until --slow.warning', 'Growth'].includes(panel.title),
    reason: 'A trend of days needs days, whatever the time range is.',
  },
  {
    rule: 'target-counter-agg-rule',
    unless: ({ metric, expr, before }) => expr.includes(`unless resets(${metric}`) || before.endsWith('count_over_time('),
    reason: 'Numbers of events are exact: increase() extrapolates, and does not count the call with which the series of a script begins. The last value less the one at the beginning does; if the counter was reset, increase() is used.',
  },
  {
    rule: 'panel-units-rule',
    unless: ({ unit }) => /^suffix: \/(s|min)$/.test(unit),
    reason: 'Units of the list shorten rates to k and M, or are about requests; a suffix says what is counted per what time.',
  },
];

/** Grafana units used by these panels. */
const UNITS = ['bytes', 'none', 'percentunit', 's', 'short'];

/** Metrics in these PromQL expressions, with their selectors. */
const SELECTOR = /\b((?:redis_script|process)_\w+|up)\b(?:\{([^}]*)\})?/g;
const COUNTER = /_(total|bucket|count|sum)$/;

const problems = [];
const used = new Set();

/** Reports a deviation, unless an exception permits it. */
function report(rule, place, what, details) {
  const exception = exceptions.findIndex((one) => one.rule === rule && details && one.unless(details));
  if (exception >= 0) used.add(exception);
  else problems.push(`${place}: ${rule}: ${what}`);
}

for (const file of process.argv.slice(2)) {
  const dashboard = JSON.parse(readFileSync(file, 'utf8'));
  const name = dashboard.title;
  const variables = dashboard.templating.list;
  const check = (rule, what, holds) => {
    if (!holds) report(rule, name, what);
  };

  check('uneditable-dashboard-rule', 'is editable', dashboard.editable === false);
  const sources = variables.filter((one) => one.type === 'datasource');
  check('template-datasource-rule', 'wants one variable "datasource", labelled "Data source", for Prometheus',
    sources.length === 1 && sources[0].name === 'datasource' && sources[0].label === 'Data source' && sources[0].query === 'prometheus');
  for (const [variable, label] of [['job', 'Job'], ['instance', 'Instance']]) {
    const found = variables.find((one) => one.name === variable);
    check(`template-${variable}-rule`, `wants a variable "${variable}", labelled "${label}", with multi, allValue ".+" and a query of $datasource`,
      found && found.label === label && found.type === 'query' && found.multi && found.includeAll && found.allValue === '.+' && found.datasource.uid === '${datasource}');
  }
  for (const variable of variables.filter((one) => one.type === 'query')) {
    check('template-label-promql-rule', `variable ${variable.name} is no label_values(…)`, /^label_values\(\w+(\{.*\})?, \w+\)$/.test(variable.query.query));
    check('template-on-time-change-reload-rule', `variable ${variable.name} is not read again when the time range changes`, variable.refresh === 2);
  }

  for (const panel of dashboard.panels.filter((one) => one.type !== 'row')) {
    const place = `${name}: ${panel.title}`;
    if (!panel.title || !panel.description) report('panel-title-description-rule', place, 'wants a title and a description');
    if (panel.datasource?.uid !== '${datasource}') report('panel-datasource-rule', place, 'wants $datasource');
    const unit = panel.fieldConfig.defaults.unit;
    if (!UNITS.includes(unit)) report('panel-units-rule', place, `wants a unit of Grafana's list, and not ${unit}`, { unit });
    if (!panel.targets?.length) report('panel-no-targets-rule', place, 'wants a query');
    for (const { refId, expr } of panel.targets) {
      const query = `${place} ${refId}`;
      for (const { 1: range, index } of expr.matchAll(/\[([^\]]+)\]/g)) {
        if (range !== '$__rate_interval') report('target-rate-interval-rule', query, `looks over [${range}]`, { range, panel, before: expr.slice(0, index) });
      }
      for (const { 1: metric, 2: selector, index } of expr.matchAll(SELECTOR)) {
        for (const label of ['job', 'instance']) {
          if (!selector?.split(',').includes(`${label}=~"$${label}"`)) report(`target-${label}-rule`, query, `${metric} has no ${label}=~"$${label}"`);
        }
        if (selector && metric.startsWith('redis_script_') && !selector.includes('target=~"$target"') && !/_exporter_(build|config|state|discover|probed)/.test(metric)) {
          report('target-required-matchers-rule', query, `${metric} has no target=~"$target"`);
        }
        if (COUNTER.test(metric) && !/\b(rate|irate|increase)\($/.test(expr.slice(0, index))) report('target-counter-agg-rule', query, `${metric} is in no rate() or increase()`, { metric, expr, before: expr.slice(0, index) });
      }
    }
  }
}

exceptions.forEach((one, index) => {
  if (!used.has(index)) problems.push(`exception to ${one.rule} without a case: ${one.reason}`);
});
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`dashboard-linter's rules hold, with ${exceptions.length} exceptions`);
