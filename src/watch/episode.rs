//! A blockage in progress.

use std::time::Duration;

use super::running_script::Running;
use crate::clock::Mono;
use crate::parse::BusyKind;

/// A blockage in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Episode {
    /// Best known start.
    pub(super) began: Mono,
    /// Time at which the exporter noticed the blockage.
    pub(super) noticed: Mono,
    /// True if it was split from another episode, which ended at `began`.
    pub(super) follows: bool,
    /// Evidence from BUSY replies; `Some` exactly in the states `Busy` and `BusySilent`.
    pub(super) evidence: Option<Evidence>,
    /// Running script or function, if it was named.
    pub(super) running: Option<Running>,
    /// First silence after BUSY in which another call may have started, if it is still unknown which of the two calls is running.
    pub(super) gap: Option<Gap>,
    /// Time of an ordinary reply after which the server may still be blocked. If the next reply is ordinary too, this is the end.
    pub(super) answered: Option<Mono>,
}

/// A silence after a BUSY reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Last time at which the earlier call was known to be running.
    pub(super) still_ran: Mono,
    /// Time at which the unanswered request was sent; some call was running from then on.
    pub(super) unanswered: Mono,
}

/// Evidence from BUSY replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Time at which the last request answered BUSY was sent.
    pub(super) last_sent: Mono,
    /// Reply giving the tightest bound on the start time.
    pub(super) proof: Proof,
}

/// A reply proving that a call is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    /// Time at which the request was sent. The call was running at some time between this and `read`.
    pub(super) asked: Mono,
    /// Time at which the reply was read.
    pub(super) read: Mono,
    /// Latest time at which the call can have started.
    pub(super) began: Mono,
}

impl Episode {
    /// Creates an episode that began at `began` and was noticed at `noticed`.
    pub(super) const fn new(began: Mono, noticed: Mono) -> Self {
        Self { began, noticed, follows: false, evidence: None, running: None, gap: None, answered: None }
    }

    /// Records a BUSY reply, read at `read`, to a request sent at `sent`.
    pub(super) fn note_busy(&mut self, sent: Mono, read: Mono) {
        let first = Evidence { last_sent: sent, proof: Proof { asked: sent, read, began: read } };
        self.evidence.get_or_insert(first).last_sent = sent;
    }

    /// Last time at which the call behind the BUSY replies was known to be running: when the last request answered BUSY was
    /// sent or, if later, when the call reached the time limit, because no BUSY reply is sent before that.
    pub(super) fn still_ran(&self, time_limit: Option<Duration>) -> Mono {
        self.evidence.map_or(self.began, |Evidence { last_sent, proof }| {
            last_sent.max(time_limit.map_or(last_sent, |limit| (self.began + limit).min(proof.read)))
        })
    }

    /// Kind of the named script or function.
    pub(super) fn named_kind(&self) -> Option<BusyKind> {
        self.running.as_ref().map(|running| running.running_script.kind)
    }

    /// Earliest possible end of the episode: the time at which the last request answered BUSY was sent or, without BUSY
    /// replies, the time at which the episode was noticed.
    pub(super) fn proved_until(&self) -> Mono {
        self.evidence.map_or(self.noticed, |evidence| evidence.last_sent)
    }

    /// True if a call that started between these times is a different run from the one in `proof`.
    pub(super) fn is_different_run(&self, earliest: Mono, latest: Mono) -> bool {
        self.evidence.is_some_and(|evidence| earliest > evidence.proof.began && latest > evidence.proof.asked)
    }

    /// True if a call that started at an unknown time no later than `latest` is a different run from the one in `proof`.
    pub(super) fn is_certainly_different_run(&self, latest: Mono) -> bool {
        self.evidence.is_some_and(|evidence| latest > evidence.proof.read)
    }
}
