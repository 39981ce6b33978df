//! The controller's loop, and that of KEDA's operator.

use std::collections::BTreeMap;

use super::behavior::{History, Wish};
use super::rate::Series;
use super::replicas::{PodMetrics, by_pods, by_sum};
use crate::simulate::control::{Control, Fleet, Log, Meter, View, bounded, seconds};
use crate::simulate::outcome::Sync;
use crate::simulate::settings::{Autoscaling, Hpa, Keda, Metric};
use crate::simulate::{SECOND, SimulateError, Time};

/// Pods of one age, as Prometheus knows them.
#[derive(Clone, Debug, Default)]
struct Target {
    series: Series,
    count: u32,
    is_ready: bool,
}

/// The HPA, and KEDA where it is hers.
#[derive(Debug)]
pub(in crate::simulate) struct Controller {
    settings: Hpa,
    keda: Option<Keda>,
    target: i64,
    min: i32,
    max: i32,
    replicas: i32,
    targets: BTreeMap<usize, Target>,
    /// Pods that are no more, whose samples are still in the window.
    gone: Vec<Target>,
    history: History,
    last_active: Option<Time>,
    log: Log,
}

impl Controller {
    /// Of Knative's annotations: the target is cut to a whole number, and one pod stays, but for KEDA where that is wanted.
    pub(in crate::simulate) fn new(
        autoscaling: &Autoscaling,
        settings: &Hpa,
        keda: Option<&Keda>,
        start_replicas: u32,
    ) -> Result<Self, SimulateError> {
        settings.check()?;
        keda.map_or(Ok(()), Keda::check)?;
        if autoscaling.metric != Metric::Concurrency {
            return Err(SimulateError::Settings(
                "metric is rps; expected concurrency, which is what the HPA is given".to_owned(),
            ));
        }
        // The limit does not bound it, as it does Knative's own.
        let total = autoscaling.target.unwrap_or_else(|| autoscaling.total());
        if total < 1.0 {
            let words = format!("target is {total}; expected 1 or more: Knative cuts the HPA's to a whole number");
            return Err(SimulateError::Settings(words));
        }
        let is_kept = !keda.is_some_and(|keda| keda.scale_to_zero);
        let whole = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
        let min = whole(autoscaling.min_scale).max(i32::from(is_kept));
        let max = if autoscaling.max_scale == 0 { i32::MAX } else { whole(autoscaling.max_scale) };
        Ok(Self {
            settings: settings.clone(),
            keda: keda.cloned(),
            target: total as i64 * 1000,
            min,
            max,
            replicas: whole(start_replicas).max(min),
            targets: BTreeMap::new(),
            gone: Vec::new(),
            history: History::default(),
            last_active: None,
            log: Log::default(),
        })
    }

    fn window(&self) -> Time {
        Time::from(self.settings.rate_window) * SECOND
    }

    /// Prometheus scrapes each pod in its own second of the interval.
    fn scrape(&mut self, now: Time, fleet: &dyn Fleet) {
        let interval = Time::from(self.settings.scrape_interval);
        let window = self.window();
        let seen = fleet.scrape(now);
        let mut left: BTreeMap<usize, u32> = self.targets.iter().map(|(pods, target)| (*pods, target.count)).collect();
        for scraped in &seen {
            let target = self.targets.entry(scraped.pods).or_default();
            target.is_ready = scraped.is_ready;
            let lost = left.remove(&scraped.pods).unwrap_or_default().saturating_sub(scraped.count);
            if lost > 0 {
                self.gone.push(Target { series: target.series.clone(), count: lost, is_ready: false });
            }
            target.count = scraped.count;
            if scraped.pods as Time % interval == (now / SECOND) % interval {
                target.series.scraped(now, scraped.integral, window);
            }
        }
        for pods in left.into_keys() {
            self.gone.extend(self.targets.remove(&pods));
        }
        self.gone.retain_mut(|target| {
            target.series.forget(now, window);
            !target.series.is_over()
        });
    }

    /// What prometheus-adapter answers.
    fn of_pods(&self, view: &View) -> PodMetrics {
        let mut metrics = PodMetrics { pending: i64::from(view.live - view.ready), ..PodMetrics::default() };
        for target in self.targets.values().filter(|target| target.is_ready) {
            let count = i64::from(target.count);
            match target.series.rate(view.now, self.window()) {
                Some(rate) => {
                    metrics.sum += thousandths(rate) * count;
                    metrics.pods += count;
                }
                None => metrics.missing += count,
            }
        }
        metrics
    }

    /// What Prometheus answers to KEDA: a sum, to which what holds requests adds its own.
    fn of_all(&self, view: &View) -> f64 {
        let all = self.targets.values().chain(&self.gone);
        let rates =
            all.filter_map(|target| Some(target.series.rate(view.now, self.window())? * f64::from(target.count)));
        rates.sum::<f64>() + view.held as f64
    }

    fn sync(&mut self, view: &View) -> Result<(), SimulateError> {
        let current = self.replicas;
        let metrics = self.of_pods(view);
        let (value, measured) = match self.keda {
            Some(_) => (thousandths(self.of_all(view)), view.ready),
            None => (metrics.sum, metrics.pods as u32),
        };
        self.history.begin(view.now, current);
        // An HPA has at least one replica.
        let min = self.min.max(1);
        let desired = if current == 0 {
            0
        } else if current > self.max {
            self.max
        } else if current < min {
            min
        } else {
            let (target, tolerance) = (self.target, self.settings.tolerance);
            let wished = match self.keda {
                Some(_) => Some(by_sum(value, i32::try_from(view.live).unwrap_or(i32::MAX), target, tolerance)),
                None => by_pods(metrics, current, target, tolerance),
            };
            let wish = |desired: i32| Wish { now: view.now, current, desired: desired.max(0), min, max: self.max };
            wished.map_or(current, |desired| self.history.normalize(&self.settings, wish(desired)))
        };
        if desired != current {
            self.history.scaled(view.now, current, desired);
        }
        let missing = if self.keda.is_some() { 0 } else { metrics.missing as u32 };
        self.log.syncs.push(Sync {
            t: seconds(view.now),
            by: "hpa",
            current,
            pods: view.live,
            measured,
            missing,
            pending: view.live - view.ready,
            value,
            desired,
        });
        self.replicas = desired;
        bounded(view.now, self.replicas())
    }

    /// `RequestScale`: to zero after the cooldown, and back.
    fn poll(&mut self, view: &View) {
        let Some(keda) = self.keda.clone() else { return };
        let value = self.of_all(view);
        let current = self.replicas;
        if value > keda.activation_threshold {
            self.last_active = Some(view.now);
            self.replicas = current.max(1);
        } else if self.min == 0 {
            let cooldown = Time::from(keda.cooldown_period) * SECOND;
            if self.last_active.is_none_or(|active| active + cooldown < view.now) {
                self.replicas = 0;
            }
        }
        if self.replicas != current {
            self.log.syncs.push(Sync {
                t: seconds(view.now),
                by: "keda",
                current,
                pods: view.live,
                measured: view.ready,
                missing: 0,
                pending: view.live - view.ready,
                value: thousandths(value),
                desired: self.replicas,
            });
        }
    }
}

/// As prometheus-adapter and KEDA write values: cut.
fn thousandths(value: f64) -> i64 {
    (value * 1000.0) as i64
}

impl Control for Controller {
    fn replicas(&self) -> u32 {
        u32::try_from(self.replicas).unwrap_or(0)
    }

    /// Knative leaves the activator out of the path for the class hpa.
    fn is_proxied(&self) -> bool {
        false
    }

    fn holds(&self) -> bool {
        self.min == 0
    }

    fn is_woken(&self) -> bool {
        false
    }

    fn held(&mut self, _: &View, _: &mut Meter) -> Result<(), SimulateError> {
        Ok(())
    }

    fn became_ready(&mut self, _: &View) {}

    fn second(&mut self, view: &View, meter: &mut Meter, fleet: &dyn Fleet) -> Result<(), SimulateError> {
        meter.restart(view.now, 0.0);
        self.scrape(view.now, fleet);
        let second = view.now / SECOND;
        if second.is_multiple_of(Time::from(self.settings.sync_period)) {
            self.sync(view)?;
        }
        if self.keda.as_ref().is_some_and(|keda| second.is_multiple_of(Time::from(keda.polling_interval))) {
            self.poll(view);
        }
        Ok(())
    }

    fn log(&mut self) -> Log {
        std::mem::take(&mut self.log)
    }
}
