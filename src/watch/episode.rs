//! A blockage in progress.

use std::time::Duration;

use super::running_script::Running;
use crate::clock::Mono;
use crate::parse::BusyKind;

/// A blockage in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Episode {
    /// Start, as far as known.
    pub(super) began: Mono,
    /// Time at which the exporter noticed it.
    pub(super) noticed: Mono,
    /// True if it was split from another episode, which ended at `began`.
    pub(super) follows: bool,
    /// Evidence from BUSY replies; present exactly in the states BUSY and BUSY, then silent.
    pub(super) evidence: Option<Evidence>,
    /// Script or function that runs, if it was named.
    pub(super) running: Option<Running>,
    /// First silence after BUSY in which another call may have followed the one that ran before; nothing has shown since which
    /// of the two runs.
    pub(super) gap: Option<Gap>,
    /// Time of an ordinary reply after which the server may still be blocked: the end, if the next reply is an ordinary one too.
    pub(super) answered: Option<Mono>,
}

/// A silence after a BUSY reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Time at which what ran before still ran.
    pub(super) still_ran: Mono,
    /// Time at which the request was sent that had no reply: something ran from then on.
    pub(super) unanswered: Mono,
}

/// Evidence from BUSY replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Time at which the last request was sent that was answered BUSY.
    pub(super) last_sent: Mono,
    /// Reply giving the tightest bound on the start time.
    pub(super) proof: Proof,
}

/// A reply that proves that something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    /// Time at which the request was sent. What runs ran at some time between this and `read`.
    pub(super) asked: Mono,
    /// Time at which the reply was read.
    pub(super) read: Mono,
    /// Latest time at which it can have started.
    pub(super) began: Mono,
}

impl Episode {
    /// An episode that began at `began` and was noticed at `noticed`.
    pub(super) const fn new(began: Mono, noticed: Mono) -> Self {
        Self { began, noticed, follows: false, evidence: None, running: None, gap: None, answered: None }
    }

    /// Notes a BUSY reply, read at `read`, to a request sent at `sent`.
    pub(super) fn note_busy(&mut self, sent: Mono, read: Mono) {
        let first = Evidence { last_sent: sent, proof: Proof { asked: sent, read, began: read } };
        self.evidence.get_or_insert(first).last_sent = sent;
    }

    /// Time at which what BUSY replies showed still ran: when the last request was sent that was answered BUSY, and for the time limit,
    /// as there is no such reply before.
    pub(super) fn still_ran(&self, time_limit: Option<Duration>) -> Mono {
        self.evidence.map_or(self.began, |Evidence { last_sent, proof }| {
            last_sent.max(time_limit.map_or(last_sent, |limit| (self.began + limit).min(proof.read)))
        })
    }

    /// Kind of what was named.
    pub(super) fn named_kind(&self) -> Option<BusyKind> {
        self.running.as_ref().map(|running| running.running_script.kind)
    }

    /// Time until which the episode lasted at least. BUSY proves it until the last such request was sent; without
    /// BUSY it is the time at which the episode was noticed.
    pub(super) fn proved_until(&self) -> Mono {
        self.evidence.map_or(self.noticed, |evidence| evidence.last_sent)
    }

    /// True if something that started between these times is a different run from the one in `proof`.
    pub(super) fn is_different_run(&self, earliest: Mono, latest: Mono) -> bool {
        self.evidence.is_some_and(|evidence| earliest > evidence.proof.began && latest > evidence.proof.asked)
    }

    /// True if something that started no later than `latest`, at an unknown time, is a different run from the one in `proof`.
    pub(super) fn is_certainly_different_run(&self, latest: Mono) -> bool {
        self.evidence.is_some_and(|evidence| latest > evidence.proof.read)
    }
}
