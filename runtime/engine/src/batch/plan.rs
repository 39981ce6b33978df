//! Who runs next: the order of a model's queue, and which requests share a run. Pure: it knows the queue and the clock
//! that it is told, so that it can be tested without threads.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How the rows of requests are divided over runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Each request is one run, whatever it holds.
    Whole,
    /// A request with several rows is as many runs of one row, which run in parallel on the instances.
    Apart,
    /// Requests share runs.
    Together {
        /// Rows of one run at most.
        max: usize,
        /// Rows of one run worth waiting for, ascending; empty when every number is as good.
        preferred: Vec<usize>,
        /// How long the first of a run waits for others. Zero: a free instance takes what is there.
        max_delay: Duration,
    },
}

impl Rows {
    fn max(&self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Apart => 1,
            Self::Together { max, .. } => *max,
        }
    }

    /// Requests of one run that are aimed at.
    pub(super) fn aim(&self) -> usize {
        match self {
            Self::Together { max, .. } => *max,
            Self::Whole | Self::Apart => 1,
        }
    }
}

/// A request as the planner sees it.
pub(super) trait Candidate: Clone {
    /// Whether both may be in one run: the same inputs, shapes beyond the rows, and wanted outputs. One that is not compared, since
    /// that would cost too much, does not fit itself.
    fn fits(&self, other: &Self) -> bool;
}

/// A request that waits.
#[derive(Clone, Debug)]
pub(super) struct Entry<C> {
    pub(super) id: u64,
    /// Lower goes first.
    pub(super) priority: u64,
    pub(super) arrived: Instant,
    /// When it has waited as long as it may.
    pub(super) give_up: Instant,
    /// Rows that may be divided; none for a request that can only run whole.
    pub(super) rows: Option<usize>,
    pub(super) request: C,
}

/// A piece of a run: a request, or some rows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<C> {
    pub(super) request: C,
    /// None for the whole.
    pub(super) rows: Option<Range<usize>>,
}

/// What a free instance should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision<C> {
    /// Nobody waits.
    Nothing,
    /// Look again then: more may come by that time.
    Wait(Instant),
    /// Run these, never empty.
    Run(Vec<Part<C>>),
}

struct Waiting<C> {
    entry: Entry<C>,
    /// The row to run next.
    next_row: usize,
}

impl<C> Waiting<C> {
    fn rows_left(&self) -> Option<usize> {
        self.entry.rows.map(|rows| rows - self.next_row)
    }
}

/// The requests that wait for one model: by priority, and in order of arrival within one.
pub(super) struct Line<C> {
    levels: BTreeMap<u64, VecDeque<Waiting<C>>>,
    len: usize,
    /// No request gives up before this.
    first_to_give_up: Option<Instant>,
}

impl<C> Default for Line<C> {
    fn default() -> Self {
        Self { levels: BTreeMap::new(), len: 0, first_to_give_up: None }
    }
}

impl<C: Candidate> Line<C> {
    /// Requests that wait, those of which some rows have run included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, entry: Entry<C>) {
        self.first_to_give_up =
            Some(self.first_to_give_up.map_or(entry.give_up, |earliest| earliest.min(entry.give_up)));
        self.levels.entry(entry.priority).or_default().push_back(Waiting { entry, next_row: 0 });
        self.len += 1;
    }

    /// Takes a request out; none when it does not wait any more.
    pub(super) fn remove(&mut self, id: u64) -> Option<C> {
        let (&priority, level) =
            self.levels.iter_mut().find(|(_, level)| level.iter().any(|waiting| waiting.entry.id == id))?;
        let index = level.iter().position(|waiting| waiting.entry.id == id)?;
        let waiting = level.remove(index)?;
        if level.is_empty() {
            self.levels.remove(&priority);
        }
        self.len -= 1;
        Some(waiting.entry.request)
    }

    /// Takes out everybody.
    pub(super) fn clear(&mut self) -> Vec<C> {
        self.len = 0;
        self.first_to_give_up = None;
        std::mem::take(&mut self.levels).into_values().flatten().map(|waiting| waiting.entry.request).collect()
    }

    /// Takes out those who have waited as long as they may. A request whose first rows have run is finished.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<C> {
        if self.first_to_give_up.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut earliest: Option<Instant> = None;
        for level in self.levels.values_mut() {
            level.retain(|waiting| {
                if waiting.next_row > 0 {
                    return true;
                }
                let give_up = waiting.entry.give_up;
                if give_up <= now {
                    expired.push(waiting.entry.request.clone());
                    return false;
                }
                earliest = Some(earliest.map_or(give_up, |known| known.min(give_up)));
                true
            });
        }
        self.levels.retain(|_, level| !level.is_empty());
        self.len -= expired.len();
        self.first_to_give_up = earliest;
        expired
    }

    /// At least as many runs as could begin now, counted up to `limit`.
    pub(super) fn runs(&self, rows: &Rows, limit: usize) -> usize {
        let mut runs = 0;
        for waiting in self.levels.values().flatten() {
            runs += match waiting.rows_left() {
                Some(left) if *rows == Rows::Apart => left,
                _ => 1,
            };
            if runs >= limit {
                return limit;
            }
        }
        runs
    }

    /// What runs next. The one who has waited longest among those of the lowest priority number is always part of it;
    /// others join in the order of the line, never past one that does not fit.
    pub(super) fn next(&mut self, now: Instant, rows: &Rows) -> Decision<C> {
        let Some(first) = self.in_order().next() else { return Decision::Nothing };
        let Some(left) = first.rows_left() else { return Decision::Run(self.take(1, rows)) };
        let Rows::Together { max, preferred, max_delay } = rows else { return Decision::Run(self.take(1, rows)) };
        // One that could not even share a run with itself waits for nobody.
        if left >= *max || !first.entry.request.fits(&first.entry.request) {
            return Decision::Run(self.take(1, rows));
        }
        let Group { ends, full, oldest, first_to_give_up } = self.group(*max, &first.entry);
        let best = preferred.iter().rev().find_map(|size| ends.iter().position(|end| end == size));
        if let Some(best) = best {
            return Decision::Run(self.take(best + 1, rows));
        }
        let until = oldest + *max_delay;
        // Who would give up while waiting for company goes alone.
        if !full && now < until && until < first_to_give_up {
            return Decision::Wait(until);
        }
        Decision::Run(self.take(ends.len(), rows))
    }

    fn in_order(&self) -> impl Iterator<Item = &Waiting<C>> {
        self.levels.values().flatten()
    }

    /// The requests at the front that fit into one run of `max` rows with `first`.
    fn group(&self, max: usize, first: &Entry<C>) -> Group {
        let mut group = Group { ends: Vec::new(), full: false, oldest: first.arrived, first_to_give_up: first.give_up };
        let mut sum = 0;
        for waiting in self.in_order() {
            let entry = &waiting.entry;
            let joins = |left: &usize| sum + left <= max && first.request.fits(&entry.request);
            let rows = waiting.rows_left().filter(|left| group.ends.is_empty() || joins(left));
            let Some(rows) = rows else {
                group.full = true;
                break;
            };
            sum += rows;
            group.ends.push(sum);
            group.oldest = group.oldest.min(entry.arrived);
            group.first_to_give_up = group.first_to_give_up.min(entry.give_up);
        }
        group.full |= sum == max;
        group
    }

    /// Takes a run from the first `count` requests, of which only a single one may hold more rows than one run takes.
    fn take(&mut self, count: usize, rows: &Rows) -> Vec<Part<C>> {
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(mut level) = self.levels.first_entry() else { break };
            let Some(first) = level.get_mut().front_mut() else { break };
            let request = first.entry.request.clone();
            let Some(left) = first.rows_left() else {
                parts.push(Part { request, rows: None });
                self.drop_first();
                continue;
            };
            let taken = left.min(rows.max());
            let whole = first.entry.rows == Some(taken);
            let range = first.next_row..first.next_row + taken;
            first.next_row += taken;
            parts.push(Part { request, rows: (!whole).then_some(range) });
            if taken == left {
                self.drop_first();
            }
        }
        parts
    }

    fn drop_first(&mut self) {
        let Some(mut level) = self.levels.first_entry() else { return };
        level.get_mut().pop_front();
        if level.get().is_empty() {
            level.remove();
        }
        self.len -= 1;
    }
}

/// Requests that could share a run.
struct Group {
    /// Rows up to and with each request.
    ends: Vec<usize>,
    /// Whether waiting cannot make it larger.
    full: bool,
    oldest: Instant,
    first_to_give_up: Instant,
}

#[cfg(test)]
mod tests;
