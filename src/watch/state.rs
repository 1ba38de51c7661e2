//! States of a target.

use super::episode::Episode;
use super::outage::{Outage, OutageReason};
use crate::parse::BusyKind;

/// State of a target without its data; the value of the label `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StateKind {
    /// The server answers.
    Ok,
    /// The server accepts connections but answers nothing.
    Blocked,
    /// The server answers BUSY.
    Busy(BusyKind),
    /// The server answered BUSY in this blockage and has answered nothing since.
    BusySilent,
    /// The server is loading its data set.
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

    /// True if the server is reachable and accepts the exporter's credentials, even if it is blocked or BUSY.
    #[must_use]
    pub(crate) const fn is_up(self) -> bool {
        !matches!(self, Self::Unauthorized | Self::Unreachable)
    }
}

/// State of a target, with the data of that state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// The target has not been tried.
    #[default]
    Untried,
    /// The server answers.
    Ok,
    /// The server accepts connections but answers nothing.
    Blocked(Episode),
    /// The server answers BUSY.
    Busy(BusyKind, Episode),
    /// The server answered BUSY in this blockage and has answered nothing since: either the same call is executing one long
    /// command, or it has ended and another one is running. The kind is that of the last BUSY reply.
    BusySilent(BusyKind, Episode),
    /// The server is loading its data set.
    Loading,
    /// The server rejects the exporter's credentials.
    Unauthorized {
        /// Reason and remedy.
        detail: String,
    },
    /// The server can't be reached.
    Unreachable(Outage),
}

impl State {
    /// Kind of the state. A target that has not been tried counts as unreachable.
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

    /// True if the target has been tried, with any result.
    #[must_use]
    pub(crate) const fn is_tried(&self) -> bool {
        !matches!(self, Self::Untried)
    }

    /// Reason for the state, if it has one.
    #[must_use]
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::Unauthorized { detail } | Self::Unreachable(Outage { detail, .. }) => Some(detail),
            _ => None,
        }
    }

    /// Reason the server can't be reached, in the state `Unreachable`.
    #[must_use]
    pub(super) const fn outage_reason(&self) -> Option<OutageReason> {
        match self {
            Self::Unreachable(outage) => Some(outage.reason),
            _ => None,
        }
    }

    /// The blockage in progress.
    pub(super) const fn episode(&self) -> Option<&Episode> {
        match self {
            Self::Blocked(episode) | Self::Busy(_, episode) | Self::BusySilent(_, episode) => Some(episode),
            _ => None,
        }
    }

    /// The blockage in progress.
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
