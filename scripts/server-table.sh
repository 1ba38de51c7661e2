#!/usr/bin/env bash
# Generates docs/servers.md from the output of the integration tests on standard input:
#   SERVERS=all cargo test --test integration 2>&1 | scripts/server-table.sh > docs/servers.md
set -euo pipefail
cat <<'TEXT'
# Servers that the tests run on

Number of integration tests that passed on each server, and the number that failed, if any. `scripts/server-table.sh` makes this page from the output of
`SERVERS=all cargo test --test integration`. Services that can't be run in a test are in [managed-services.md](managed-services.md).

| server | blockages | account | exactly once | names | check | cluster | Sentinel | all tests |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
TEXT
awk '
    BEGIN {
        servers = split("redis_62 redis_70 redis_74 redis_82 valkey_81 valkey_90 valkey_91", server, " ")
        split("Redis 6.2,Redis 7.0,Redis 7.4,Redis 8.2,Valkey 8.1,Valkey 9.0,Valkey 9.1", title, ",")
        groups = split("blockages account exactly_once names check cluster sentinel all", group, " ")
    }
    function count(group) {
        if ($4 == "ok") passed[group, parts[n]]++
        else failed[group, parts[n]]++
    }
    $1 == "test" && ($4 == "ok" || $4 == "FAILED") {
        n = split($2, parts, "::")
        count("all")
        if (parts[1] != "discover") count(parts[1])
        else if ($2 ~ /cluster/) count("cluster")
        else if ($2 ~ /entinel/) count("sentinel")
    }
    END {
        for (i = 1; i <= servers; i++) {
            line = "| " title[i] " |"
            for (j = 1; j <= groups; j++) {
                cell = passed[group[j], server[i]] + 0
                if (failed[group[j], server[i]]) cell = cell ", " failed[group[j], server[i]] " failed"
                line = line " " cell " |"
            }
            print line
        }
    }
'
