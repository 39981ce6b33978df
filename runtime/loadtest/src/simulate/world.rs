//! The loop: arrivals, answers, pods that become ready, a report every second and a decision every other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hdrhistogram::Histogram;

use super::decider::{Decider, Decision};
use super::outcome::{Outcome, Record, Summary, Tick};
use super::pods::Pods;
use super::scaler::Scaler;
use super::{SECOND, Scenario, SimulateError, Time};
use crate::record::histogram;
use crate::report::Latency;

/// Requests in an activator's queue, as `breakerQueueDepth` bounds them where pods have a limit.
const ACTIVATOR_QUEUE: usize = 10_000;

/// The same where they have none, which Knative leaves to memory.
const ACTIVATOR_QUEUE_UNLIMITED: usize = 1_000_000;

/// The most pods that are asked for.
const MAX_PODS: u32 = 20_000;

/// Seconds between decisions.
const TICK: Time = 2;

/// Something that will happen, ordered by when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready { pod: usize },
    Answer { pod: usize, arrived: Time },
}

struct World<'a> {
    scenario: &'a Scenario,
    random: fastrand::Rng,
    now: Time,
    events: BinaryHeap<Reverse<(Time, Event)>>,
    pods: Pods,
    decider: Decider,
    scaler: Scaler,
    decision: Option<Decision>,
    /// What `Scale` last answered, kept where it has no data.
    desired: Option<i32>,
    /// Arrivals of requests for which no pod was free.
    activator: VecDeque<Time>,
    /// The activator knows the revision; what it has already told of a request at its beginning.
    activator_told: Option<f64>,
    in_flight: u64,
    /// Request-µs in flight and requests since `report_since`.
    flight_time: u64,
    flight_since: Time,
    report_since: Time,
    came: u64,
    worked: u64,
    latency: Histogram<u64>,
    waiting: Histogram<u64>,
    records: Vec<Record>,
    ticks: Vec<Tick>,
    requests: u64,
    answered: u64,
    refused: u64,
    timed_out: u64,
    cold: u64,
    last_tick: Time,
    panic_time: Time,
    replica_time: u64,
    replicas_max: u32,
}

pub(super) fn run(scenario: &Scenario) -> Result<Outcome, SimulateError> {
    let mut world = World::new(scenario);
    let mut arrivals = scenario.trace.arrivals(scenario.arrivals, scenario.seed).peekable();
    let end = scenario.trace.end();
    let mut second = 1;
    // What happens within a second comes before its report, and the report before the decision.
    while second * SECOND <= end {
        world.advance(&mut arrivals, second * SECOND)?;
        world.report()?;
        if second % TICK == 0 {
            world.tick()?;
        }
        second += 1;
    }
    world.advance(&mut arrivals, end)?;
    let (alive, alive_ready) = world.pods.alive(end);
    let cost = Cost { alive, alive_ready, worked: world.worked_until(end), replica_time: world.replica_time };
    world.finish();
    Ok(world.outcome(end, &cost))
}

/// In µs, until the end of the trace.
struct Cost {
    alive: u64,
    alive_ready: u64,
    worked: u64,
    replica_time: u64,
}

fn seconds(time: Time) -> f64 {
    time as f64 / SECOND as f64
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut pods = Pods::new(&scenario.pod, scenario.autoscaling.container_concurrency);
        for _ in 0..scenario.start_replicas {
            let pod = pods.start(0);
            pods.becomes_ready(pod, 0);
        }
        let desired = (scenario.start_replicas == 0).then_some(0);
        Self {
            scenario,
            // Another stream than that of the arrivals.
            random: fastrand::Rng::with_seed(scenario.seed ^ 0x9e37_79b9_7f4a_7c15),
            now: 0,
            events: BinaryHeap::new(),
            pods,
            decider: Decider::new(&scenario.autoscaling, scenario.start_replicas),
            scaler: Scaler::new(&scenario.autoscaling, scenario.start_replicas),
            decision: None,
            desired,
            activator: VecDeque::new(),
            activator_told: None,
            in_flight: 0,
            flight_time: 0,
            flight_since: 0,
            report_since: 0,
            came: 0,
            worked: 0,
            latency: histogram(3),
            waiting: histogram(3),
            records: Vec::new(),
            ticks: Vec::new(),
            requests: 0,
            answered: 0,
            refused: 0,
            timed_out: 0,
            cold: 0,
            last_tick: 0,
            panic_time: 0,
            replica_time: 0,
            replicas_max: scenario.start_replicas,
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
                    self.reconcile();
                    self.drain_activator();
                }
            }
            Event::Answer { pod, arrived } => {
                self.answered += 1;
                self.latency.saturating_record((at - arrived).max(1));
                self.left();
                let mut next = self.pods.ends(pod, at);
                while let Some(waited) = next {
                    if self.begin(pod, waited) {
                        break;
                    }
                    next = self.pods.ends(pod, at);
                }
                self.drain_activator();
            }
        }
    }

    /// Moves the clock, counting what is in flight.
    fn to(&mut self, now: Time) {
        self.flight_time += self.in_flight * (now - self.flight_since);
        self.flight_since = now;
        self.replica_time += u64::from(self.scaler.replicas()) * (now - self.now);
        self.now = now;
    }

    fn left(&mut self) {
        self.in_flight -= 1;
    }

    fn arrive(&mut self) -> Result<(), SimulateError> {
        self.requests += 1;
        self.came += 1;
        let arrived = self.now;
        let is_proxied = self.scaler.is_proxied() || self.pods.ready() == 0;
        if self.pods.ready() == 0 {
            self.cold += 1;
        }
        if is_proxied && self.activator_told.is_none() {
            self.first_at_the_activator()?;
        }
        self.in_flight += 1;
        if is_proxied {
            match self.pods.by_activator(&mut self.random).filter(|_| self.activator.is_empty()) {
                Some(pod) => self.give(pod, arrived),
                None if self.activator.len() >= self.activator_queue() => self.refuse(),
                None => self.activator.push_back(arrived),
            }
        } else {
            match self.pods.by_service(&mut self.random) {
                Some(Ok(pod)) => self.give(pod, arrived),
                Some(Err(())) | None => self.refuse(),
            }
        }
        Ok(())
    }

    fn activator_queue(&self) -> usize {
        if self.scenario.autoscaling.container_concurrency == 0 { ACTIVATOR_QUEUE_UNLIMITED } else { ACTIVATOR_QUEUE }
    }

    fn refuse(&mut self) {
        self.refused += 1;
        self.left();
    }

    /// An activator that had no request for the revision tells of the first at once.
    fn first_at_the_activator(&mut self) -> Result<(), SimulateError> {
        self.activator_told = Some(1.0);
        self.report_since = self.now;
        self.flight_time = 0;
        self.came = 1;
        self.tell(1.0, 1.0)
    }

    fn tell(&mut self, concurrency: f64, requests: f64) -> Result<(), SimulateError> {
        self.decider.record(self.now, concurrency, requests);
        self.records.push(Record { t: seconds(self.now), concurrency, requests });
        // The autoscaler does not wait for its next tick where it has nothing running.
        if concurrency > 0.0 && self.desired == Some(0) && self.is_at_activator() {
            self.tick()?;
        }
        Ok(())
    }

    /// The end of a second: what the activator and the pods report.
    fn report(&mut self) -> Result<(), SimulateError> {
        let time = self.now - self.report_since;
        let average = if time == 0 { 0.0 } else { self.flight_time as f64 / time as f64 };
        let came = self.came as f64;
        self.flight_time = 0;
        self.came = 0;
        self.report_since = self.now;
        // What was told of the first request is not told again.
        let told = self.activator_told;
        let is_known = average > 0.0 && self.is_at_activator();
        self.activator_told = is_known.then_some(0.0);
        // With neither a pod to scrape nor an activator that has seen a request there is no report.
        if told.is_none() && self.pods.ready() == 0 && self.in_flight == 0 {
            return Ok(());
        }
        let told = told.unwrap_or(0.0);
        self.tell((average - told).max(0.0), (came - told).max(0.0))
    }

    fn is_at_activator(&self) -> bool {
        self.scaler.is_proxied() || self.pods.ready() == 0
    }

    fn tick(&mut self) -> Result<(), SimulateError> {
        let ready = self.pods.ready();
        let decision = self.decider.scale(self.now, ready);
        if decision.desired.is_some() {
            self.desired = decision.desired;
            self.decision = Some(decision);
        }
        self.reconcile();
        let replicas = self.scaler.replicas();
        if replicas > MAX_PODS {
            return Err(SimulateError::TooLarge {
                what: format!("at {:.0} s the autoscaler asks for {replicas} pods", seconds(self.now)),
                limit: u64::from(MAX_PODS),
            });
        }
        if decision.is_panicking {
            self.panic_time += self.now - self.last_tick;
        }
        self.last_tick = self.now;
        self.ticks.push(Tick {
            t: seconds(self.now),
            rate: self.scenario.trace.rate(self.now),
            ready,
            stable: decision.stable,
            panic: decision.panic,
            desired: decision.desired,
            excess_burst_capacity: decision.excess_burst_capacity,
            panicking: decision.is_panicking,
            replicas,
            proxied: self.scaler.is_proxied(),
            in_flight: self.in_flight,
            queued: self.activator.len() as u64 + self.pods.waiting,
        });
        Ok(())
    }

    /// Lets the scaler ask for pods, and starts or ends them.
    fn reconcile(&mut self) {
        let excess = self.decision.map_or(-1, |decision| decision.excess_burst_capacity);
        self.scaler.reconcile(self.now, self.desired, excess, self.pods.ready());
        let replicas = self.scaler.replicas().min(MAX_PODS);
        self.replicas_max = self.replicas_max.max(replicas);
        let cold_start = self.scenario.pod.cold_start.as_micros() as Time;
        while self.pods.live() < replicas {
            let pod = self.pods.start(self.now);
            self.events.push(Reverse((self.now + cold_start, Event::Ready { pod })));
        }
        while self.pods.live() > replicas {
            self.pods.remove_one(self.now);
        }
    }

    fn drain_activator(&mut self) {
        while let Some(&arrived) = self.activator.front() {
            let Some(pod) = self.pods.by_activator(&mut self.random) else { break };
            self.activator.pop_front();
            if self.is_too_late(arrived) {
                continue;
            }
            self.give(pod, arrived);
        }
    }

    fn give(&mut self, pod: usize, arrived: Time) {
        if self.pods.give(pod, arrived) {
            self.begin(pod, arrived);
        }
    }

    /// A pod begins to work on a request, unless it has waited too long.
    fn begin(&mut self, pod: usize, arrived: Time) -> bool {
        if self.is_too_late(arrived) {
            return false;
        }
        self.waiting.saturating_record((self.now - arrived).max(1));
        let takes = self.scenario.pod.service_time.draw(&mut self.random);
        self.worked += takes;
        self.events.push(Reverse((self.now + takes, Event::Answer { pod, arrived })));
        true
    }

    fn is_too_late(&mut self, arrived: Time) -> bool {
        let is_late = self.now - arrived > self.scenario.timeout.as_micros() as Time;
        if is_late {
            self.timed_out += 1;
            self.left();
        }
        is_late
    }

    /// What has been begun counts until then only.
    fn worked_until(&self, end: Time) -> u64 {
        let beyond = self.events.iter().map(|Reverse((at, event))| match event {
            Event::Answer { .. } => at.saturating_sub(end),
            Event::Ready { .. } => 0,
        });
        self.worked - beyond.sum::<u64>()
    }

    /// Behind the trace nothing comes and nothing is decided; what is in flight ends.
    fn finish(&mut self) {
        while !self.events.is_empty() && self.in_flight > 0 {
            self.next_event();
        }
        self.timed_out += self.in_flight;
    }

    fn outcome(self, end: Time, cost: &Cost) -> Outcome {
        let capacity = cost.alive_ready as f64 * f64::from(self.scenario.pod.parallelism);
        let summary = Summary {
            seconds: seconds(end),
            requests: self.requests,
            answered: self.answered,
            refused: self.refused,
            timed_out: self.timed_out,
            cold: self.cold,
            latency: Latency::of(&self.latency),
            waiting: Latency::of(&self.waiting),
            replicas_max: self.replicas_max,
            replicas_mean: cost.replica_time as f64 / end as f64,
            pod_seconds: seconds(cost.alive),
            ready_pod_seconds: seconds(cost.alive_ready),
            utilization: if capacity > 0.0 { cost.worked as f64 / capacity } else { 0.0 },
            pods_started: self.pods.started(),
            panic_seconds: seconds(self.panic_time),
        };
        Outcome {
            autoscaling: self.scenario.autoscaling.clone(),
            pod: self.scenario.pod.clone(),
            start_replicas: self.scenario.start_replicas,
            records: self.records,
            ticks: self.ticks,
            summary,
        }
    }
}
