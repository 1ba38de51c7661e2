//! Facts reported by the server: INFO, CONFIG and the length of its slow log.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_offset::ClockOffset;
use crate::clock::Timestamps;
use crate::parse::{ErrorStats, Info, InfoField, Settings};

/// Latest facts reported by the server; each is missing until it is reported.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerFacts {
    /// Latest sections of INFO.
    info: Info,
    /// Error counts, excluding the BUSY errors caused by the exporter itself.
    errors: Option<ErrorStats>,
    /// `errorstat_BUSY` as last reported.
    busy_reported: u64,
    /// Number of the exporter's own BUSY errors at the time of that report.
    own_when_reported: u64,
    /// Number of the exporter's own BUSY errors not included in the server's count, because they precede a
    /// reset or came from another server.
    own_not_contained: u64,
    /// Settings from CONFIG GET.
    settings: Settings,
    /// Number of entries in the slow log, from SLOWLOG LEN.
    slowlog_length: Option<u64>,
    /// Difference between the server's clock and this machine's.
    clock_offset: ClockOffset,
}

/// Part of the facts that is kept across restarts of the exporter, to separate the exporter's own BUSY errors from those of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedServer {
    run_id: Option<String>,
    commands_processed: Option<u64>,
    #[serde(rename = "busy_told")]
    busy_reported: u64,
    #[serde(rename = "own_when_told")]
    own_when_reported: u64,
    own_not_contained: u64,
}

impl ServerFacts {
    /// Returns the part to keep across restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self) -> SavedServer {
        SavedServer {
            run_id: self.info.run_id.clone(),
            commands_processed: self.info.numbers.get(&InfoField::CommandsProcessed).copied(),
            busy_reported: self.busy_reported,
            own_when_reported: self.own_when_reported,
            own_not_contained: self.own_not_contained,
        }
    }

    /// Restores the facts saved by a previous process.
    #[must_use]
    pub(crate) fn restored(saved: SavedServer) -> Self {
        let mut info = Info { run_id: saved.run_id, ..Info::default() };
        info.numbers.extend(saved.commands_processed.map(|count| (InfoField::CommandsProcessed, count)));
        Self {
            info,
            busy_reported: saved.busy_reported,
            own_when_reported: saved.own_when_reported,
            own_not_contained: saved.own_not_contained,
            ..Self::default()
        }
    }

    /// Latest sections of INFO.
    #[must_use]
    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// Error counts, excluding the BUSY errors caused by the exporter itself.
    #[must_use]
    pub(crate) fn errors(&self) -> Option<ErrorStats> {
        self.errors
    }

    /// Settings from CONFIG GET.
    #[must_use]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Number of entries in the slow log.
    #[must_use]
    pub(crate) fn slowlog_length(&self) -> Option<u64> {
        self.slowlog_length
    }

    /// Seconds by which the server's clock is ahead of this machine's.
    pub(super) fn clock_ahead(&self) -> Option<f64> {
        self.clock_offset.seconds()
    }

    /// Converts a time by the server's clock (whole seconds since the Unix epoch) to this machine's clock, if the difference is
    /// known. Differences below 0.5 s are ignored, because INFO is read slightly after the server wrote it.
    #[must_use]
    pub(super) fn local_seconds(&self, theirs: u64) -> u64 {
        let ahead = self.clock_ahead().unwrap_or_default();
        let span = Duration::try_from_secs_f64(ahead.abs().round()).unwrap_or_default().as_secs();
        if ahead > 0.0 { theirs.saturating_sub(span) } else { theirs.saturating_add(span) }
    }

    /// Clears INFO, which can no longer be read.
    pub(super) fn forget_info(&mut self) {
        self.info = Info::default();
        self.errors = None;
    }

    /// Clears the settings, which can no longer be read.
    pub(super) fn forget_settings(&mut self) {
        self.settings = Settings::default();
    }

    /// Clears the length of the slow log, which can no longer be read.
    pub(super) fn forget_slowlog_length(&mut self) {
        self.slowlog_length = None;
    }

    /// Adds settings from CONFIG GET.
    pub(super) fn set_settings(&mut self, settings: Settings) {
        self.settings.merge(settings);
    }

    /// Sets the number of entries in the slow log.
    pub(super) fn set_slowlog_length(&mut self, entries: u64) {
        self.slowlog_length = Some(entries);
    }

    /// Adds INFO. `own_busy` is the number of BUSY errors that the exporter has caused so far, `own_busy_elsewhere` the number
    /// it had caused before the current connection.
    pub(super) fn set_info(&mut self, info: Info, own_busy: u64, own_busy_elsewhere: u64, now: Timestamps) {
        let known = info.run_id.is_some() && self.info.run_id.is_some();
        if known && info.run_id != self.info.run_id {
            // Another server answers; facts about the previous one no longer apply.
            *self = Self { own_not_contained: own_busy_elsewhere, ..Self::default() };
        }
        if let Some(errors) = info.errors {
            if self.was_reset(&info, errors) {
                self.own_not_contained = self.own_when_reported;
            }
            let own = own_busy.saturating_sub(self.own_not_contained);
            self.errors = Some(ErrorStats { busy: errors.busy.saturating_sub(own), ..errors });
            (self.busy_reported, self.own_when_reported) = (errors.busy, own_busy);
        }
        if info.error_counts_off == Some(true) {
            self.errors = None;
        }
        if let Some(theirs) = info.server_time {
            self.clock_offset.add(theirs, now.unix);
        }
        self.info.rejected.clear();
        self.info.merge(info);
    }

    /// True if the server's statistics were reset (CONFIG RESETSTAT) since they were last reported.
    fn was_reset(&self, info: &Info, errors: ErrorStats) -> bool {
        let commands = |info: &Info| info.numbers.get(&InfoField::CommandsProcessed).copied();
        errors.busy < self.busy_reported || commands(info) < commands(&self.info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Mono, Unix};

    const NOW: Timestamps = Timestamps {
        mono: Mono::from_epoch(Duration::from_secs(1)),
        unix: Unix::from_epoch(Duration::from_secs(1000)),
    };

    fn info(run_id: &str, commands: u64, busy: u64) -> Info {
        let text = format!(
            "# Server\r\nrun_id:{run_id}\r\n# Stats\r\ntotal_commands_processed:{commands}\r\n# Errorstats\r\nerrorstat_BUSY:count={busy}\r\n"
        );
        Info::parse(text.as_bytes())
    }

    fn busy(facts: &ServerFacts) -> u64 {
        facts.errors().unwrap().busy
    }

    #[test]
    fn the_exporters_own_busy_errors_are_subtracted() {
        let mut facts = ServerFacts::default();
        facts.set_info(info("a", 10, 5), 0, 0, NOW);
        assert_eq!(busy(&facts), 5);
        facts.set_info(info("a", 20, 15), 3, 0, NOW);
        assert_eq!(busy(&facts), 12);
    }

    #[test]
    fn a_reset_of_the_statistics_resets_the_exporters_share_too() {
        let mut facts = ServerFacts::default();
        facts.set_info(info("a", 100, 15), 3, 0, NOW);
        facts.set_info(info("a", 5, 0), 3, 0, NOW);
        assert_eq!(busy(&facts), 0);
        facts.set_info(info("a", 50, 9), 5, 0, NOW);
        assert_eq!(busy(&facts), 7);
    }

    #[test]
    fn a_restarted_server_counts_only_errors_on_the_new_connection() {
        let mut facts = ServerFacts::default();
        facts.set_info(info("a", 100, 15), 3, 0, NOW);
        facts.set_info(info("b", 200, 20), 8, 6, NOW);
        assert_eq!(busy(&facts), 18);
    }

    #[test]
    fn the_servers_clock_is_compared_with_this_machines() {
        let mut facts = ServerFacts::default();
        facts.set_info(Info::parse(b"server_time_usec:1060000000\r\n"), 0, 0, NOW);
        assert_eq!(facts.clock_ahead(), Some(60.0));
        facts.set_info(Info::parse(b"role:master\r\n"), 0, 0, NOW);
        assert_eq!(facts.clock_ahead(), Some(60.0));
    }

    #[test]
    fn server_times_are_converted_to_the_local_clock() {
        assert_eq!(ServerFacts::default().local_seconds(1500), 1500, "unknown until INFO has it");
        for (theirs_now, expected) in [(1600, 900), (400, 2100), (1000, 1500), (999, 1501)] {
            let mut facts = ServerFacts::default();
            let text = format!("server_time_usec:{theirs_now}400000\r\n");
            facts.set_info(Info::parse(text.as_bytes()), 0, 0, NOW);
            assert_eq!(facts.local_seconds(1500), expected, "{theirs_now}");
        }
        let mut behind = ServerFacts::default();
        behind.set_info(Info::parse(b"server_time_usec:400000000\r\n"), 0, 0, NOW);
        assert_eq!(behind.local_seconds(u64::MAX), u64::MAX);
    }
}
