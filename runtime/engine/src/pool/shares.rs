//! Who goes next: the models that wait for workers share them by the time that their work really takes, weighted.
//!
//! Each model has a lane. Its virtual time is the time that its work took so far, over its weight; the lane that is behind goes
//! first (start-time fair queueing: Goyal, Vin and Cheng, 1996). A lane that had nothing to do for a while begins at the
//! time of those that had: nobody saves up. Within a lane what is nearest to its request's end goes first, so that what was
//! begun is finished before more is begun; within a stage the lower priority, then who came first.
//!
//! No clock and no thread in here: every function is told what time it is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Stage;

/// The priority of a request that does not say: after all that do.
pub(crate) const NO_PRIORITY: u64 = u64::MAX;
/// Of background work: loading, warming up, measuring.
const LEAST_WEIGHT: f64 = 0.01;
/// Work that held a worker for so long while a model that has none waits is set aside: it goes on beside the workers.
pub(super) const HOLD: Duration = Duration::from_millis(10);

/// One model's part of the workers. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Share(Arc<Own>);

#[derive(Debug)]
struct Own {
    weight: f64,
    /// Virtual time in nanoseconds, of when it last had something to do.
    time: AtomicU64,
}

impl Share {
    /// With a weight of 1 or more: who has twice the weight has twice the time.
    pub(crate) fn new(weight: u32) -> Self {
        Self::of(f64::from(weight.max(1)))
    }

    /// Of what must go on, and hold nobody up.
    pub(crate) fn background() -> Self {
        Self::of(LEAST_WEIGHT)
    }

    fn of(weight: f64) -> Self {
        Self(Arc::new(Own { weight, time: AtomicU64::new(0) }))
    }

    /// `time` of this share's work in virtual nanoseconds.
    fn cost(&self, time: Duration) -> u64 {
        (time.as_nanos() as f64 / self.0.weight) as u64
    }
}

/// Work that has begun.
#[derive(Debug)]
struct Running {
    turn: Turn,
    share: Share,
    began: Instant,
}

/// By which work that has begun is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(u64);

/// All lanes, and how many workers there are.
#[derive(Debug)]
pub(super) struct Shares<T> {
    pub(super) workers: usize,
    /// Those that have something waiting or running.
    lanes: Vec<Lane<T>>,
    /// Work that has a worker, oldest first.
    attached: Vec<Running>,
    /// Work that was set aside.
    aside: Vec<Running>,
    turns: u64,
    /// Where a lane begins that had nothing to do.
    floor: u64,
    /// Workers that may not begin anything, because a run elsewhere uses their cores.
    pub(super) reserved: usize,
}

#[derive(Debug)]
struct Lane<T> {
    share: Share,
    /// By stage, in the order of [`Stage::ALL`].
    stages: [Queue<T>; Stage::ALL.len()],
    waiting: usize,
    running: usize,
}

/// Work of one stage.
#[derive(Debug)]
struct Queue<T> {
    /// By priority; empty levels are removed.
    prior: BTreeMap<u64, VecDeque<T>>,
    rest: VecDeque<T>,
}

impl<T> Queue<T> {
    fn push(&mut self, priority: u64, item: T) {
        match priority {
            NO_PRIORITY => self.rest.push_back(item),
            priority => self.prior.entry(priority).or_default().push_back(item),
        }
    }

    fn pop(&mut self) -> Option<T> {
        let Some(mut level) = self.prior.first_entry() else { return self.rest.pop_front() };
        let item = level.get_mut().pop_front();
        if level.get().is_empty() {
            level.remove();
        }
        item
    }
}

impl<T> Lane<T> {
    fn new(share: Share) -> Self {
        let stages = std::array::from_fn(|_| Queue { prior: BTreeMap::new(), rest: VecDeque::new() });
        Self { share, stages, waiting: 0, running: 0 }
    }

    fn is(&self, share: &Share) -> bool {
        Arc::ptr_eq(&self.share.0, &share.0)
    }
}

/// What an idle worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Begins work of the lane at this place, by [`Shares::begin`].
    Begin(usize),
    /// Looks again then: what runs now may have to be set aside.
    LookAt(Instant),
    /// Waits to be woken.
    Wait,
}

impl<T> Shares<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers, lanes: Vec::new(), attached: Vec::new(), aside: Vec::new(), turns: 0, floor: 0, reserved: 0 }
    }

    pub(super) fn push(&mut self, share: &Share, stage: Stage, priority: u64, item: T, now: Instant) {
        let place = self.lanes.iter().position(|lane| lane.is(share)).unwrap_or_else(|| {
            let active = self.lanes.iter().map(|lane| self.time(lane, now)).min();
            self.floor = self.floor.max(active.unwrap_or(0));
            share.0.time.fetch_max(self.floor, Ordering::Relaxed);
            self.lanes.push(Lane::new(share.clone()));
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[place];
        lane.waiting += 1;
        lane.stages[stage as usize].push(priority, item);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.waiting == 0)
    }

    /// Whether one piece of work runs, with nothing beside it and nothing behind it.
    pub(super) fn is_alone(&self) -> bool {
        self.attached.len() == 1 && self.aside.is_empty() && self.reserved == 0 && self.is_empty()
    }

    /// Whether several have something waiting or running.
    pub(super) fn are_several(&self) -> bool {
        self.lanes.len() > 1
    }

    /// Whether a worker is free.
    pub(super) fn has_room(&self) -> bool {
        self.attached.len() + self.reserved < self.workers
    }

    /// A lane's virtual time now, with that of what it runs.
    fn time(&self, lane: &Lane<T>, now: Instant) -> u64 {
        let running = self.attached.iter().chain(&self.aside).filter(|running| lane.is(&running.share));
        let spent: Duration = running.map(|running| now.saturating_duration_since(running.began)).sum();
        lane.share.0.time.load(Ordering::Relaxed).saturating_add(lane.share.cost(spent))
    }

    /// The lane that goes next, of those that wait and have less than so much running.
    fn first(&self, running: usize, now: Instant) -> Option<usize> {
        let may_begin = |lane: &Lane<T>| lane.waiting > 0 && lane.running < running;
        if let [lane] = self.lanes.as_slice() {
            return may_begin(lane).then_some(0);
        }
        let lanes = self.lanes.iter().enumerate().filter(|(_, lane)| may_begin(lane));
        lanes.min_by_key(|(_, lane)| self.time(lane, now)).map(|(place, _)| place)
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.has_room() {
            // What one has alone is all that it has.
            return self.first(self.workers, now).map_or(Next::Wait, Next::Begin);
        }
        // For one that has no worker at all, work that has held one for long enough is set aside.
        let Some(place) = self.first(1, now) else { return Next::Wait };
        let lane = &self.lanes[place];
        let oldest = self.attached.iter().position(|running| !lane.is(&running.share));
        let Some(oldest) = oldest.filter(|_| self.aside.len() < self.workers) else { return Next::Wait };
        let when = self.attached[oldest].began + HOLD;
        if now < when {
            return Next::LookAt(when);
        }
        let running = self.attached.remove(oldest);
        self.aside.push(running);
        Next::Begin(place)
    }

    /// The work that goes next of a lane that [`Shares::next`] named.
    pub(super) fn begin(&mut self, place: usize, now: Instant) -> Option<(Turn, T)> {
        let lane = self.lanes.get_mut(place)?;
        let item = lane.stages.iter_mut().rev().find_map(Queue::pop)?;
        lane.waiting -= 1;
        lane.running += 1;
        self.turns += 1;
        let turn = Turn(self.turns);
        self.attached.push(Running { turn, share: lane.share.clone(), began: now });
        Some((turn, item))
    }

    /// That the work of this turn has ended, or waits for something.
    pub(super) fn end(&mut self, turn: Turn, now: Instant) {
        let is_it = |running: &Running| running.turn == turn;
        let all = if self.attached.iter().any(is_it) { &mut self.attached } else { &mut self.aside };
        let Some(place) = all.iter().position(is_it) else { return };
        let Running { share, began, .. } = all.remove(place);
        let spent = share.cost(now.saturating_duration_since(began));
        let time = share.0.time.fetch_add(spent, Ordering::Relaxed).saturating_add(spent);
        let Some(place) = self.lanes.iter().position(|lane| lane.is(&share)) else { return };
        let lane = &mut self.lanes[place];
        lane.running -= 1;
        if lane.running == 0 && lane.waiting == 0 {
            self.lanes.swap_remove(place);
            if self.lanes.is_empty() {
                self.floor = self.floor.max(time);
            }
        }
    }
}

#[cfg(test)]
mod tests;
