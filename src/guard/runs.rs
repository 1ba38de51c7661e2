//! Runs of scripts and functions, as BUSY replies prove them.
//!
//! A BUSY reply to a request sent at `sent` and read at `read` proves that at some moment in between, something had been running
//! for at least the server's time limit. So a run started no later than `read` minus the limit. Another run fits between two
//! BUSY replies only if the first run was BUSY a full time limit before the second reply was read. If so, a new run is assumed,
//! and the guard counts from its latest possible start.

use std::time::Duration;

use crate::clock::Mono;
use crate::parse::{BusyKind, RunningFunction};
use crate::script::Identity;

/// A run that was BUSY at the last reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Number that no other run of the target has.
    pub(super) id: u64,
    pub(super) kind: BusyKind,
    /// Latest time at which it can have begun.
    pub(super) began: Mono,
    /// Earliest time at which it can have begun: another run was BUSY, or the server free.
    earliest: Mono,
    /// Earliest time at which the server can have made the last BUSY reply: that at which the request was sent, or that at which
    /// a run that began when the server was free last passed the time limit.
    pub(super) last_busy: Mono,
    /// Script or function, if FUNCTION STATS or the server's log named it.
    pub(super) script: Option<Identity>,
    /// True if a line of the server's log named it. Each run has one line.
    has_line: bool,
}

/// Script or function that FUNCTION STATS or a line of the log named, and its run time by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: BusyKind,
    pub(crate) script: Identity,
    pub(crate) running_for: Duration,
}

/// Reply that says what runs: BUSY to an ordinary request, or FUNCTION STATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confirmation {
    pub(crate) kind: BusyKind,
    /// Name and run time, from FUNCTION STATS.
    pub(crate) named: Option<Named>,
    /// Time at which the request was sent.
    pub(crate) sent: Mono,
}

impl Confirmation {
    /// Returns what a reply to FUNCTION STATS says; the request was sent at `sent`.
    #[must_use]
    pub(crate) fn of_function(function: &RunningFunction, sent: Mono) -> Self {
        let named = function.running_for.map(|running_for| Named {
            kind: BusyKind::Function,
            script: Identity::from_function(&function.name),
            running_for,
        });
        Self { kind: BusyKind::Function, named, sent }
    }
}

/// Line of the server's log that names a script or function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedLine {
    pub(crate) named: Named,
    /// Earliest time at which the server can have written it.
    pub(crate) written_after: Mono,
    /// Time at which it was read.
    pub(crate) read: Mono,
}

impl NamedLine {
    /// Latest time at which the run can have begun.
    fn began(&self) -> Mono {
        self.read - self.named.running_for
    }
}

/// The current run, if there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    /// Number of runs so far.
    count: u64,
    current: Option<Run>,
    /// Time at which the last request that a free server answered was sent.
    last_free: Mono,
    /// Line of the log that came before the first BUSY reply.
    early: Option<NamedLine>,
}

/// Maximum error of a run time that a server reports: whole milliseconds of a clock that may run a little slower than this
/// machine's.
fn inexact(running_for: Duration) -> Duration {
    Duration::from_millis(1).saturating_add(running_for / 1000)
}

impl Runs {
    /// Current run.
    pub(super) fn current(&self) -> Option<&Run> {
        self.current.as_ref()
    }

    /// Records a BUSY reply or a reply to FUNCTION STATS, read at `read`, of a server with this time limit.
    pub(super) fn busy(&mut self, confirmation: Confirmation, read: Mono, limit: Duration) {
        let Confirmation { kind, named, sent } = confirmation;
        let continues =
            self.current.as_ref().is_some_and(|run| run.kind == kind && read.since(run.last_busy) < limit);
        if !continues {
            self.begin(kind, sent, read - limit);
        }
        if let Some(run) = &mut self.current {
            // The first BUSY reply may be to a request that waited for the whole time limit: what runs began when the server was
            // free, or later.
            let passed = Some(self.last_free + limit).filter(|at| *at <= read && sent >= self.last_free);
            run.last_busy = run.last_busy.max(sent).max(passed.unwrap_or(sent));
        }
        if let Some(Named { script, running_for, .. }) = named {
            // The server measured it between the request and the reply.
            let latest = read - running_for;
            let earliest = sent - running_for - inexact(running_for);
            let is_another = self.current.as_ref().is_some_and(|run| {
                earliest > run.began || run.script.as_ref().is_some_and(|known| *known != script)
            });
            if is_another {
                self.begin(kind, sent, latest);
            }
            if let Some(run) = &mut self.current {
                run.began = run.began.min(latest);
                run.script = Some(script);
            }
        }
        if let Some(line) = self.early.take() {
            self.logged(line);
        }
    }

    /// Begins a run that was BUSY when the reply to a request sent at `sent` was read, and began at `began` or before.
    fn begin(&mut self, kind: BusyKind, sent: Mono, began: Mono) {
        self.count = self.count.saturating_add(1);
        let before = self.current.as_ref().map_or(self.last_free, |run| run.last_busy);
        let earliest = before.max(self.last_free);
        self.current = Some(Run {
            id: self.count,
            kind,
            began: began.max(earliest),
            earliest,
            last_busy: sent,
            script: None,
            has_line: false,
        });
    }

    /// Records a line of the server's log.
    pub(super) fn logged(&mut self, line: NamedLine) {
        let (kind, began) = (line.named.kind, line.began());
        if began < self.last_free {
            return;
        }
        let Some(run) = &mut self.current else {
            self.early = Some(line);
            return;
        };
        if kind != run.kind {
            // About the next run, whose BUSY reply is still to come, or about an earlier one.
            if began >= run.last_busy {
                self.early = Some(line);
            }
            return;
        }
        // It may be about an earlier run.
        if began < run.earliest || line.written_after < run.began {
            return;
        }
        if run.has_line || run.script.as_ref().is_some_and(|known| *known != line.named.script) {
            // Another run of which no BUSY reply was read yet: it is BUSY, as the line says.
            self.begin(kind, line.written_after, began);
        } else if line.read.since(run.last_busy) + inexact(line.named.running_for) >= line.named.running_for {
            // It may be about a later run.
            run.began = run.began.max(began);
        }
        if let Some(run) = &mut self.current {
            // Replies to requests that waited for the whole time limit do not show that no other run followed; the line does.
            run.last_busy = run.last_busy.max(line.written_after);
            run.script = Some(line.named.script);
            run.has_line = true;
        }
    }

    /// Ends the current run: the server was free after a request was sent at `sent`, or can't be reached.
    pub(super) fn end(&mut self, sent: Mono) {
        self.current = None;
        self.last_free = self.last_free.max(sent);
        self.early.take_if(|line| line.began() < sent);
    }
}
