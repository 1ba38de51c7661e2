//! Runs of scripts and functions, inferred from BUSY replies.
//!
//! A BUSY reply to a request sent at `sent` and read at `read` proves that, at some time in between, a run was at least as old as
//! the server's time limit. It therefore started no later than `read` minus the limit. Another run can have started between two
//! BUSY replies only if a full time limit elapsed between the last time at which the first run was known to be BUSY and the
//! reading of the second reply. In that case a new run is assumed, and the guard counts from its latest possible start.

use std::time::Duration;

use crate::clock::Mono;
use crate::parse::{BusyKind, RunningFunction};
use crate::script::Identity;

/// Run that was BUSY at the last reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Number that is unique among the runs of the target.
    pub(super) id: u64,
    pub(super) kind: BusyKind,
    /// Latest possible start.
    pub(super) began: Mono,
    /// Earliest possible start: the last time at which another run was BUSY or the server was free.
    earliest: Mono,
    /// Earliest time at which the server can have sent the last BUSY reply: when the request was sent or, if later, when a run
    /// that began as soon as the server was last free exceeded the time limit.
    pub(super) last_busy: Mono,
    /// Script or function, if named by FUNCTION STATS or the server's log.
    pub(super) script: Option<Identity>,
    /// True if a line of the server's log named the run. The server writes one line per run.
    has_line: bool,
}

/// Script or function named by FUNCTION STATS or by a log line, and its run time at that point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: BusyKind,
    pub(crate) script: Identity,
    pub(crate) running_for: Duration,
}

/// Reply that shows what is running: BUSY to an ordinary request, or the reply to FUNCTION STATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confirmation {
    pub(crate) kind: BusyKind,
    /// Name and run time, from FUNCTION STATS.
    pub(crate) named: Option<Named>,
    /// Time at which the request was sent.
    pub(crate) sent: Mono,
}

impl Confirmation {
    /// Creates a confirmation from a reply to FUNCTION STATS. The request was sent at `sent`.
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
    /// Earliest time at which the server can have written the line.
    pub(crate) written_after: Mono,
    /// Time at which the line was read.
    pub(crate) read: Mono,
}

impl NamedLine {
    /// Latest possible start of the run.
    fn began(&self) -> Mono {
        self.read - self.named.running_for
    }
}

/// Current run, if any.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    /// Number of runs so far.
    count: u64,
    current: Option<Run>,
    /// Time at which the last request answered by a free server was sent.
    last_free: Mono,
    /// Log line that was read before the first BUSY reply of its run.
    early: Option<NamedLine>,
}

/// Maximum error of a run time reported by a server. It is measured in whole milliseconds, by a clock that may run slightly
/// slower than this machine's.
fn inexact(running_for: Duration) -> Duration {
    Duration::from_millis(1).saturating_add(running_for / 1000)
}

impl Runs {
    /// Current run.
    pub(super) fn current(&self) -> Option<&Run> {
        self.current.as_ref()
    }

    /// Records a BUSY reply or a reply to FUNCTION STATS. It was read at `read`; `limit` is the server's time limit.
    pub(super) fn busy(&mut self, confirmation: Confirmation, read: Mono, limit: Duration) {
        let Confirmation { kind, named, sent } = confirmation;
        let continues =
            self.current.as_ref().is_some_and(|run| run.kind == kind && read.since(run.last_busy) < limit);
        if !continues {
            self.begin(kind, sent, read - limit);
        }
        if let Some(run) = &mut self.current {
            // The request for the first BUSY reply may have waited for the whole time limit. The run began no earlier than the
            // server was last free, so it cannot have been BUSY until a full time limit after that.
            let passed = Some(self.last_free + limit).filter(|at| *at <= read && sent >= self.last_free);
            run.last_busy = run.last_busy.max(sent).max(passed.unwrap_or(sent));
        }
        if let Some(Named { script, running_for, .. }) = named {
            // The server measured the run time between the request and the reply.
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

    /// Starts a new run, which began no later than `began`. The request with the BUSY reply was sent at `sent`.
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
            // The line belongs to the next run, which has had no BUSY reply yet, or to an earlier one.
            if began >= run.last_busy {
                self.early = Some(line);
            }
            return;
        }
        // The line may belong to an earlier run.
        if began < run.earliest || line.written_after < run.began {
            return;
        }
        if run.has_line || run.script.as_ref().is_some_and(|known| *known != line.named.script) {
            // The line belongs to another run, without a BUSY reply so far. The line itself proves that it is BUSY.
            self.begin(kind, line.written_after, began);
        } else if line.read.since(run.last_busy) + inexact(line.named.running_for) >= line.named.running_for {
            // The line may belong to a later run.
            run.began = run.began.max(began);
        }
        if let Some(run) = &mut self.current {
            // Replies to requests that waited for the whole time limit do not rule out that another run followed. The line does.
            run.last_busy = run.last_busy.max(line.written_after);
            run.script = Some(line.named.script);
            run.has_line = true;
        }
    }

    /// Ends the current run: the server was free after a request was sent at `sent`, or is unreachable.
    pub(super) fn end(&mut self, sent: Mono) {
        self.current = None;
        self.last_free = self.last_free.max(sent);
        self.early.take_if(|line| line.began() < sent);
    }
}
