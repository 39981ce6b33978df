//! What lies between the requests and who scales: the same for requests that are taken one by one and for a fluid.

use super::outcome::{Record, Sync, Tick};
use super::{MAX_PODS, SECOND, SimulateError, Time};

/// The service, as an autoscaler may see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) now: Time,
    /// Pods that take requests.
    pub(super) ready: u32,
    /// These and those that start.
    pub(super) live: u32,
    /// The trace's rate.
    pub(super) rate: f64,
    /// Requests in flight, the queued ones included.
    pub(super) in_flight: u64,
    /// Those that wait, before pods or in them.
    pub(super) queued: u64,
    /// Those that wait for a pod.
    pub(super) held: u64,
}

/// Pods of one age, whose counters stand at the same value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scraped {
    /// In the order of their creation.
    pub(super) pods: usize,
    /// How many.
    pub(super) count: u32,
    /// Of each: the integral of requests in flight inside the server, in request-seconds.
    pub(super) integral: f64,
    /// It takes requests, and has not been told to end.
    pub(super) is_ready: bool,
}

/// Where the counters of pods can be read.
pub(super) trait Fleet {
    fn scrape(&self, now: Time) -> Vec<Scraped>;
}

/// Requests in flight and those that came since the last report.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// Request-µs.
    area: f64,
    came: f64,
    since: Time,
}

impl Meter {
    /// So many requests were in flight for so many µs.
    pub(super) fn add(&mut self, in_flight: f64, time: Time) {
        self.area += in_flight * time as f64;
    }

    pub(super) fn comes(&mut self, requests: f64) {
        self.came += requests;
    }

    /// Begins anew, with requests that came at this moment.
    pub(super) fn restart(&mut self, now: Time, came: f64) {
        *self = Self { area: 0.0, came, since: now };
    }

    /// The average in flight and the requests since the last time, where it begins anew.
    pub(super) fn take(&mut self, now: Time) -> (f64, f64) {
        let time = now - self.since;
        let average = if time == 0 { 0.0 } else { self.area / time as f64 };
        let came = self.came;
        self.restart(now, 0.0);
        (average, came)
    }
}

/// What was told and decided.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) records: Vec<Record>,
    pub(super) ticks: Vec<Tick>,
    pub(super) syncs: Vec<Sync>,
    pub(super) panic_seconds: f64,
}

/// An autoscaler.
pub(super) trait Control {
    /// Pods that it asks for.
    fn replicas(&self) -> u32;

    /// Whether requests go through what holds them while no pod is free.
    fn is_proxied(&self) -> bool;

    /// Whether requests are held while there is no pod at all.
    fn holds(&self) -> bool;

    /// Whether a request that is held now is told of at once.
    fn is_woken(&self) -> bool;

    /// A request of which is told at once comes to what holds requests.
    fn held(&mut self, view: &View, meter: &mut Meter) -> Result<(), SimulateError>;

    /// A pod has become ready.
    fn became_ready(&mut self, view: &View);

    /// A second ends.
    fn second(&mut self, view: &View, meter: &mut Meter, fleet: &dyn Fleet) -> Result<(), SimulateError>;

    /// Hands over what was told and decided.
    fn log(&mut self) -> Log;
}

pub(super) fn seconds(time: Time) -> f64 {
    time as f64 / SECOND as f64
}

/// An absurd setting ends a simulation instead of the machine's memory.
pub(super) fn bounded(now: Time, replicas: u32) -> Result<(), SimulateError> {
    if replicas <= MAX_PODS {
        return Ok(());
    }
    Err(SimulateError::TooLarge {
        what: format!("at {:.0} s the autoscaler asks for {replicas} pods, which max-scale would bound", seconds(now)),
        limit: u64::from(MAX_PODS),
    })
}
