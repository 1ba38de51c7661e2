//! Ended blockages: those waiting for the slow log, and the totals of the others.

use std::collections::VecDeque;
use std::time::Duration;

use super::attribution::{Attribution, EndedEpisode};
use super::cause::Cause;
use super::episode::Episode;
use super::event::Event;
use super::incidents::{Incident, IncidentKind, Incidents};
use super::running_script::Running;
use crate::clock::{Mono, Timestamps, Unix};
use crate::convert::micros;
use crate::parse::{BusyKind, Entry};
use crate::script::Identity;

/// Maximum number of blockages waiting for the slow log.
const MAX_UNATTRIBUTED: usize = 16;

/// Totals of the ended blockages of one cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CauseTotals {
    pub(crate) episodes: u64,
    /// Sum of their durations, µs.
    pub(crate) micros: u64,
}

/// The latest blockage that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastBlockage {
    /// Start by this machine's clock.
    pub(crate) began: Unix,
    pub(crate) blocked: Duration,
    pub(crate) cause: Cause,
    /// Script or function, if FUNCTION STATS, the log file or the slow log named it.
    pub(crate) script: Option<Identity>,
}

/// The latest blockage of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LatestOfCause {
    pub(crate) ended: Unix,
    pub(crate) blocked: Duration,
    /// True if only the slow log showed that it was separate from the previous blockage.
    pub(crate) is_undetected: bool,
}

/// Facts from the slow log about calls in ended blockages.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Attributed {
    /// Scripts named by SHA1, each with the entry that contains its truncated body.
    pub(crate) resolved: Vec<(Identity, Entry)>,
    /// Ids of the entries of calls that only the slow log distinguishes from the previous call.
    pub(crate) undetected: Vec<u64>,
}

/// An ended blockage waiting for the slow log.
#[derive(Debug, Clone)]
pub(super) struct Unattributed {
    began: Mono,
    /// Earliest possible end (`Episode::proved_until`).
    proved_until: Mono,
    pub(super) episode: EndedEpisode,
}

/// Ended blockages of a target.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Blockages waiting for the slow log, oldest first; at most [`MAX_UNATTRIBUTED`]. There are several if scripts run one
    /// after another: SLOWLOG GET is answered only after the last of them.
    pub(super) unattributed: VecDeque<Unattributed>,
    /// End of the latest blockage; the next one can't begin earlier.
    last_end: Mono,
    /// The latest blockage, with its cause.
    last: Option<LastBlockage>,
    /// Ended blockages and other incidents of the last 24 hours.
    pub(super) incidents: Incidents,
    /// Totals, in the order of [`Cause::ALL`].
    totals: [CauseTotals; Cause::ALL.len()],
    /// Latest blockage of each cause, in the order of [`Cause::ALL`].
    latest: [Option<LatestOfCause>; Cause::ALL.len()],
}

impl History {
    /// End of the latest blockage.
    pub(super) fn last_end(&self) -> Mono {
        self.last_end
    }

    /// The latest blockage that was attributed.
    pub(super) fn last(&self) -> Option<&LastBlockage> {
        self.last.as_ref()
    }

    /// Restores the incidents saved by a previous process, and the latest blockage among them.
    pub(super) fn restore(&mut self, saved: Vec<Incident>) {
        let last = saved.iter().rev().find_map(|incident| Some((incident, incident.kind.cause()?)));
        self.last = last.map(|(incident, cause)| LastBlockage {
            began: incident.began(),
            blocked: incident.lasted,
            cause,
            script: incident.script.clone(),
        });
        self.incidents.restore(saved);
    }

    /// Returns the blockages waiting for the slow log as incidents, oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Incident> {
        self.unattributed.iter().map(|Unattributed { episode, .. }| {
            let running = episode.running_script.as_ref().map(|(running, _)| running);
            let kind = episode.busy.or_else(|| running.map(|running| running.kind));
            let script = running.map(|running| running.script.clone());
            let incident = episode.incident(kind.map_or(IncidentKind::Unknown, Into::into), script);
            Incident { guard: self.incidents.actions_in(&incident), ..incident }
        })
    }

    /// Totals by cause; every cause is present.
    pub(super) fn totals(&self) -> impl Iterator<Item = (Cause, CauseTotals)> {
        Cause::ALL.into_iter().zip(self.totals)
    }

    /// Latest blockage of each cause that has occurred.
    pub(super) fn latest(&self) -> impl Iterator<Item = (Cause, LatestOfCause)> {
        let latest = Cause::ALL.into_iter().zip(self.latest);
        latest.filter_map(|(cause, latest)| Some((cause, latest?)))
    }

    /// Adds an episode that lasted until `end`. If too many are waiting, the oldest is attributed without the slow log.
    pub(super) fn push(
        &mut self,
        episode: Episode,
        busy: Option<BusyKind>,
        end: Mono,
        now: Timestamps,
        events: &mut Vec<Event>,
    ) {
        self.last_end = end;
        if self.unattributed.len() >= MAX_UNATTRIBUTED
            && let Some(oldest) = self.unattributed.pop_front()
        {
            self.attribute_one(oldest.episode, &[], None, events);
        }
        let began = episode.began;
        let proved_until = episode.proved_until().clamp(began, end);
        let ended = EndedEpisode {
            began: now.unix_of(began),
            blocked: end.since(began),
            busy,
            running_script: episode
                .running
                .map(|Running { running_script, began }| (running_script, now.unix_of(began))),
            gap: episode.gap.map(|gap| [gap.still_ran, gap.unanswered].map(|time| now.unix_of(time))),
        };
        self.unattributed.push_back(Unattributed { began, proved_until, episode: ended });
    }

    /// Attributes the waiting blockages using the slow log's new entries. `asked` is the time at which the slow log was
    /// requested; `None` if it can't be read.
    ///
    /// A server can process the request, run a script in the same iteration of its event loop, and only then send the reply. A
    /// blockage that ended after `asked` and is not explained by any entry therefore waits for the next reply.
    pub(super) fn attribute(
        &mut self,
        entries: &[Entry],
        clock_ahead: Option<f64>,
        asked: Option<Mono>,
        events: &mut Vec<Event>,
    ) -> Attributed {
        let mut attributed = Attributed::default();
        if self.unattributed.is_empty() {
            return attributed;
        }
        let mut unused = entries.to_vec();
        while let Some(oldest) = self.unattributed.pop_front() {
            let may_be_later = asked.is_some_and(|asked| oldest.began + oldest.episode.blocked > asked);
            if may_be_later && oldest.episode.attribute(&unused, clock_ahead).cause == Cause::Unknown {
                self.unattributed.push_front(oldest);
                break;
            }
            let (cause, more) = self.attribute_one(oldest.episode, entries, clock_ahead, events);
            unused.retain(|entry| cause != Some(entry.id));
            attributed.resolved.extend(more.resolved);
            attributed.undetected.extend(more.undetected);
        }
        attributed
    }

    /// Attributes a blockage. Also returns the id of the entry that explains it.
    fn attribute_one(
        &mut self,
        ended: EndedEpisode,
        entries: &[Entry],
        clock_ahead: Option<f64>,
        events: &mut Vec<Event>,
    ) -> (Option<u64>, Attributed) {
        let (first, followers) = ended.split_followers(entries, clock_ahead);
        let attribution = first.attribute(entries, clock_ahead);
        let cause = attribution.cause_entry.as_ref().map(|entry| entry.id);
        let mut attributed = Attributed::default();
        attributed.resolved.extend(self.count(&first, attribution, false, events));
        for (episode, entry) in followers {
            events.push(Event::BlockageBegan);
            let attribution = episode.attribute(std::slice::from_ref(entry), None);
            attributed.undetected.push(entry.id);
            self.count(&episode, attribution, true, events);
        }
        (cause, attributed)
    }

    /// Counts a blockage. If its script was named by SHA1, returns the script and the entry that contains its truncated body.
    fn count(
        &mut self,
        ended: &EndedEpisode,
        attribution: Attribution,
        is_undetected: bool,
        events: &mut Vec<Event>,
    ) -> Option<(Identity, Entry)> {
        let of_causes = self.totals.iter_mut().zip(&mut self.latest);
        for (cause, (totals, latest)) in Cause::ALL.into_iter().zip(of_causes) {
            if cause == attribution.cause {
                totals.episodes += 1;
                totals.micros = totals.micros.saturating_add(micros(ended.blocked));
                let (ended, blocked) = (ended.began + ended.blocked, ended.blocked);
                *latest = Some(LatestOfCause { ended, blocked, is_undetected });
            }
        }
        let named = attribution.running_script.as_ref().map(|running_script| running_script.script.clone());
        let called = attribution.cause_entry.as_ref().and_then(|entry| entry.call.as_ref());
        let script = named.or_else(|| called.map(|call| call.script.clone()));
        let entry = attribution.cause_entry.as_ref();
        self.incidents.push(Incident {
            client: entry.map(|entry| entry.client.clone()).unwrap_or_default(),
            client_name: entry.map(|entry| entry.client_name.clone()).unwrap_or_default(),
            ..ended.incident(attribution.cause.into(), script.clone())
        });
        self.last = Some(LastBlockage {
            began: ended.began,
            blocked: ended.blocked,
            cause: attribution.cause,
            script,
        });
        events.push(Event::BlockageEnded {
            began: ended.began,
            blocked: ended.blocked,
            cause: attribution.cause,
            cause_entry: attribution.cause_entry.clone(),
            running_script: attribution.running_script.clone(),
        });
        let script = attribution.running_script?.script;
        Some((script, attribution.cause_entry?)).filter(|(script, _)| script.sha1.is_some())
    }

    /// Moves the end of the previous episode to `began`, the start of a new one, if the two overlap or if `adjacent` is set.
    /// Returns the start of the new episode, which can be later than `began`.
    pub(super) fn adjust_previous_end(&mut self, began: Mono, adjacent: bool) -> Mono {
        if began >= self.last_end && !adjacent {
            return began;
        }
        if self.take_back(began).is_some() {
            return began.max(self.last_end);
        }
        let Some(last) = self.unattributed.back_mut() else { return began.max(self.last_end) };
        let began = began.max(last.proved_until);
        last.episode.blocked = began.since(last.began);
        self.last_end = began;
        began
    }

    /// Removes the latest waiting blockage if the call that began at `began` was the reason for its silence: the reply that ended the
    /// blockage was delayed in transit, or had not been sent when the server started that call. Returns the start of the silence.
    pub(super) fn take_back(&mut self, began: Mono) -> Option<Mono> {
        let last = self.unattributed.back()?;
        if last.episode.busy.is_some() || began >= last.proved_until {
            return None;
        }
        self.last_end = last.began;
        self.unattributed.pop_back();
        Some(self.last_end)
    }

    /// Names the latest waiting blockage if it has no name and `running` can have run during it.
    pub(super) fn name(&mut self, running: Running, now: Timestamps) {
        let Running { running_script, began } = running;
        let fits = |last: &&mut Unattributed| {
            last.episode.running_script.is_none()
                && last.episode.busy == Some(running_script.kind)
                && began < last.began + last.episode.blocked
        };
        if let Some(last) = self.unattributed.back_mut().filter(fits) {
            last.episode.running_script = Some((running_script, now.unix_of(began)));
        }
    }
}
