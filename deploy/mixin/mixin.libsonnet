// Alerts, recording rules and dashboards of redis-script-exporter with settings; see README.md.
//
// The files in templates/ are generated from alerts/ and dashboards/ of the repository by `scripts/check-deploy.sh --write`.
// Placeholders such as <<first>> stand where settings go.
local templates = {
  rules: { 'redis-script.rules.yml': importstr 'templates/redis-script.rules.yml' },
  dashboards: {
    'redis-script-detail.json': importstr 'templates/redis-script-detail.json',
    'redis-scripts-overview.json': importstr 'templates/redis-scripts-overview.json',
  },
};

// Content of a string literal of JSON, which is one of Go too.
local escape(text) =
  local quoted = std.escapeStringJson(text);
  std.substr(quoted, 1, std.length(quoted) - 2);

// '30s' as '30 s', '5m' as '5 minutes'.
local inWords(duration) =
  local last = std.length(duration) - 1;
  local unit = duration[last];
  std.substr(duration, 0, last) + std.get({ s: ' s', m: ' minutes' }, unit, ' ' + unit);

local replace(text, values) =
  std.foldl(function(sum, name) std.strReplace(sum, '<<' + name + '>>', values[name]), std.objectFields(values), text);

local rulesValues(config) =
  local selector = config.redisScriptSelector;
  local cluster = config.showMultiCluster;
  {
    only: if selector == '' then '' else '{' + selector + '}',
    first: if selector == '' then '' else selector + ',',
    // In the first argument of printf.
    format: if selector == '' then '' else std.strReplace(escape(selector), '%', '%%') + ',',
    clusterFormat: if cluster then config.clusterLabel + '=%q,' else '',
    clusterArgument: if cluster then '$labels.%s ' % config.clusterLabel else '',
    labels: if cluster then config.clusterLabel + ', ' else '',
    runbooks: config.runbookURL,
    targetDownForText: inWords(config.targetDownFor),
    exporterForText: inWords(config.exporterFor),
    timeLimitMilliseconds: std.toString(config.timeLimitSeconds * 1000),
  } + {
    [name]: std.toString(config[name])
    for name in [
      'targetDownFor',
      'settingFor',
      'timeLimitSeconds',
      'cacheGrowth',
      'cacheSize',
      'staleSeconds',
      'exporterFor',
      'creepingDays',
    ]
  };

local clusterVariable(config) = {
  name: 'cluster',
  label: 'Cluster',
  description: 'Label ' + config.clusterLabel,
  type: 'query',
  datasource: { type: 'prometheus', uid: '${datasource}' },
  definition: self.query.query,
  query: {
    query: 'label_values(redis_script_target_up%s, %s)' % [
      if config.redisScriptSelector == '' then '' else '{' + config.redisScriptSelector + '}',
      config.clusterLabel,
    ],
    refId: 'variable-cluster',
    qryType: 1,
  },
  refresh: 2,
  sort: 1,
  regex: '',
  hide: 0,
  skipUrlSync: false,
  options: [],
  multi: true,
  includeAll: true,
  allValue: '.+',
  current: { text: ['All'], value: ['$__all'], selected: true },
};

local dashboardValues(config) =
  local cluster = config.showMultiCluster;
  local selectors =
    (if config.redisScriptSelector == '' then [] else [config.redisScriptSelector])
    + (if cluster then ['%s=~"$cluster"' % config.clusterLabel] else []);
  local selector = std.join(',', selectors);
  {
    only: if config.redisScriptSelector == '' && !cluster then '' else escape('{' + selector + '}'),
    first: if selector == '' then '' else escape(selector + ','),
    labels: if cluster then escape(config.clusterLabel + ', ') else '',
    runbooks: escape(config.runbookURL),
    clusterLink: if cluster then 'var-cluster=${__data.fields.%s:percentencode}&' % config.clusterLabel else '',
    clusterColumn: if cluster then '"%s":"Cluster",' % escape(config.clusterLabel) else '',
    clusterVariable: if cluster then std.manifestJsonEx(clusterVariable(config), '  ') + ',\n' else '',
    titlePrefix: escape(config.dashboardTitlePrefix),
    tags: std.join(',\n    ', [std.escapeStringJson(tag) for tag in config.dashboardTags]),
    refresh: escape(config.dashboardRefresh),
  };

local mapStrings(value, f) =
  if std.isString(value) then f(value)
  else if std.isArray(value) then [mapStrings(one, f) for one in value]
  else if std.isObject(value) then { [key]: mapStrings(value[key], f) for key in std.objectFields(value) }
  else value;

// Not every std.parseYaml resolves aliases. Rules of one alert share their annotations.
local resolve(group) = group {
  rules: [
    if std.objectHas(rule, 'annotations') && std.isString(rule.annotations) then
      rule {
        annotations: [
          other.annotations
          for other in group.rules
          if std.objectHas(other, 'alert') && other.alert == rule.alert && std.isObject(other.annotations)
        ][0],
      }
    else rule
    for rule in group.rules
  ],
};

local groups(config) =
  local values = rulesValues(config);
  // Settings are put into strings, so that no setting has to be valid YAML.
  mapStrings(
    [
      resolve(group)
      for name in std.objectFields(templates.rules)
      for group in std.parseYaml(templates.rules[name]).groups
    ],
    function(text) replace(text, values)
  );

local hasAlert(group) = std.length([rule for rule in group.rules if std.objectHas(rule, 'alert')]) > 0;

(import 'config.libsonnet') + {
  // Recording rules that alerts of the same evaluation read stand in the group of these alerts, before them.
  prometheusAlerts+:: {
    groups+: [group for group in groups($._config) if hasAlert(group)],
  },

  prometheusRules+:: {
    groups+: [group for group in groups($._config) if !hasAlert(group)],
  },

  grafanaDashboardFolder:: 'Redis scripts',

  grafanaDashboards+:: {
    [name]: std.parseJson(replace(templates.dashboards[name], dashboardValues($._config)))
    for name in std.objectFields(templates.dashboards)
  },

  // The same as files with comments, for `jsonnet --string --multi`. A selector must be valid inside of a plain scalar of YAML.
  files:: {
    [name]: replace(templates.rules[name], rulesValues($._config))
    for name in std.objectFields(templates.rules)
  } + {
    [name]: replace(templates.dashboards[name], dashboardValues($._config))
    for name in std.objectFields(templates.dashboards)
  },
}
