//! Knative's side of a simulation: a report every second, a decision every other.

use super::decider::{Decider, Decision};
use super::scaler::Scaler;
use crate::simulate::control::{Control, Fleet, Log, Meter, View, bounded, seconds};
use crate::simulate::outcome::{Record, Tick};
use crate::simulate::settings::Autoscaling;
use crate::simulate::{SECOND, SimulateError, Time};

/// Seconds between decisions.
const TICK: Time = 2;

/// The autoscaler with the activator's and the pods' reports.
#[derive(Debug)]
pub(in crate::simulate) struct Kpa {
    decider: Decider,
    scaler: Scaler,
    decision: Option<Decision>,
    /// What `Scale` last answered, kept where it has no data.
    desired: Option<i32>,
    /// The activator knows the revision; what it has already told of a request at its beginning.
    activator_told: Option<f64>,
    last_tick: Time,
    panic_time: Time,
    log: Log,
}

impl Kpa {
    pub(in crate::simulate) fn new(settings: &Autoscaling, start_replicas: u32) -> Self {
        Self {
            decider: Decider::new(settings, start_replicas),
            scaler: Scaler::new(settings, start_replicas),
            decision: None,
            desired: (start_replicas == 0).then_some(0),
            activator_told: None,
            last_tick: 0,
            panic_time: 0,
            log: Log::default(),
        }
    }

    fn is_at_activator(&self, view: &View) -> bool {
        self.scaler.is_proxied() || view.ready == 0
    }

    fn tell(&mut self, view: &View, concurrency: f64, requests: f64) -> Result<(), SimulateError> {
        self.decider.record(view.now, concurrency, requests);
        self.log.records.push(Record { t: seconds(view.now), concurrency, requests });
        // The autoscaler does not wait for its next tick where it has nothing running.
        if concurrency > 0.0 && self.desired == Some(0) && self.is_at_activator(view) {
            self.tick(view)?;
        }
        Ok(())
    }

    /// The end of a second: what the activator and the pods report.
    fn report(&mut self, view: &View, meter: &mut Meter) -> Result<(), SimulateError> {
        let (average, came) = meter.take(view.now);
        // What was told of the first request is not told again.
        let told = self.activator_told;
        let is_known = average > 0.0 && self.is_at_activator(view);
        self.activator_told = is_known.then_some(0.0);
        // With neither a pod to scrape nor an activator that has seen a request there is no report.
        if told.is_none() && view.ready == 0 && view.in_flight == 0 {
            return Ok(());
        }
        let told = told.unwrap_or(0.0);
        self.tell(view, (average - told).max(0.0), (came - told).max(0.0))
    }

    fn tick(&mut self, view: &View) -> Result<(), SimulateError> {
        let decision = self.decider.scale(view.now, view.ready);
        if decision.desired.is_some() {
            self.desired = decision.desired;
            self.decision = Some(decision);
        }
        self.reconcile(view);
        let replicas = self.scaler.replicas();
        bounded(view.now, replicas)?;
        if decision.is_panicking {
            self.panic_time += view.now - self.last_tick;
        }
        self.last_tick = view.now;
        self.log.ticks.push(Tick {
            t: seconds(view.now),
            rate: view.rate,
            ready: view.ready,
            stable: decision.stable,
            panic: decision.panic,
            desired: decision.desired,
            excess_burst_capacity: decision.excess_burst_capacity,
            panicking: decision.is_panicking,
            replicas,
            proxied: self.scaler.is_proxied(),
            in_flight: view.in_flight,
            queued: view.queued,
        });
        Ok(())
    }

    fn reconcile(&mut self, view: &View) {
        let excess = self.decision.map_or(-1, |decision| decision.excess_burst_capacity);
        self.scaler.reconcile(view.now, self.desired, excess, view.ready);
    }
}

impl Control for Kpa {
    fn replicas(&self) -> u32 {
        self.scaler.replicas()
    }

    fn is_proxied(&self) -> bool {
        self.scaler.is_proxied()
    }

    fn holds(&self) -> bool {
        true
    }

    /// An activator that had no request for the revision tells of the first at once.
    fn is_woken(&self) -> bool {
        self.activator_told.is_none()
    }

    fn held(&mut self, view: &View, meter: &mut Meter) -> Result<(), SimulateError> {
        self.activator_told = Some(1.0);
        meter.restart(view.now, 1.0);
        self.tell(view, 1.0, 1.0)
    }

    fn became_ready(&mut self, view: &View) {
        self.reconcile(view);
    }

    fn second(&mut self, view: &View, meter: &mut Meter, _: &dyn Fleet) -> Result<(), SimulateError> {
        self.report(view, meter)?;
        if (view.now / SECOND).is_multiple_of(TICK) {
            self.tick(view)?;
        }
        Ok(())
    }

    fn log(&mut self) -> Log {
        let log = std::mem::take(&mut self.log);
        Log { panic_seconds: seconds(self.panic_time), ..log }
    }
}
