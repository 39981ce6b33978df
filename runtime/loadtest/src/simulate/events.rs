//! One request after the other: arrivals, answers and pods that become ready, in the order of their times.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::account::{Account, Cost};
use super::control::{Control, Meter, View};
use super::outcome::{Moment, Summary};
use super::pods::Pods;
use super::{MAX_PODS, SECOND, Scenario, SimulateError, Time};
use crate::sweep::Objective;

/// Requests in an activator's queue, as `breakerQueueDepth` bounds them where pods have a limit.
const ACTIVATOR_QUEUE: usize = 10_000;

/// The same where they have none, which Knative leaves to memory.
const ACTIVATOR_QUEUE_UNLIMITED: usize = 1_000_000;

/// The most requests that are held.
pub(super) fn most_held(limit: u32) -> usize {
    if limit == 0 { ACTIVATOR_QUEUE_UNLIMITED } else { ACTIVATOR_QUEUE }
}

/// Something that will happen, ordered by when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready { pod: usize },
    Answer { pod: usize, arrived: Time },
}

struct World<'a> {
    scenario: &'a Scenario,
    control: &'a mut dyn Control,
    random: fastrand::Rng,
    now: Time,
    events: BinaryHeap<Reverse<(Time, Event)>>,
    pods: Pods,
    /// Arrivals of requests for which no pod was free.
    held: VecDeque<Time>,
    in_flight: u64,
    meter: Meter,
    /// µs of work begun: of what was measured, what the work is at the pod's greatest throughput.
    worked: u64,
    work: Option<Time>,
    account: Account,
}

/// Runs to the end of the trace, and until the requests in flight then have ended.
pub(super) fn run(
    scenario: &Scenario,
    objective: Option<&Objective>,
    control: &mut dyn Control,
) -> Result<(Summary, Vec<Moment>), SimulateError> {
    let mut world = World::new(scenario, objective, control);
    let mut arrivals = scenario.trace.arrivals(scenario.arrivals, scenario.seed).peekable();
    let end = scenario.trace.end();
    let mut second = 1;
    // What happens within a second comes before its report, and the report before the decision.
    while second * SECOND <= end {
        world.advance(&mut arrivals, second * SECOND)?;
        world.second()?;
        second += 1;
    }
    world.advance(&mut arrivals, end)?;
    let cost = world.cost(end);
    world.account.ends();
    world.finish();
    Ok(world.account.close(end, &cost))
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, objective: Option<&Objective>, control: &'a mut dyn Control) -> Self {
        let limit = scenario.autoscaling.container_concurrency;
        let mut pods = Pods::new(&scenario.pod, limit);
        for _ in 0..scenario.start_replicas {
            let pod = pods.start(0);
            pods.becomes_ready(pod, 0);
        }
        let width = scenario.pod.width(limit);
        let full = f64::from(width) / scenario.pod.capacity(limit) * SECOND as f64;
        Self {
            scenario,
            control,
            // Another stream than that of the arrivals.
            random: fastrand::Rng::with_seed(scenario.seed ^ 0x9e37_79b9_7f4a_7c15),
            now: 0,
            events: BinaryHeap::new(),
            pods,
            held: VecDeque::new(),
            in_flight: 0,
            meter: Meter::default(),
            worked: 0,
            work: scenario.pod.service_time.width().map(|_| full as Time),
            account: Account::new(scenario.trace.end(), objective),
        }
    }

    fn view(&self) -> View {
        let held = self.held.len() as u64;
        View {
            now: self.now,
            ready: self.pods.ready(),
            live: self.pods.live(),
            rate: self.scenario.trace.rate(self.now),
            in_flight: self.in_flight,
            queued: held + self.pods.waiting,
            held,
        }
    }

    /// Lets happen what happens until `until`.
    fn advance(
        &mut self,
        arrivals: &mut std::iter::Peekable<impl Iterator<Item = Time>>,
        until: Time,
    ) -> Result<(), SimulateError> {
        loop {
            let arrival = arrivals.peek().copied().unwrap_or(Time::MAX);
            let event = self.events.peek().map_or(Time::MAX, |Reverse((at, _))| *at);
            if arrival.min(event) > until {
                break;
            }
            if event <= arrival {
                self.next_event();
            } else {
                arrivals.next();
                self.to(arrival);
                self.arrive()?;
            }
        }
        self.to(until);
        Ok(())
    }

    fn next_event(&mut self) {
        let Some(Reverse((at, event))) = self.events.pop() else { return };
        self.to(at);
        match event {
            Event::Ready { pod } => {
                if self.pods.becomes_ready(pod, at) {
                    let view = self.view();
                    self.control.became_ready(&view);
                    self.reconcile();
                    self.release();
                }
            }
            Event::Answer { pod, arrived } => {
                self.account.answers(at - arrived, 1.0);
                self.in_flight -= 1;
                let mut next = self.pods.ends(pod, at);
                while let Some(waited) = next {
                    if self.begin(pod, waited) {
                        break;
                    }
                    next = self.pods.ends(pod, at);
                }
                self.release();
            }
        }
    }

    /// Moves the clock, counting what is in flight.
    fn to(&mut self, now: Time) {
        let time = now - self.now;
        self.meter.add(self.in_flight as f64, time);
        self.account.asked(self.control.replicas(), time);
        self.now = now;
    }

    fn arrive(&mut self) -> Result<(), SimulateError> {
        self.account.requests += 1.0;
        self.meter.comes(1.0);
        let arrived = self.now;
        let is_idle = self.pods.ready() == 0;
        if is_idle {
            self.account.cold += 1.0;
        }
        let is_held = self.control.is_proxied() || (is_idle && self.control.holds());
        if is_held && self.control.is_woken() {
            let view = self.view();
            self.control.held(&view, &mut self.meter)?;
            self.reconcile();
        }
        self.in_flight += 1;
        if is_held {
            match self.pods.by_activator(&mut self.random).filter(|_| self.held.is_empty()) {
                Some(pod) => self.give(pod, arrived),
                None if self.held.len() >= most_held(self.scenario.autoscaling.container_concurrency) => self.refuse(),
                None => self.held.push_back(arrived),
            }
        } else {
            match self.pods.by_service(&mut self.random) {
                Some(Ok(pod)) => self.give(pod, arrived),
                Some(Err(())) | None => self.refuse(),
            }
        }
        Ok(())
    }

    fn refuse(&mut self) {
        self.account.refused += 1.0;
        self.in_flight -= 1;
    }

    fn second(&mut self) -> Result<(), SimulateError> {
        let view = self.view();
        self.control.second(&view, &mut self.meter, &self.pods)?;
        self.reconcile();
        self.account.second(&self.view(), self.control.replicas());
        Ok(())
    }

    /// Starts or ends pods, as is asked for.
    fn reconcile(&mut self) {
        let replicas = self.control.replicas().min(MAX_PODS);
        let cold_start = self.scenario.pod.cold_start.as_micros() as Time;
        while self.pods.live() < replicas {
            let pod = self.pods.start(self.now);
            self.events.push(Reverse((self.now + cold_start, Event::Ready { pod })));
        }
        while self.pods.live() > replicas {
            self.pods.remove_one(self.now);
        }
    }

    /// Hands on what was held.
    fn release(&mut self) {
        while let Some(&arrived) = self.held.front() {
            let Some(pod) = self.pods.by_activator(&mut self.random) else { break };
            self.held.pop_front();
            if self.is_too_late(arrived) {
                continue;
            }
            self.give(pod, arrived);
        }
    }

    fn give(&mut self, pod: usize, arrived: Time) {
        if self.pods.give(pod, arrived, self.now) {
            self.begin(pod, arrived);
        }
    }

    /// A pod begins to work on a request, unless it has waited too long.
    fn begin(&mut self, pod: usize, arrived: Time) -> bool {
        if self.is_too_late(arrived) {
            return false;
        }
        let draw = self.scenario.pod.service_time.draw(&mut self.random, self.pods.running(pod));
        let waited = self.now - arrived;
        self.account.begins(waited, waited + draw.takes - draw.alone, 1.0);
        self.worked += self.work.unwrap_or(draw.takes);
        self.events.push(Reverse((self.now + draw.takes, Event::Answer { pod, arrived })));
        true
    }

    fn is_too_late(&mut self, arrived: Time) -> bool {
        let is_late = self.now - arrived > self.scenario.timeout.as_micros() as Time;
        if is_late {
            self.account.timed_out += 1.0;
            self.in_flight -= 1;
        }
        is_late
    }

    /// Until the end of the trace: what has been begun counts until then only.
    fn cost(&self, end: Time) -> Cost {
        let (alive, alive_ready) = self.pods.alive(end);
        let beyond = self.events.iter().map(|Reverse((at, event))| match event {
            Event::Answer { .. } => at.saturating_sub(end).min(self.work.unwrap_or(Time::MAX)),
            Event::Ready { .. } => 0,
        });
        let worked = self.worked.saturating_sub(beyond.sum::<u64>());
        let width = self.scenario.pod.width(self.scenario.autoscaling.container_concurrency);
        let possible = alive_ready as f64 * f64::from(width);
        Cost {
            alive: alive as f64,
            alive_ready: alive_ready as f64,
            utilization: if possible > 0.0 { worked as f64 / possible } else { 0.0 },
            started: self.pods.started(),
        }
    }

    /// Behind the trace nothing comes and nothing is decided; what is in flight ends.
    fn finish(&mut self) {
        while !self.events.is_empty() && self.in_flight > 0 {
            self.next_event();
        }
        self.account.timed_out += self.in_flight as f64;
    }
}
