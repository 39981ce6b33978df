//! All requests of a tenth of a second at once: the pointwise stationary fluid flow approximation (Wang, Tipper and Banerjee 1996).
//!
//! Requests in flight change by what comes less what leaves, and what leaves a pod with n in flight is the rate at which n are in
//! flight in equilibrium. So a load that stays gives the queues that `events` measured for it, and one that is too much a queue
//! that grows by what is too much. Chance is left out: what an autoscaler sees is the average.

mod pods;

use self::pods::{Pods, Queue};
use super::account::{Account, Cost};
use super::control::{Control, Meter, View, seconds};
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

struct Fluid<'a> {
    scenario: &'a Scenario,
    control: &'a mut dyn Control,
    equilibria: Equilibria<'a>,
    key: Option<Key>,
    /// Requests that were answered as those of each load are, and are not recorded yet.
    pending: Vec<f64>,
    now: Time,
    pods: Pods,
    /// What waits where there is no pod.
    held: Queue,
    /// Requests in flight, the held ones included.
    in_flight: f64,
    meter: Meter,
    account: Account,
    alive: f64,
    alive_ready: f64,
    left: f64,
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
    fluid.account.ends();
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
            pods.become_ready(scenario.start_replicas, Queue::new(), true);
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
            held: Queue::new(),
            in_flight: 0.0,
            meter: Meter::default(),
            account: Account::new(scenario.trace.end(), objective),
            alive: 0.0,
            alive_ready: 0.0,
            left: 0.0,
        }
    }

    fn limit(&self) -> u32 {
        self.scenario.autoscaling.container_concurrency
    }

    /// Whether requests wait in one queue before all pods, because these take no more than a few.
    fn is_pooled(&self, is_held: bool) -> bool {
        is_held && self.limit() > 0
    }

    fn view(&self) -> View {
        let ready = self.pods.ready();
        let width = f64::from(self.scenario.pod.width(self.limit()));
        let held: f64 = self.held.iter().map(|(_, requests)| *requests).sum();
        let waiting = |group: &pods::Group| (group.in_flight - f64::from(group.count) * width).max(0.0);
        let queued = held + self.pods.groups.values().map(waiting).sum::<f64>();
        View {
            now: self.now,
            ready,
            live: self.pods.live(),
            rate: self.scenario.trace.rate(self.now),
            in_flight: self.in_flight.round() as u64,
            queued: queued.round() as u64,
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
        while self.pods.starting.front().is_some_and(|(ready_at, _)| *ready_at <= self.now) {
            let Some((_, count)) = self.pods.starting.pop_front() else { break };
            let held = std::mem::take(&mut self.held);
            self.pods.become_ready(count, held, self.is_pooled(self.control.is_proxied()));
            if is_decided {
                self.control.became_ready(&self.view());
                self.reconcile();
            }
        }
        let time = until - self.now;
        let is_idle = self.pods.ready() == 0;
        let came = if is_decided { self.scenario.trace.between(self.now, until) } else { 0.0 };
        let is_held = self.control.is_proxied() || (is_idle && self.control.holds());
        if came > 0.0 && is_held && self.control.is_woken() {
            self.control.held(&self.view(), &mut self.meter)?;
            self.reconcile();
        }
        let ready = self.pods.ready();
        self.account.requests += came;
        self.meter.comes(came);
        self.give_up(until);
        let before = self.in_flight;
        self.pass(came, is_held, until)?;
        self.in_flight = self.pods.in_flight() + self.held.iter().map(|(_, requests)| *requests).sum::<f64>();
        self.pods.merge(self.is_pooled(is_held));
        self.meter.add((before + self.in_flight) / 2.0, time);
        self.account.asked(self.control.replicas(), time);
        self.alive += f64::from(self.pods.live()) * time as f64;
        self.alive_ready += f64::from(ready) * time as f64;
        self.now = until;
        Ok(())
    }

    /// Lets come what comes, and leave what leaves, until then.
    fn pass(&mut self, came: f64, is_held: bool, until: Time) -> Result<(), SimulateError> {
        let time = until - self.now;
        let (at, ready) = (self.now + time / 2, self.pods.ready());
        if ready == 0 {
            self.account.cold += came;
            let held: f64 = self.held.iter().map(|(_, requests)| *requests).sum();
            let room = if is_held { (most_held(self.limit()) as f64 - held).max(0.0) } else { 0.0 };
            self.account.refused += came - came.min(room);
            if came.min(room) > 0.0 {
                self.held.push_back((at, came.min(room)));
            }
        }
        let key = Equilibria::key(ready, is_held);
        if self.key != Some(key) {
            self.flush()?;
            self.key = Some(key);
        }
        let limit = f64::from(self.limit());
        let shares = if ready == 0 { Vec::new() } else { self.shares(came, is_held) };
        let equilibrium = self.equilibria.of(key)?;
        for (key, group) in &mut self.pods.groups {
            let given = shares.iter().find(|(known, _)| known == key).map_or(0.0, |(_, given)| *given);
            let pods = f64::from(group.count);
            let room = match is_held {
                _ if limit == 0.0 => f64::INFINITY,
                true => pods * limit + most_held(self.scenario.autoscaling.container_concurrency) as f64,
                false => pods * limit * (1.0 + PROXY_QUEUE),
            };
            let comes = given.min((room - group.in_flight).max(0.0));
            self.account.refused += given - comes;
            let before = group.in_flight;
            let after = after(equilibrium, before, comes, pods, seconds(time));
            group.come(at, comes);
            let left = (group.in_flight - after).max(0.0);
            let each = before.max(after) / pods;
            answer(equilibrium, &mut self.account, &mut self.pending, &mut group.queue, Leaving { left, each, until });
            group.in_flight = after;
            self.left += left;
            let average = (before + after) / 2.0 / pods;
            group.integral += if limit == 0.0 { average } else { average.min(limit) } * seconds(time);
        }
        Ok(())
    }

    /// How much of what comes each group is given.
    fn shares(&self, came: f64, is_held: bool) -> Vec<(usize, f64)> {
        let all = f64::from(self.pods.ready());
        let share = |key: &usize| f64::from(self.pods.groups[key].count) / all;
        let emptiest = self.pods.emptiest();
        // A Service knows nothing of load.
        let mut given: Vec<(usize, f64)> = emptiest.iter().map(|key| (*key, came * share(key))).collect();
        if !is_held || self.limit() > 0 || given.len() < 2 {
            return given;
        }
        // The activator takes the less busy of two. In a step that is long beside a request, no more than makes all alike.
        let average = emptiest.iter().map(|key| self.pods.groups[key].in_flight).sum::<f64>() / all;
        let mut busier = 1.0;
        let preferred: Vec<f64> = emptiest
            .iter()
            .map(|key| {
                let share = share(key);
                busier -= share;
                let more = (share * share + 2.0 * share * busier - share) * came;
                let group = &self.pods.groups[key];
                more.min(((average - group.each()) * f64::from(group.count)).max(0.0))
            })
            .collect();
        let more: f64 = preferred.iter().filter(|more| **more > 0.0).sum();
        let less: f64 = -preferred.iter().filter(|more| **more < 0.0).sum::<f64>();
        for ((_, given), preferred) in given.iter_mut().zip(preferred) {
            *given += if preferred > 0.0 {
                preferred * (less / more).min(1.0)
            } else {
                preferred * (more / less.max(1e-12)).min(1.0)
            };
        }
        given
    }

    /// Requests that have waited too long.
    fn give_up(&mut self, until: Time) {
        let timeout = self.scenario.timeout.as_micros() as Time;
        let mut give_up = |queue: &mut Queue| {
            let mut lost = 0.0;
            while let Some((_, requests)) = queue.pop_front_if(|(at, _)| *at + timeout < until) {
                lost += requests;
            }
            self.account.timed_out += lost;
            lost
        };
        give_up(&mut self.held);
        for group in self.pods.groups.values_mut() {
            let lost = give_up(&mut group.queue);
            group.in_flight = (group.in_flight - lost).max(0.0);
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
        let capacity = self.scenario.pod.capacity(self.limit());
        let possible = self.alive_ready / SECOND as f64 * capacity;
        Cost {
            alive: self.alive,
            alive_ready: self.alive_ready,
            utilization: if possible > 0.0 { self.left / possible } else { 0.0 },
            started: self.pods.started,
        }
    }
}

/// Requests in flight of so many pods after a time, of those before and those that come in it.
fn after(equilibrium: &Equilibrium, before: f64, comes: f64, pods: f64, seconds: f64) -> f64 {
    let leaves = equilibrium.leaving(before / pods) * pods * seconds;
    let after = before + comes - leaves;
    // What stays is reached and not passed, however fast.
    let after = match equilibrium.in_flight(comes / seconds / pods) {
        Some(stays) if before >= stays * pods => after.max(stays * pods),
        Some(stays) => after.min(stays * pods),
        None => after,
    };
    if comes == 0.0 && after < LAST { 0.0 } else { after.max(0.0) }
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
    queue: &mut Queue,
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
