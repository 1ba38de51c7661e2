//! States of a target.

use super::episode::Episode;
use super::outage::{Outage, OutageReason};
use crate::parse::BusyKind;

/// State of a target, without what it carries; the value of the label `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StateKind {
    /// The server answers.
    Ok,
    /// The server accepts connections and answers nothing.
    Blocked,
    /// The server answers BUSY.
    Busy(BusyKind),
    /// The server answered BUSY in this blockage, and answers nothing since.
    BusySilent,
    /// The server loads its data set.
    Loading,
    /// The server rejects the exporter's credentials.
    Unauthorized,
    /// The server can't be reached.
    Unreachable,
}

impl StateKind {
    /// All kinds.
    pub(crate) const ALL: [Self; 9] = [
        Self::Ok,
        Self::Blocked,
        Self::Busy(BusyKind::Script),
        Self::Busy(BusyKind::Function),
        Self::Busy(BusyKind::Module),
        Self::BusySilent,
        Self::Loading,
        Self::Unauthorized,
        Self::Unreachable,
    ];

    /// Value of the label `state`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Blocked => "blocked",
            Self::Busy(BusyKind::Script) => "busy_script",
            Self::Busy(BusyKind::Function) => "busy_function",
            Self::Busy(BusyKind::Module) => "busy_module",
            Self::BusySilent => "busy_silent",
            Self::Loading => "loading",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
        }
    }

    /// True if the server is there and accepts the exporter, blocked and BUSY included.
    #[must_use]
    pub(crate) const fn is_up(self) -> bool {
        !matches!(self, Self::Unauthorized | Self::Unreachable)
    }
}

/// State of a target, with what is known only in that state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// The target was never tried.
    #[default]
    Untried,
    /// The server answers.
    Ok,
    /// The server accepts connections and answers nothing.
    Blocked(Episode),
    /// The server answers BUSY.
    Busy(BusyKind, Episode),
    /// The server answered BUSY in this blockage, and answers nothing since: either the same call executes one long command,
    /// or it has ended and another one runs. The kind is that of the last BUSY reply.
    BusySilent(BusyKind, Episode),
    /// The server loads its data set.
    Loading,
    /// The server rejects the exporter's credentials.
    Unauthorized {
        /// Reason, and what to do.
        detail: String,
    },
    /// The server can't be reached.
    Unreachable(Outage),
}

impl State {
    /// Kind of the state. A target that was never tried counts as unreachable.
    #[must_use]
    pub(crate) const fn kind(&self) -> StateKind {
        match self {
            Self::Ok => StateKind::Ok,
            Self::Blocked(_) => StateKind::Blocked,
            Self::Busy(kind, _) => StateKind::Busy(*kind),
            Self::BusySilent(..) => StateKind::BusySilent,
            Self::Loading => StateKind::Loading,
            Self::Unauthorized { .. } => StateKind::Unauthorized,
            Self::Untried | Self::Unreachable(_) => StateKind::Unreachable,
        }
    }

    /// True if the target has been tried, with whatever result.
    #[must_use]
    pub(crate) const fn is_tried(&self) -> bool {
        !matches!(self, Self::Untried)
    }

    /// Reason for the state, in those that have one.
    #[must_use]
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::Unauthorized { detail } | Self::Unreachable(Outage { detail, .. }) => Some(detail),
            _ => None,
        }
    }

    /// Reason for which the server can't be reached, in that state.
    #[must_use]
    pub(super) const fn outage_reason(&self) -> Option<OutageReason> {
        match self {
            Self::Unreachable(outage) => Some(outage.reason),
            _ => None,
        }
    }

    /// The blockage that is not over.
    pub(super) const fn episode(&self) -> Option<&Episode> {
        match self {
            Self::Blocked(episode) | Self::Busy(_, episode) | Self::BusySilent(_, episode) => Some(episode),
            _ => None,
        }
    }

    /// The blockage that is not over.
    pub(super) const fn episode_mut(&mut self) -> Option<&mut Episode> {
        match self {
            Self::Blocked(episode) | Self::Busy(_, episode) | Self::BusySilent(_, episode) => Some(episode),
            _ => None,
        }
    }

    /// Kind of the last BUSY reply of the blockage.
    pub(super) const fn busy_kind(&self) -> Option<BusyKind> {
        match self {
            Self::Busy(kind, _) | Self::BusySilent(kind, _) => Some(*kind),
            _ => None,
        }
    }
}
