//! The loop around the planner: tickets, free instances, and who takes what.
//!
//! While an instance is free and something waits, a ticket lies in the compute pool; the worker that draws it takes an
//! instance and what the planner says *then*. So the choice is made as late as possible, and no worker ever waits for
//! an instance. Written against [`Host`], so that a scheduler of tests can drive it through every order of events.

use std::time::{Duration, Instant};

use super::plan::{Candidate, Decision, Entry, Line, Part, Rows};

/// How long a model that was found crowded is not given all workers for one run.
const CROWDED: Duration = Duration::from_millis(250);

/// What the loop works on.
pub(super) trait Host {
    type Instance;
    type Request: Candidate;
    /// Held while a run has more than one worker.
    type Reservation;

    /// Works on the state alone. Never nested.
    fn with<R>(&self, work: impl FnOnce(&mut State<Self::Instance, Self::Request>) -> R) -> R;
    /// Has [`redeem`] called soon, once. Called while the state is held.
    fn ticket(&self);
    /// Has [`wake`] called then.
    fn wake_at(&self, when: Instant);
    fn now(&self) -> Instant;
    /// Tries to keep all other workers from beginning anything. Called while the state is held.
    fn reserve(&self) -> Option<Self::Reservation>;
    /// Runs and answers. The instance comes back, or one in its place; none when it is lost.
    fn run(&self, instance: Self::Instance, parts: Vec<Part<Self::Request>>) -> Option<Self::Instance>;
    /// Answers one who has waited too long.
    fn expired(&self, request: Self::Request);
    /// Answers one whom nobody is left to serve.
    fn lost(&self, request: Self::Request);
}

/// The queue of a model and its instances.
pub(super) struct State<I, C> {
    line: Line<C>,
    pub(super) rows: Rows,
    idle: Vec<I>,
    /// One whose runs use all workers.
    wide: Option<I>,
    /// Instances alive, idle or running, the wide one left out.
    alive: usize,
    running: usize,
    running_wide: bool,
    crowded_until: Option<Instant>,
    /// Tickets in the pool; never more than idle instances.
    tickets: usize,
    timer: Option<Instant>,
    next_id: u64,
}

/// An instance that was taken, with what it needs beside.
pub(super) struct Taken<I, R> {
    pub(super) instance: I,
    wide: Option<R>,
}

impl<I, C: Candidate> State<I, C> {
    pub(super) fn new(instances: Vec<I>, rows: Rows) -> Self {
        Self {
            line: Line::default(),
            rows,
            alive: instances.len(),
            idle: instances,
            wide: None,
            running: 0,
            running_wide: false,
            crowded_until: None,
            tickets: 0,
            timer: None,
            next_id: 0,
        }
    }

    /// Requests that wait.
    pub(super) fn depth(&self) -> usize {
        self.line.len()
    }

    /// The instances that do not run.
    pub(super) fn idle(&self) -> &[I] {
        &self.idle
    }

    /// From now on a request that is alone has all workers. Answers the instance before.
    pub(super) fn set_wide(&mut self, wide: Option<I>) -> Option<I> {
        std::mem::replace(&mut self.wide, wide)
    }

    /// Takes a request out; whether it still waited.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        self.line.remove(id).is_some()
    }

    /// Whether a request of so many rows, none where they cannot be told, may run at once and as a whole.
    fn may_run_at_once(&self, rows: Option<usize>) -> bool {
        self.has_spare()
            && match &self.rows {
                Rows::Whole => true,
                Rows::Apart => rows.is_none_or(|rows| rows <= 1),
                Rows::Together { max, max_delay, .. } => max_delay.is_zero() && rows.is_none_or(|rows| rows <= *max),
            }
    }

    /// Whether an instance is free that nobody waits for.
    fn has_spare(&self) -> bool {
        self.line.is_empty() && self.idle.len() > self.tickets
    }

    fn issue_tickets(&mut self, host: &impl Host<Instance = I, Request = C>) {
        let wanted = self.line.runs(&self.rows, self.idle.len());
        while self.tickets < wanted {
            self.tickets += 1;
            host.ticket();
        }
    }

    /// An instance for a run that begins now, after which the line is as it is.
    fn take<H: Host<Instance = I, Request = C>>(&mut self, host: &H, alone: bool) -> Option<Taken<I, H::Reservation>> {
        let crowded = self.crowded_until.is_some_and(|until| host.now() < until);
        if alone
            && !crowded
            && self.running == 0
            && self.line.is_empty()
            && self.wide.is_some()
            && let Some(reservation) = host.reserve()
            && let Some(instance) = self.wide.take()
        {
            self.running += 1;
            self.running_wide = true;
            return Some(Taken { instance, wide: Some(reservation) });
        }
        let instance = self.idle.pop()?;
        self.running += 1;
        Some(Taken { instance, wide: None })
    }
}

/// An instance for a request of so many rows that need not wait; `alone` when the caller may use all workers.
pub(super) fn at_once<H: Host>(
    host: &H,
    rows: Option<usize>,
    alone: bool,
) -> Option<Taken<H::Instance, H::Reservation>> {
    host.with(|state| {
        if !state.may_run_at_once(rows) {
            state.note_crowd(host.now());
            return None;
        }
        state.take(host, alone)
    })
}

/// An instance that nobody waits for, for a run that no request asked for.
pub(super) fn spare<H: Host>(host: &H) -> Option<Taken<H::Instance, H::Reservation>> {
    host.with(|state| if state.has_spare() { state.take(host, false) } else { None })
}

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// So many wait already.
    Full(usize),
    /// No instance is left.
    Lost,
}

/// Queues a request made by `entry` of its number, unless `max` wait already.
pub(super) fn submit<H: Host>(
    host: &H,
    max: usize,
    entry: impl FnOnce(u64) -> Entry<H::Request>,
) -> Result<u64, Refused> {
    host.with(|state| {
        if state.alive == 0 {
            return Err(Refused::Lost);
        }
        if state.line.len() >= max {
            return Err(Refused::Full(state.line.len()));
        }
        state.note_crowd(host.now());
        let id = state.next_id;
        state.next_id += 1;
        state.line.push(entry(id));
        state.issue_tickets(host);
        Ok(id)
    })
}

impl<I, C> State<I, C> {
    /// Somebody came while a single request had all workers.
    fn note_crowd(&mut self, now: Instant) {
        if self.running_wide {
            self.crowded_until = Some(now + CROWDED);
        }
    }
}

/// What a ticket is good for: one run of what the planner says now.
pub(super) fn redeem<H: Host>(host: &H) {
    let now = host.now();
    let (expired, taken, wait) = host.with(|state| {
        state.tickets -= 1;
        let expired = state.line.expire(now);
        if state.idle.is_empty() {
            return (expired, None, None);
        }
        match state.line.next(now, &state.rows) {
            Decision::Nothing => (expired, None, None),
            Decision::Wait(when) => {
                let sooner = state.timer.is_none_or(|timer| when < timer);
                if sooner {
                    state.timer = Some(when);
                }
                (expired, None, sooner.then_some(when))
            }
            Decision::Run(parts) => (expired, state.take(host, true).map(|taken| (taken, parts)), None),
        }
    });
    for request in expired {
        host.expired(request);
    }
    if let Some(when) = wait {
        host.wake_at(when);
    }
    if let Some((taken, parts)) = taken {
        let Taken { instance, wide } = taken;
        let back = host.run(instance, parts);
        give_back(host, back, wide);
    }
}

/// The time that a run was to wait for company is over.
pub(super) fn wake<H: Host>(host: &H) {
    host.with(|state| {
        state.timer = None;
        state.issue_tickets(host);
    });
}

/// Runs `work` on an instance that was taken [`at_once`], and gives back what it answers.
pub(super) fn run_taken<H: Host, R>(
    host: &H,
    taken: Taken<H::Instance, H::Reservation>,
    work: impl FnOnce(H::Instance) -> (Option<H::Instance>, R),
) -> R {
    let Taken { instance, wide } = taken;
    let (back, result) = work(instance);
    give_back(host, back, wide);
    result
}

fn give_back<H: Host>(host: &H, back: Option<H::Instance>, wide: Option<H::Reservation>) {
    // Before more is begun: what waits for the other workers may begin too.
    let was_wide = wide.is_some();
    drop(wide);
    let lost = host.with(|state| {
        state.running -= 1;
        if was_wide {
            state.running_wide = false;
            state.wide = back;
        } else {
            match back {
                Some(instance) => state.idle.push(instance),
                None => state.alive -= 1,
            }
        }
        let lost = if state.alive == 0 { state.line.clear() } else { Vec::new() };
        state.issue_tickets(host);
        lost
    });
    for request in lost {
        host.lost(request);
    }
}

#[cfg(test)]
mod tests;
