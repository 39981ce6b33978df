//! The pods of a revision, and how a request finds one.

use std::collections::{BTreeSet, VecDeque};

use super::control::{Fleet, Scraped, seconds};
use super::{PodModel, Time};

/// Requests that wait in a pod's proxy beyond its limit: ten times the limit.
const PROXY_QUEUE: u32 = 10;

/// Limits up to which the activator fills one pod after the other; beyond, it takes turns.
const FIRST_AVAILABLE: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Ready,
    Terminating,
    Gone,
}

/// One pod.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) state: State,
    created: Time,
    ready_at: Time,
    /// Requests that it works on.
    running: u32,
    /// Arrivals of those that wait in it.
    queue: VecDeque<Time>,
    /// Request-µs of requests inside the server, until `since`.
    area: u64,
    since: Time,
}

impl Pod {
    fn in_flight(&self) -> u32 {
        self.running + self.queue.len() as u32
    }

    /// What its server counts: what its proxy holds back beyond the limit is not there yet.
    fn area(&self, now: Time, limit: u32) -> u64 {
        let inside = if limit == 0 { self.in_flight() } else { self.in_flight().min(limit) };
        self.area + u64::from(inside) * (now - self.since)
    }

    /// Before its requests change.
    fn count(&mut self, now: Time, limit: u32) {
        self.area = self.area(now, limit);
        self.since = now;
    }
}

/// All pods there ever were; a pod is its place in this list.
#[derive(Debug)]
pub(super) struct Pods {
    all: Vec<Pod>,
    /// In the order of their creation.
    starting: Vec<usize>,
    ready: Vec<usize>,
    terminating: Vec<usize>,
    /// Ready pods below the limit; unused without one.
    available: BTreeSet<usize>,
    limit: u32,
    parallelism: u32,
    turn: usize,
    pub(super) waiting: u64,
    /// In µs, of the pods that are gone.
    alive: u64,
    alive_ready: u64,
}

impl Pods {
    pub(super) fn new(model: &PodModel, container_concurrency: u32) -> Self {
        let limit = container_concurrency;
        Self {
            all: Vec::new(),
            starting: Vec::new(),
            ready: Vec::new(),
            terminating: Vec::new(),
            available: BTreeSet::new(),
            limit,
            parallelism: model.width(limit),
            turn: 0,
            waiting: 0,
            alive: 0,
            alive_ready: 0,
        }
    }

    pub(super) fn ready(&self) -> u32 {
        self.ready.len() as u32
    }

    /// Starting and ready ones.
    pub(super) fn live(&self) -> u32 {
        (self.starting.len() + self.ready.len()) as u32
    }

    pub(super) fn started(&self) -> u64 {
        self.all.len() as u64
    }

    pub(super) fn start(&mut self, now: Time) -> usize {
        let pod = self.all.len();
        self.all.push(Pod {
            state: State::Starting,
            created: now,
            ready_at: Time::MAX,
            running: 0,
            queue: VecDeque::new(),
            area: 0,
            since: now,
        });
        self.starting.push(pod);
        pod
    }

    /// Whether it was still wanted.
    pub(super) fn becomes_ready(&mut self, pod: usize, now: Time) -> bool {
        if self.all[pod].state != State::Starting {
            return false;
        }
        self.all[pod].state = State::Ready;
        self.all[pod].ready_at = now;
        self.starting.retain(|known| *known != pod);
        self.ready.push(pod);
        if self.limit > 0 {
            self.available.insert(pod);
        }
        true
    }

    /// Takes one away as a ReplicaSet does: one that is not ready before one that is, the youngest first.
    pub(super) fn remove_one(&mut self, now: Time) {
        if let Some(pod) = self.starting.pop() {
            self.gone(pod, now);
        } else if let Some(pod) = self.ready.pop() {
            self.available.remove(&pod);
            self.all[pod].state = State::Terminating;
            self.terminating.push(pod);
            if self.all[pod].in_flight() == 0 {
                self.gone(pod, now);
            }
        }
    }

    fn gone(&mut self, pod: usize, now: Time) {
        self.terminating.retain(|known| *known != pod);
        let pod = &mut self.all[pod];
        pod.state = State::Gone;
        self.alive += now - pod.created;
        self.alive_ready += now.saturating_sub(pod.ready_at);
    }

    /// The activator's choice; none where every pod is at its limit, or there is none.
    pub(super) fn by_activator(&mut self, random: &mut fastrand::Rng) -> Option<usize> {
        if self.limit == 0 {
            return self.better_of_two(random);
        }
        let pod = if self.limit <= FIRST_AVAILABLE {
            self.available.first().copied()
        } else {
            self.available.range(self.turn..).next().or_else(|| self.available.first()).copied()
        }?;
        self.turn = pod + 1;
        Some(pod)
    }

    /// The one with fewer requests of two.
    fn better_of_two(&self, random: &mut fastrand::Rng) -> Option<usize> {
        let count = self.ready.len();
        if count < 2 {
            return self.ready.first().copied();
        }
        let first = random.usize(..count);
        let second = (first + 1 + random.usize(..count - 1)) % count;
        let (first, second) = (self.ready[first], self.ready[second]);
        let busy = |pod: usize| self.all[pod].in_flight();
        Some(if busy(second) < busy(first) { second } else { first })
    }

    /// The Service's choice, which knows nothing of load: any ready pod. `Err` where its proxy's queue is full.
    pub(super) fn by_service(&self, random: &mut fastrand::Rng) -> Option<Result<usize, ()>> {
        let pod = *self.ready.get(random.usize(..self.ready.len().max(1)))?;
        let is_full = self.limit > 0 && self.all[pod].in_flight() >= self.limit * (1 + PROXY_QUEUE);
        Some(if is_full { Err(()) } else { Ok(pod) })
    }

    /// Requests that a pod works on.
    pub(super) fn running(&self, pod: usize) -> u32 {
        self.all[pod].running
    }

    /// Gives a pod a request; whether it begins at once.
    pub(super) fn give(&mut self, pod: usize, arrived: Time, now: Time) -> bool {
        self.all[pod].count(now, self.limit);
        let begins = self.all[pod].running < self.parallelism;
        if begins {
            self.all[pod].running += 1;
        } else {
            self.all[pod].queue.push_back(arrived);
            self.waiting += 1;
        }
        if self.limit > 0 && self.all[pod].in_flight() >= self.limit {
            self.available.remove(&pod);
        }
        begins
    }

    /// A request has ended; answers the arrival of the one that begins instead.
    pub(super) fn ends(&mut self, pod: usize, now: Time) -> Option<Time> {
        self.all[pod].count(now, self.limit);
        let next = self.all[pod].queue.pop_front();
        if next.is_some() {
            self.waiting -= 1;
        } else {
            self.all[pod].running -= 1;
        }
        match self.all[pod].state {
            State::Terminating if self.all[pod].in_flight() == 0 => self.gone(pod, now),
            State::Ready if self.limit > 0 && self.all[pod].in_flight() < self.limit => {
                self.available.insert(pod);
            }
            _ => {}
        }
        next
    }

    /// µs that all pods have been there, and been ready, until `now`.
    pub(super) fn alive(&self, now: Time) -> (u64, u64) {
        let there = self.all.iter().filter(|pod| pod.state != State::Gone);
        there.fold((self.alive, self.alive_ready), |(alive, ready), pod| {
            (alive + (now - pod.created), ready + now.saturating_sub(pod.ready_at))
        })
    }
}

impl Fleet for Pods {
    fn scrape(&self, now: Time) -> Vec<Scraped> {
        let seen = |pod: usize, is_ready| {
            let integral = seconds(self.all[pod].area(now, self.limit));
            Scraped { pods: pod, count: 1, integral, is_ready }
        };
        let ready = self.ready.iter().map(|&pod| seen(pod, true));
        ready.chain(self.terminating.iter().map(|&pod| seen(pod, false))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ServiceTime;
    use super::*;

    fn pods(limit: u32, parallelism: u32, ready: usize) -> Pods {
        let model =
            PodModel { parallelism, service_time: ServiceTime::Constant(1.0), cold_start: Duration::from_secs(1) };
        let mut pods = Pods::new(&model, limit);
        for _ in 0..ready {
            let pod = pods.start(0);
            assert!(pods.becomes_ready(pod, 10));
        }
        pods
    }

    #[test]
    fn small_limits_fill_one_pod_after_the_other_and_large_ones_take_turns() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut chosen = |limit: u32, requests: usize| -> Vec<Option<usize>> {
            let mut pods = pods(limit, 1, 3);
            (0..requests).map(|_| pods.by_activator(&mut random).inspect(|&pod| _ = pods.give(pod, 0, 0))).collect()
        };
        assert_eq!(chosen(2, 7), [Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), None]);
        assert_eq!(chosen(4, 5), [Some(0), Some(1), Some(2), Some(0), Some(1)]);
    }

    #[test]
    fn without_a_limit_the_less_busy_of_two_is_taken() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut pods = pods(0, 1, 2);
        pods.give(0, 0, 0);
        pods.give(0, 0, 0);
        assert!((0..20).all(|_| pods.by_activator(&mut random) == Some(1)));
        assert_eq!(pods.waiting, 1);
    }

    #[test]
    fn a_pod_that_ends_works_off_what_it_has() {
        let mut pods = pods(0, 1, 2);
        assert!(pods.give(1, 5, 5));
        assert!(!pods.give(1, 6, 6));
        pods.remove_one(100);
        assert_eq!(pods.ready(), 1);
        assert_eq!(pods.ends(1, 150), Some(6));
        assert_eq!(pods.ends(1, 200), None);
        assert_eq!(pods.all[1].state, State::Gone);
        assert_eq!(pods.alive(300), (300 + 200, 290 + 190));
        let starting = pods.start(300);
        pods.remove_one(300);
        assert!(!pods.becomes_ready(starting, 400), "the one that was not ready went first");
    }

    #[test]
    fn a_proxy_s_queue_has_an_end() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut pods = pods(2, 8, 1);
        let taken = std::iter::from_fn(|| pods.by_service(&mut random)?.ok().inspect(|&pod| _ = pods.give(pod, 0, 0)));
        assert_eq!(taken.count(), 22);
    }
}
