//! What to tell Knative, tried before it is said: every target is replayed against the autoscaler, and one at which replicas swing or
//! requests are too slow is not recommended.
//!
//! The knee of a closed loop is no target: its callers wait for their answers, and the requests of a service do not. A pod that is kept
//! at more requests than it works on at the same time has a queue that grows, which the autoscaler sees as load and answers by too many
//! replicas, then by too few. So a target times its utilisation is at most that number, and as much less as open arrivals demand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::schedule::Arrivals;
use crate::simulate::{Autoscaling, Outcome, PodModel, Scenario, ServiceTime, SimulateError, Tick, Trace, simulate};
use crate::sweep::{Objective, Step, knee, throughput_at};

/// From one target to the next that is tried.
const LESS: f64 = 0.85;
/// So many are tried: the last is a tenth of the first.
const TRIES: u32 = 15;
/// Replicas that the loads of a replay take, where nobody says how much comes: enough to see one too many.
const REPLICAS: f64 = 4.0;
/// The most replicas of a replay.
const MOST_REPLICAS: f64 = 10.0;
/// Requests a second of a replay, at most: more are replayed by slower pods and fewer requests, which the autoscaler cannot tell apart.
const MOST_RATE: f64 = 500.0;
/// How slow pods are made for that at most, in milliseconds of one request: far below the autoscaler's seconds.
const SLOWEST: f64 = 50.0;
/// And one that took longest, in milliseconds: what is a moment of a fast server must not become a time that the autoscaler sees.
const LONGEST: f64 = 250.0;
/// The autoscaler's stable window, in seconds.
const WINDOW: f64 = 60.0;
/// A revision's default.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Below this a request takes longer in the proxies than in the server, in milliseconds.
const FAST: f64 = 1.0;
/// Requests that a proxy hands on in a millisecond, about: what Knative's queue-proxy was seen to do on a core (`tests/knative`).
const PROXY_RATE: f64 = 8.0;
/// Not even a target of a server that is so fast: at one request in flight nearly all of its time is the proxies', and the server waits.
const TOO_LITTLE_OF_FAST: f64 = 1.0;

/// What is known of the server besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server {
    /// Requests that it runs at once: the largest batch times the instances, where that is known.
    pub batch_slots: Option<usize>,
    /// From when a pod is asked for to when it is ready.
    pub cold_start: Duration,
    /// What the proxies in front of a pod will add to each request, where the measured load did not go through them: the autoscaler
    /// counts a request for as long as Knative's queue-proxy has it.
    pub proxy_time: Duration,
    /// The measured load went through proxies.
    pub is_proxied: bool,
}

/// What is to be recommended for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// As measured.
    pub steps: &'a [Step],
    /// The latency that must hold.
    pub objective: Option<&'a Objective>,
    /// Of the target, what the autoscaler aims for.
    pub utilization_percentage: f64,
    /// Requests a second of the whole service.
    pub rate: Option<f64>,
    /// The server.
    pub server: Server,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Advice {
    /// The greatest target that holds; none where none does.
    pub recommendation: Option<Recommendation>,
    /// Then the best that was tried.
    pub rejected: Option<Rejected>,
    /// The replays of whichever it is, for pictures.
    pub outcomes: Vec<(String, Outcome)>,
}

/// What to tell Knative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Requests in flight at the knee of the sweep.
    pub knee: usize,
    /// Good answers a second there.
    pub knee_rps: f64,
    /// `containerConcurrency`: the most requests that a pod is given at once.
    pub container_concurrency: usize,
    /// `autoscaling.knative.dev/target`.
    pub target: f64,
    /// `autoscaling.knative.dev/target-utilization-percentage`.
    pub target_utilization_percentage: f64,
    /// What the autoscaler keeps a pod at: target times utilisation.
    pub effective_concurrency: f64,
    /// Good answers a second of one pod at that concurrency.
    pub rps_per_replica: f64,
    /// The rate that was asked about.
    pub rate: Option<f64>,
    /// Replicas for it.
    pub replicas: Option<u64>,
    /// Milliseconds of a request that is alone: the median at the least concurrency.
    pub service_time_ms: f64,
    /// Requests that the server works on at the same time: its greatest throughput over that of one caller alone.
    pub parallelism: usize,
    /// What the autoscaler makes of it, under each of the loads.
    #[serde(default)]
    pub replays: Vec<Replay>,
    /// What to mind.
    pub warnings: Vec<String>,
}

/// What is not recommended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// What was tried.
    #[serde(flatten)]
    pub tried: Recommendation,
    /// Why not, in one line.
    pub reason: String,
}

/// One load against the autoscaler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// `steady`, `step`, `sawtooth` or `poisson`.
    pub load: String,
    /// The fewest replicas once the first stable window is over.
    pub pods_min: u32,
    /// The most.
    pub pods_max: u32,
    /// From arrival to answer, in milliseconds.
    pub p95_ms: f64,
    /// Whether replicas come and go though what is asked for stays.
    pub oscillates: bool,
    /// Whether the latency holds, and every request is answered.
    pub objective_met: bool,
}

impl Replay {
    fn holds(&self) -> bool {
        !self.oscillates && self.objective_met
    }
}

/// A load of a replay.
struct Load {
    name: &'static str,
    /// From which second on, and what part of the rate.
    parts: Vec<(f64, f64)>,
    seconds: f64,
    arrivals: Arrivals,
    /// From when on replicas are looked at: a stable window after what came before.
    settled: f64,
    /// How far above those of the greatest rate they may go.
    above: f64,
}

/// Recommends from the steps; nothing where no step was good.
///
/// # Errors
/// Where the simulation is not possible.
pub fn advise(question: Question<'_>) -> Result<Advice, SimulateError> {
    let Some(first) = first(question) else { return Ok(Advice::default()) };
    let mut best: Option<(Recommendation, Vec<(String, Outcome)>)> = None;
    for tries in 0..TRIES {
        let tried = at(question, &first, LESS.powi(tries.cast_signed()));
        let is_too_little = tried.service_time_ms < FAST && tried.target <= TOO_LITTLE_OF_FAST;
        let (tried, outcomes) = replayed(question, tried)?;
        if is_too_little {
            best = best.or(Some((tried, outcomes)));
            break;
        }
        if tried.replays.iter().all(Replay::holds) {
            return Ok(Advice { recommendation: Some(tried), rejected: None, outcomes });
        }
        let held = |tried: &Recommendation| tried.replays.iter().filter(|replay| replay.holds()).count();
        if best.as_ref().is_none_or(|(best, _)| held(&tried) > held(best)) {
            best = Some((tried, outcomes));
        }
    }
    let Some((tried, outcomes)) = best else { return Ok(Advice::default()) };
    let rejected = Rejected { reason: reason(&tried, question.objective), tried };
    Ok(Advice { recommendation: None, rejected: Some(rejected), outcomes })
}

/// Why it does not hold.
fn reason(tried: &Recommendation, objective: Option<&Objective>) -> String {
    let of = |is: fn(&Replay) -> bool| {
        let names: Vec<&str> =
            tried.replays.iter().filter(|replay| is(replay)).map(|replay| replay.load.as_str()).collect();
        names.join(", ")
    };
    let (swings, misses) = (of(|replay| replay.oscillates), of(|replay| !replay.objective_met));
    let limit = objective.map_or_else(
        || "requests are lost".to_owned(),
        |objective| format!("{} of {} ms is missed", objective.percentile, objective.limit_ms),
    );
    match (swings.is_empty(), misses.is_empty()) {
        (true, true) => "of so fast a model it would leave the server waiting for the proxies".to_owned(),
        (false, false) => format!("replicas swing under {swings}, and {limit} under {misses}"),
        (false, true) => format!("replicas swing under {swings}"),
        _ => format!("{limit} under {misses}: at no target it holds while replicas come and go"),
    }
}

/// What follows from the sweep alone, with the greatest target that can hold.
fn first(question: Question<'_>) -> Option<Recommendation> {
    let Question { steps, objective, utilization_percentage, rate, server } = question;
    let knee = knee(steps, objective)?;
    let mut warnings = Vec::new();
    let mut container_concurrency = knee.concurrency;
    match server.batch_slots {
        Some(slots) if slots > knee.concurrency => {
            warnings.push(format!(
                "the knee is at {} requests, but the server batches up to {slots} (largest batch × instances): \
                 containerConcurrency is {slots}, since less would keep its batches from filling",
                knee.concurrency
            ));
            container_concurrency = slots;
        }
        Some(_) => {}
        None => warnings.push(
            "containerConcurrency must be 0 or at least the largest batch × instances of the model, or its batches \
             never fill; the server does not say what that is"
                .to_owned(),
        ),
    }
    let is_last = steps.iter().all(|step| step.concurrency <= knee.concurrency);
    if is_last && steps.len() > 1 {
        warnings.push(format!(
            "the largest concurrency that was measured, {}, is still good: the knee may lie beyond it",
            knee.concurrency
        ));
    }
    let least = steps.iter().filter(|step| step.report.answered > 0).min_by_key(|step| step.concurrency)?;
    let service_time_ms = least.report.latency.p50_ms;
    let greatest = steps.iter().map(|step| step.report.rps).fold(0.0, f64::max);
    let of_one = least.report.rps / least.concurrency as f64;
    let parallelism = ((greatest / of_one).round() as usize).max(1);
    warnings.extend((service_time_ms < FAST).then(|| of_fast(service_time_ms, server)));
    Some(Recommendation {
        knee: knee.concurrency,
        knee_rps: knee.report.rps,
        container_concurrency,
        target: 0.0,
        target_utilization_percentage: utilization_percentage,
        effective_concurrency: worked_on(parallelism.min(knee.concurrency), service_time_ms, server)
            * proxied(service_time_ms, server),
        rps_per_replica: 0.0,
        rate,
        replicas: None,
        service_time_ms,
        parallelism,
        replays: Vec::new(),
        warnings,
    })
}

/// Requests that a server works on at the same time, of those that a proxy hands on fast enough.
fn worked_on(parallelism: usize, service_time_ms: f64, server: Server) -> f64 {
    match server.proxy_time.is_zero() {
        true => parallelism as f64,
        false => (parallelism as f64).min(PROXY_RATE * service_time_ms),
    }
}

/// How much longer a request is in flight for the autoscaler than for the server.
fn proxied(service_time_ms: f64, server: Server) -> f64 {
    1.0 + server.proxy_time.as_secs_f64() * 1e3 / service_time_ms.max(1e-3)
}

/// What to mind of a server that answers faster than the proxies hand on.
fn of_fast(service_time_ms: f64, server: Server) -> String {
    let microseconds = service_time_ms * 1e3;
    if server.is_proxied {
        return format!(
            "alone, a request takes {microseconds:.0} µs, proxies included: they are the limit, not the server, and more replicas \
             are more proxies"
        );
    }
    format!(
        "alone, a request takes {microseconds:.0} µs, which is less than the proxy in front of a pod takes: that is the limit, and the \
         recommendation assumes that it adds {:.1} ms to each request and hands on {:.0} a second; measure through it where there is one \
         (the ingress's URL, and --host)",
        server.proxy_time.as_secs_f64() * 1e3,
        PROXY_RATE * 1e3
    )
}

/// The same with a part of what a pod could be kept at.
fn at(question: Question<'_>, first: &Recommendation, part: f64) -> Recommendation {
    let utilization = question.utilization_percentage / 100.0;
    let target = rounded(first.effective_concurrency * part / utilization);
    // Knative takes no more than what a pod is given.
    let container_concurrency = first.container_concurrency.max(target.ceil() as usize);
    let effective_concurrency = target * utilization;
    let in_the_server = effective_concurrency / proxied(first.service_time_ms, question.server);
    let rps_per_replica = throughput_at(question.steps, in_the_server);
    let replicas = |rate: f64| (rate / rps_per_replica).ceil().max(1.0) as u64;
    Recommendation {
        target,
        container_concurrency,
        effective_concurrency,
        rps_per_replica,
        replicas: question.rate.filter(|_| rps_per_replica > 0.0).map(replicas),
        ..first.clone()
    }
}

/// Down to two digits: nobody reads more, and less is safe. Knative's least is 0.01.
fn rounded(target: f64) -> f64 {
    let unit = 10f64.powf(target.max(0.01).log10().floor() - 1.0).max(0.01);
    // What the division leaves of a whole number is not taken from it.
    let units = (target / unit + 1e-9).floor();
    let digits = (-unit.log10()).round().max(0.0);
    let scale = 10f64.powf(digits);
    ((units * unit) * scale).round() / scale
}

/// Its replays, and what the autoscaler did in them.
fn replayed(
    question: Question<'_>,
    tried: Recommendation,
) -> Result<(Recommendation, Vec<(String, Outcome)>), SimulateError> {
    let least = question.steps.iter().filter(|step| step.report.answered > 0).min_by_key(|step| step.concurrency);
    let Some(least) = least else { return Ok((tried, Vec::new())) };
    // A pod with its proxy works on more requests at a time, each of which takes longer, and answers as many.
    let delay = question.server.proxy_time.as_secs_f64() * 1e3;
    let own = ServiceTime::measured(&least.report.latency);
    let service_time = own.plus(delay);
    let alone = service_time.mean().max(1e-3);
    let own = own.mean().max(1e-3);
    let parallelism = (worked_on(tried.parallelism, own, question.server) * alone / own).round().max(1.0);
    let of_one = parallelism / alone * 1e3;
    let rate = question.rate.unwrap_or(REPLICAS * of_one).min(MOST_REPLICAS * of_one);
    let slower = (rate / MOST_RATE).clamp(1.0, (SLOWEST / alone).max(1.0));
    let service_time = service_time.times(slower, LONGEST);
    let alone = service_time.mean() / slower;
    let pod = PodModel { parallelism: parallelism as u32, service_time, cold_start: question.server.cold_start };
    let (mut replays, mut outcomes): (Vec<Replay>, Vec<_>) = (Vec::new(), Vec::new());
    for load in loads() {
        let ideal = |part: f64| part * rate * alone / 1e3 / tried.effective_concurrency;
        let scenario = Scenario {
            trace: load.trace(rate / slower)?,
            arrivals: load.arrivals,
            autoscaling: Autoscaling {
                container_concurrency: u32::try_from(tried.container_concurrency.min(1000)).unwrap_or(1000),
                target: Some(tried.target),
                target_utilization_percentage: tried.target_utilization_percentage,
                ..Autoscaling::default()
            },
            pod: pod.clone(),
            start_replicas: ideal(load.parts.first().map_or(1.0, |part| part.1)).ceil().max(1.0) as u32,
            timeout: TIMEOUT,
            seed: 1,
        };
        let outcome = simulate(&scenario)?;
        // Where service times vary, requests queue and the queue is load: more replicas than their times alone say, and steadily so.
        let steady = replays.first().map(|steady| f64::from(steady.pods_max));
        replays.push(load.judge(&outcome, question.objective, slower, ideal, steady));
        outcomes.push((load.name.to_owned(), outcome));
    }
    let steady = replays.first().map_or(0, |steady| u64::from(steady.pods_max));
    // Of a rate beyond what is replayed the replay says nothing.
    let is_whole = question.rate.is_some_and(|asked| asked <= rate);
    let replicas = tried.replicas.map(|replicas| if is_whole { replicas.max(steady) } else { replicas });
    Ok((Recommendation { replays, replicas, ..tried }, outcomes))
}

/// Rates that stay, double, rise and fall, and come in bursts.
fn loads() -> [Load; 4] {
    let sawtooth = (0..36).map(|part| (f64::from(part) * 10.0, 0.5 + f64::from(part % 12) / 22.0)).collect();
    let bursts =
        (0..8).flat_map(|burst| [(f64::from(burst) * 40.0, 0.8), (f64::from(burst) * 40.0 + 30.0, 1.2)]).collect();
    let load = |name, parts, seconds, arrivals, settled, above| Load { name, parts, seconds, arrivals, settled, above };
    [
        load("steady", vec![(0.0, 1.0)], 240.0, Arrivals::Constant, 60.0, 1.0),
        // Panic mode lasts for a window, and what was too much leaves after another.
        load("step", vec![(0.0, 0.5), (60.0, 1.0)], 360.0, Arrivals::Poisson, 240.0, 1.0),
        load("sawtooth", sawtooth, 360.0, Arrivals::Poisson, 60.0, 1.5),
        load("poisson", bursts, 320.0, Arrivals::Poisson, 60.0, 1.5),
    ]
}

impl Load {
    fn trace(&self, rate: f64) -> Result<Trace, SimulateError> {
        let rows = self.parts.iter().map(|(from, part)| format!("{from},{}\n", part * rate));
        Trace::parse(&(rows.collect::<String>() + &format!("{},0\n", self.seconds)))
    }

    /// `ideal` says how many replicas a part of the rate takes by the times alone, `steady` how many the whole of it takes in a steady
    /// load, where that is known.
    fn judge(
        &self,
        outcome: &Outcome,
        objective: Option<&Objective>,
        slower: f64,
        ideal: impl Fn(f64) -> f64,
        steady: Option<f64>,
    ) -> Replay {
        let is_settled = |tick: &&Tick| tick.t >= self.settled && tick.t < self.seconds;
        let pods: Vec<u32> = outcome.ticks.iter().filter(is_settled).map(|tick| tick.ready).collect();
        let (pods_min, pods_max) =
            (pods.iter().copied().min().unwrap_or_default(), pods.iter().copied().max().unwrap_or_default());
        // What the autoscaler still remembers when replicas are looked at first.
        let ends = self.parts.iter().skip(1).map(|(from, _)| *from).chain([self.seconds]);
        let remembered = self.parts.iter().zip(ends).filter(|(_, end)| *end > self.settled - WINDOW);
        let (least, most) = remembered
            .map(|((_, part), _)| *part)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), part| (least.min(part), most.max(part)));
        let fewest = (ideal(least).ceil() - 1.0).max(1.0);
        // Queues of random arrivals are load, too. One more and one less is no swinging.
        let greatest = match steady {
            None => f64::from(pods_min) + 2.0,
            Some(steady) => (ideal(most).max(most * steady) * self.above).ceil() + 1.0,
        };
        let summary = &outcome.summary;
        let is_answered = summary.refused == 0 && summary.timed_out == 0;
        let latency = &summary.latency;
        let is_fast = objective.is_none_or(|objective| {
            latency.named(&objective.percentile).is_some_and(|value| value / slower <= objective.limit_ms)
        });
        Replay {
            load: self.name.to_owned(),
            pods_min,
            pods_max,
            p95_ms: latency.p95_ms / slower,
            oscillates: f64::from(pods_min) < fewest || f64::from(pods_max) > greatest,
            objective_met: is_answered && is_fast,
        }
    }
}

#[cfg(test)]
mod tests;
