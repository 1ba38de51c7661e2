{
  _config+:: {
    // Selector that is added to every query, such as 'job="redis-scripts"'. All rules keep the labels of the scrape, so a selector
    // may have any of them.
    redisScriptSelector: '',

    // With several clusters in one Prometheus, Mimir or Thanos: true adds clusterLabel to what identifies a server, and a variable
    // to the dashboards.
    showMultiCluster: false,
    clusterLabel: 'cluster',

    // Address of the runbooks; each alert adds #NAME-OF-THE-ALERT in lower case.
    runbookURL: 'https://github.com/redis-script-exporter/redis-script-exporter/blob/main/docs/runbooks.md',

    // What is slow is set by the exporter's flags --slow.warning and --slow.critical.
    // RedisScriptTargetDown
    targetDownFor: '30s',
    // RedisSlowlogBlind and RedisScriptTimeLimitUnsafe
    settingFor: '2m',
    // RedisScriptTimeLimitUnsafe: largest lua-time-limit or busy-reply-threshold, in seconds
    timeLimitSeconds: 5,
    // RedisScriptCacheGrowing: new scripts within 30 minutes, and cached scripts
    cacheGrowth: 50,
    cacheSize: 500,
    // RedisScriptExporterStale: time since the last poll of a server
    staleSeconds: 120,
    // RedisScriptExporterReloadFailed, RedisScriptExporterDiscoveryDown and RedisScriptExporterStateUnsaved
    exporterFor: '5m',
    // RedisScriptCreeping: days until calls of a script reach --slow.warning
    creepingDays: 7,

    dashboardTitlePrefix: '',
    dashboardTags: ['redis', 'valkey', 'redis-script-exporter'],
    dashboardRefresh: '10s',
  },
}
