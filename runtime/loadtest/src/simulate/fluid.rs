//! All requests of a tenth of a second at once: the pointwise stationary fluid flow approximation (Wang, Tipper and Banerjee 1996).
//!
//! Requests in flight change by what comes less what leaves, and what leaves a pod with n in flight is the rate at which n are in
//! flight in equilibrium. So a load that stays gives the queues that `events` measured for it, and one that is too much a queue
//! that grows by what is too much. Chance is left out: what an autoscaler sees is the average.

use std::collections::VecDeque;

use super::account::{Account, Cost};
use super::control::{Control, Fleet, Meter, Scraped, View, seconds};
use super::equilibrium::{Equilibria, Equilibrium, Key};
use super::events::most_held;
use super::outcome::{Moment, Summary};
use super::quantiles::{self, Quantiles};
use super::{MAX_PODS, SECOND, Scenario, SimulateError, Time};
use crate::sweep::Objective;

const STEP: Time = SECOND / 10;

/// Requests that wait in a pod's proxy beyond its limit: ten times the limit.
const PROXY_QUEUE: f64 = 10.0;

/// What is left of a queue to which nothing comes counts as nothing from here on.
const LAST: f64 = 0.01;

/// Shares of a distribution that stand for all of it, with the part that each stands for.
const SHARES: [(f64, f64); 16] = [
    (0.05, 0.1),
    (0.15, 0.1),
    (0.25, 0.1),
    (0.35, 0.1),
    (0.45, 0.1),
    (0.55, 0.1),
    (0.65, 0.1),
    (0.75, 0.1),
    (0.825, 0.05),
    (0.875, 0.05),
    (0.92, 0.04),
    (0.95, 0.02),
    (0.97, 0.02),
    (0.985, 0.01),
    (0.9945, 0.009),
    (0.9995, 0.001),
];

/// Pods that became ready together.
#[derive(Debug)]
struct Cohort {
    id: usize,
    count: u32,
    /// Request-seconds of one pod when they came.
    begin: f64,
}

struct Fluid<'a> {
    scenario: &'a Scenario,
    control: &'a mut dyn Control,
    equilibria: Equilibria<'a>,
    key: Option<Key>,
    /// Requests that were answered as those of each load are, and are not recorded yet.
    pending: Vec<f64>,
    now: Time,
    pods: Pods,
    in_flight: f64,
    /// When they came, and how many.
    queue: VecDeque<(Time, f64)>,
    meter: Meter,
    account: Account,
    alive: f64,
    alive_ready: f64,
    left: f64,
}

#[derive(Debug, Default)]
struct Pods {
    /// When they will be ready, and how many.
    starting: VecDeque<(Time, u32)>,
    ready: Vec<Cohort>,
    started: u64,
    next: usize,
    /// Request-seconds of a pod that has always been there.
    integral: f64,
}

impl Fleet for Pods {
    fn scrape(&self, _: Time) -> Vec<Scraped> {
        let seen = |cohort: &Cohort| Scraped {
            pods: cohort.id,
            count: cohort.count,
            integral: self.integral - cohort.begin,
            is_ready: true,
        };
        self.ready.iter().map(seen).collect()
    }
}

impl Pods {
    fn ready(&self) -> u32 {
        self.ready.iter().map(|cohort| cohort.count).sum()
    }

    fn live(&self) -> u32 {
        self.ready() + self.starting.iter().map(|(_, count)| *count).sum::<u32>()
    }

    fn become_ready(&mut self, count: u32) {
        self.ready.push(Cohort { id: self.next, count, begin: self.integral });
        self.next += 1;
    }

    /// As a ReplicaSet: those that start first, then the youngest.
    fn remove(&mut self, mut count: u32) {
        while count > 0 {
            let last = match (self.starting.back_mut(), self.ready.last_mut()) {
                (Some((_, starting)), _) => starting,
                (None, Some(cohort)) => &mut cohort.count,
                (None, None) => return,
            };
            let taken = count.min(*last);
            *last -= taken;
            count -= taken;
            if self.starting.back().is_some_and(|(_, left)| *left == 0) {
                self.starting.pop_back();
            }
            self.ready.retain(|cohort| cohort.count > 0);
        }
    }
}

/// Runs to the end of the trace, and until the requests in flight then have ended.
pub(super) fn run(
    scenario: &Scenario,
    objective: Option<&Objective>,
    control: &mut dyn Control,
) -> Result<(Summary, Vec<Moment>), SimulateError> {
    let mut fluid = Fluid::new(scenario, objective, control);
    let end = scenario.trace.end();
    while fluid.now < end {
        fluid.step((fluid.now + STEP).min(end), true)?;
        if fluid.now.is_multiple_of(SECOND) {
            fluid.second()?;
        }
    }
    let cost = fluid.cost();
    // Behind the trace nothing comes and nothing is decided; what is in flight ends.
    let latest = end + scenario.timeout.as_micros() as Time + SECOND;
    while fluid.in_flight > LAST && fluid.now < latest {
        fluid.step(fluid.now + STEP, false)?;
    }
    fluid.flush()?;
    fluid.account.timed_out += fluid.in_flight;
    Ok(fluid.account.close(end, &cost))
}

impl<'a> Fluid<'a> {
    fn new(scenario: &'a Scenario, objective: Option<&Objective>, control: &'a mut dyn Control) -> Self {
        let mut pods = Pods::default();
        if scenario.start_replicas > 0 {
            pods.become_ready(scenario.start_replicas);
            pods.started = u64::from(scenario.start_replicas);
        }
        Self {
            scenario,
            control,
            equilibria: Equilibria::new(scenario),
            key: None,
            pending: Vec::new(),
            now: 0,
            pods,
            in_flight: 0.0,
            queue: VecDeque::new(),
            meter: Meter::default(),
            account: Account::new(scenario.trace.end(), objective),
            alive: 0.0,
            alive_ready: 0.0,
            left: 0.0,
        }
    }

    fn view(&self) -> View {
        let ready = self.pods.ready();
        let width = self.scenario.pod.width(self.scenario.autoscaling.container_concurrency);
        let working = f64::from(ready) * f64::from(width);
        let held = if ready == 0 { self.in_flight } else { 0.0 };
        View {
            now: self.now,
            ready,
            live: self.pods.live(),
            rate: self.scenario.trace.rate(self.now),
            in_flight: self.in_flight.round() as u64,
            queued: (self.in_flight - working).max(0.0).round() as u64,
            held: held.round() as u64,
        }
    }

    fn second(&mut self) -> Result<(), SimulateError> {
        let view = self.view();
        self.control.second(&view, &mut self.meter, &self.pods)?;
        self.reconcile();
        self.flush()?;
        self.account.second(&self.view(), self.control.replicas());
        Ok(())
    }

    fn reconcile(&mut self) {
        let replicas = self.control.replicas().min(MAX_PODS);
        let live = self.pods.live();
        if live < replicas {
            let ready_at = self.now + self.scenario.pod.cold_start.as_micros() as Time;
            self.pods.starting.push_back((ready_at, replicas - live));
            self.pods.started += u64::from(replicas - live);
        }
        self.pods.remove(live.saturating_sub(replicas));
    }

    fn step(&mut self, until: Time, is_decided: bool) -> Result<(), SimulateError> {
        while let Some(&(ready_at, count)) = self.pods.starting.front().filter(|(ready_at, _)| *ready_at <= self.now) {
            debug_assert!(ready_at <= self.now, "they come in order");
            self.pods.starting.pop_front();
            self.pods.become_ready(count);
            if is_decided {
                self.control.became_ready(&self.view());
                self.reconcile();
            }
        }
        let time = until - self.now;
        let ready = self.pods.ready();
        let came = if is_decided { self.scenario.trace.between(self.now, until) } else { 0.0 };
        let is_held = self.control.is_proxied() || (ready == 0 && self.control.holds());
        if came > 0.0 && is_held && self.control.is_woken() {
            self.control.held(&self.view(), &mut self.meter)?;
            self.reconcile();
        }
        let before = self.in_flight;
        self.arrive(came, ready, is_held, self.now + time / 2);
        self.leave(time, ready, is_held, until)?;
        let average = (before + self.in_flight) / 2.0;
        self.meter.add(average, time);
        self.account.asked(self.control.replicas(), time);
        self.alive += f64::from(self.pods.live()) * time as f64;
        self.alive_ready += f64::from(ready) * time as f64;
        if ready > 0 {
            let limit = self.scenario.autoscaling.container_concurrency;
            let each = average / f64::from(ready);
            self.pods.integral += if limit == 0 { each } else { each.min(f64::from(limit)) } * seconds(time);
        }
        self.now = until;
        Ok(())
    }

    fn arrive(&mut self, came: f64, ready: u32, is_held: bool, at: Time) {
        self.account.requests += came;
        self.meter.comes(came);
        if ready == 0 {
            self.account.cold += came;
        }
        let limit = f64::from(self.scenario.autoscaling.container_concurrency);
        let held = most_held(self.scenario.autoscaling.container_concurrency) as f64;
        let room = match (ready, is_held) {
            (0, true) => held,
            (0, false) => 0.0,
            _ if limit == 0.0 => f64::INFINITY,
            (_, true) => f64::from(ready) * limit + held,
            (_, false) => f64::from(ready) * limit * (1.0 + PROXY_QUEUE),
        };
        let taken = came.min((room - self.in_flight).max(0.0));
        self.account.refused += came - taken;
        self.in_flight += taken;
        if taken > 0.0 {
            self.queue.push_back((at, taken));
        }
    }

    /// What leaves in a time, the first that came first.
    fn leave(&mut self, time: Time, ready: u32, is_held: bool, until: Time) -> Result<(), SimulateError> {
        self.give_up(until);
        if ready == 0 {
            return Ok(());
        }
        let key = Equilibria::key(ready, is_held);
        if self.key != Some(key) {
            self.flush()?;
            self.key = Some(key);
        }
        let pods = f64::from(ready);
        let came = self.queue.back().map_or(0.0, |&(at, count)| if at + time >= until { count } else { 0.0 });
        let equilibrium = self.equilibria.of(key)?;
        let before = (self.in_flight - came).max(0.0);
        let leaves = equilibrium.leaving(before / pods) * pods * seconds(time);
        let after = match equilibrium.in_flight(came / seconds(time) / pods) {
            // What stays is reached and not passed, however fast.
            Some(stays) if before >= stays * pods => (before + came - leaves).max(stays * pods),
            Some(stays) => (before + came - leaves).min(stays * pods),
            None => before + came - leaves,
        };
        let after = if came == 0.0 && after < LAST { 0.0 } else { after.max(0.0) };
        let left = (self.in_flight - after).max(0.0);
        answer(
            equilibrium,
            &mut self.account,
            &mut self.pending,
            &mut self.queue,
            Leaving { left, each: before.max(after) / pods, until },
        );
        self.left += left;
        self.in_flight = after;
        Ok(())
    }

    /// Requests that have waited too long.
    fn give_up(&mut self, until: Time) {
        let timeout = self.scenario.timeout.as_micros() as Time;
        while let Some(&(at, count)) = self.queue.front().filter(|(at, _)| *at + timeout < until) {
            debug_assert!(at < until, "it came before");
            self.queue.pop_front();
            self.account.timed_out += count;
            self.in_flight = (self.in_flight - count).max(0.0);
        }
    }

    /// Records what was answered since the last time.
    fn flush(&mut self) -> Result<(), SimulateError> {
        let Some(key) = self.key else { return Ok(()) };
        let equilibrium = self.equilibria.of(key)?;
        for (load, requests) in equilibrium.loads.iter().zip(&self.pending).filter(|(_, requests)| **requests > 0.0) {
            for (share, part) in SHARES {
                let micros = |quantiles: &Quantiles| (quantiles::at(quantiles, share) * 1e3) as Time;
                self.account.begins(micros(&load.waiting), micros(&load.lateness), requests * part);
                self.account.answers(micros(&load.latency), requests * part);
            }
        }
        self.pending.clear();
        Ok(())
    }

    fn cost(&self) -> Cost {
        let capacity = self.scenario.pod.capacity(self.scenario.autoscaling.container_concurrency);
        let possible = self.alive_ready / SECOND as f64 * capacity;
        Cost {
            alive: self.alive,
            alive_ready: self.alive_ready,
            utilization: if possible > 0.0 { self.left / possible } else { 0.0 },
            started: self.pods.started,
        }
    }
}

/// What leaves in a step.
struct Leaving {
    left: f64,
    /// In flight of each pod.
    each: f64,
    until: Time,
}

/// Answers the oldest. Who is as old as the equilibrium of that many in flight has its distribution; who waited for longer, for pods
/// that were not there, has waited for as long as that, and then takes as long as a request that is alone.
fn answer(
    equilibrium: &Equilibrium,
    account: &mut Account,
    pending: &mut Vec<f64>,
    queue: &mut VecDeque<(Time, f64)>,
    Leaving { mut left, each, until }: Leaving,
) {
    pending.resize(equilibrium.loads.len(), 0.0);
    let (before, after, weight) = equilibrium.around(each);
    let usual = equilibrium.loads[before].mean * (1.0 - weight) + equilibrium.loads[after].mean * weight;
    let alone = &equilibrium.loads[0];
    while left > 0.0 {
        let Some((at, count)) = queue.front_mut() else { return };
        let taken = left.min(*count);
        let age = until.saturating_sub(*at);
        if age as f64 <= usual * 1e3 + 1.5 * STEP as f64 {
            pending[before] += taken * (1.0 - weight);
            pending[after] += taken * weight;
        } else {
            let waited = age - ((alone.mean * 1e3) as Time).min(age);
            for (share, part) in SHARES {
                account.begins(waited, waited, taken * part);
                account.answers(waited + (quantiles::at(&alone.latency, share) * 1e3) as Time, taken * part);
            }
        }
        left -= taken;
        *count -= taken;
        if *count <= 1e-12 {
            queue.pop_front();
        }
    }
}
