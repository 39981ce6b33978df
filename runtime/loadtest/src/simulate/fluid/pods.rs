//! The pods of a fluid, in groups that are equally full.
//!
//! A request stays with the pod that it was given to. So pods that have become ready are empty beside those that are too full, until
//! both are alike, and pods that end work off what they have.

use std::collections::{BTreeMap, VecDeque};

use super::super::Time;
use super::super::control::{Fleet, Scraped};

/// Groups are one when their pods differ by less, as a share and in requests.
const ALIKE: f64 = 0.02;

/// When requests came, and how many, the oldest first.
pub(super) type Queue = VecDeque<(Time, f64)>;

/// Pods that are equally full.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) count: u32,
    /// Requests of all of them.
    pub(super) in_flight: f64,
    pub(super) queue: Queue,
    /// Request-seconds of each pod inside its server, since the group began.
    pub(super) integral: f64,
    pub(super) is_ready: bool,
}

impl Group {
    pub(super) fn each(&self) -> f64 {
        self.in_flight / f64::from(self.count.max(1))
    }

    pub(super) fn come(&mut self, at: Time, requests: f64) {
        if requests > 0.0 {
            self.in_flight += requests;
            self.queue.push_back((at, requests));
        }
    }

    /// Takes a share of the requests out, the same of each age.
    fn split(&mut self, count: u32) -> Self {
        let share = f64::from(count) / f64::from(self.count);
        let queue = self.queue.iter().map(|&(at, requests)| (at, requests * share)).collect();
        self.queue.iter_mut().for_each(|(_, requests)| *requests *= 1.0 - share);
        let in_flight = self.in_flight * share;
        self.in_flight -= in_flight;
        self.count -= count;
        Self { count, in_flight, queue, integral: self.integral, is_ready: false }
    }
}

/// Pods that became ready together.
#[derive(Debug)]
struct Cohort {
    id: usize,
    count: u32,
    group: usize,
    /// What a pod has more than its group.
    offset: f64,
}

#[derive(Debug, Default)]
pub(super) struct Pods {
    /// When they will be ready, and how many.
    pub(super) starting: VecDeque<(Time, u32)>,
    cohorts: Vec<Cohort>,
    pub(super) groups: BTreeMap<usize, Group>,
    pub(super) started: u64,
    next: usize,
}

impl Fleet for Pods {
    fn scrape(&self, _: Time) -> Vec<Scraped> {
        let seen = |cohort: &Cohort| Scraped {
            pods: cohort.id,
            count: cohort.count,
            integral: cohort.offset + self.groups.get(&cohort.group).map_or(0.0, |group| group.integral),
            is_ready: true,
        };
        self.cohorts.iter().map(seen).collect()
    }
}

impl Pods {
    pub(super) fn ready(&self) -> u32 {
        self.cohorts.iter().map(|cohort| cohort.count).sum()
    }

    pub(super) fn live(&self) -> u32 {
        self.ready() + self.starting.iter().map(|(_, count)| *count).sum::<u32>()
    }

    /// Requests in all pods, the ending ones included.
    pub(super) fn in_flight(&self) -> f64 {
        self.groups.values().map(|group| group.in_flight).sum()
    }

    /// Those that are ready, the emptiest first.
    pub(super) fn emptiest(&self) -> Vec<usize> {
        let mut all: Vec<(f64, usize)> =
            self.groups.iter().filter(|(_, group)| group.is_ready).map(|(key, group)| (group.each(), *key)).collect();
        all.sort_by(|left, right| left.0.total_cmp(&right.0));
        all.into_iter().map(|(_, key)| key).collect()
    }

    /// New pods, with what was held for them: in one queue before all pods, or given away at once.
    pub(super) fn become_ready(&mut self, count: u32, mut held: Queue, is_pooled: bool) {
        let first = if is_pooled || held.is_empty() { count } else { 1 };
        for count in [first, count - first].into_iter().filter(|count| *count > 0) {
            let queue = std::mem::take(&mut held);
            let in_flight = queue.iter().map(|(_, requests)| *requests).sum();
            self.groups.insert(self.next, Group { count, in_flight, queue, integral: 0.0, is_ready: true });
            self.cohorts.push(Cohort { id: self.next, count, group: self.next, offset: 0.0 });
            self.next += 1;
        }
        self.merge(is_pooled);
    }

    /// As a ReplicaSet: those that start first, then the youngest.
    pub(super) fn remove(&mut self, mut count: u32) {
        while let Some((_, starting)) = self.starting.back_mut().filter(|_| count > 0) {
            let taken = count.min(*starting);
            *starting -= taken;
            count -= taken;
            if *starting == 0 {
                self.starting.pop_back();
            }
        }
        while let Some(cohort) = self.cohorts.last_mut().filter(|_| count > 0) {
            let taken = count.min(cohort.count);
            cohort.count -= taken;
            count -= taken;
            if let Some(group) = self.groups.get_mut(&cohort.group) {
                let ending = group.split(taken);
                self.groups.insert(self.next, ending);
                self.next += 1;
            }
            if cohort.count == 0 {
                self.cohorts.pop();
            }
        }
        self.groups.retain(|_, group| group.count > 0);
    }

    /// Ready groups that are alike become one, all of them where requests wait in one queue before the pods; ending ones that are
    /// empty go.
    pub(super) fn merge(&mut self, is_pooled: bool) {
        self.groups.retain(|_, group| group.is_ready || group.in_flight > 0.0);
        let ready = self.emptiest();
        let mut into = 0;
        for place in 1..ready.len() {
            let (left, right) = (&self.groups[&ready[into]], &self.groups[&ready[place]]);
            if is_pooled || right.each() - left.each() <= ALIKE * (1.0 + right.each()) {
                self.join(ready[into], ready[place]);
            } else {
                into = place;
            }
        }
    }

    fn join(&mut self, into: usize, from: usize) {
        let Some(from_group) = self.groups.remove(&from) else { return };
        let Some(group) = self.groups.get_mut(&into) else { return };
        for cohort in self.cohorts.iter_mut().filter(|cohort| cohort.group == from) {
            cohort.group = into;
            cohort.offset += from_group.integral - group.integral;
        }
        group.count += from_group.count;
        group.in_flight += from_group.in_flight;
        group.queue.extend(from_group.queue);
        group.queue.make_contiguous().sort_by_key(|(at, _)| *at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_pods_are_empty_until_they_are_like_the_others() {
        let mut pods = Pods::default();
        pods.become_ready(4, Queue::new(), false);
        pods.groups.values_mut().for_each(|group| group.come(1, 40.0));
        pods.become_ready(6, Queue::new(), false);
        assert_eq!(pods.emptiest().iter().map(|key| pods.groups[key].each()).collect::<Vec<_>>(), [0.0, 10.0]);
        assert_eq!((pods.ready(), pods.in_flight()), (10, 40.0));
        // In one queue before the pods, all are alike at once.
        pods.merge(true);
        assert_eq!(pods.emptiest().iter().map(|key| pods.groups[key].each()).collect::<Vec<_>>(), [4.0]);
        assert_eq!(pods.scrape(0).iter().map(|seen| seen.count).collect::<Vec<_>>(), [4, 6]);
    }

    #[test]
    fn the_youngest_end_with_what_they_have() {
        let mut pods = Pods::default();
        pods.become_ready(2, Queue::from([(1, 3.0)]), false);
        // What was held goes to the first that is there.
        assert_eq!(pods.emptiest().iter().map(|key| pods.groups[key].each()).collect::<Vec<_>>(), [0.0, 3.0]);
        pods.merge(true);
        pods.starting.push_back((9, 5));
        pods.remove(6);
        assert_eq!((pods.ready(), pods.live(), pods.in_flight()), (1, 1, 3.0));
        let ending: Vec<f64> = pods.groups.values().filter(|group| !group.is_ready).map(Group::each).collect();
        assert_eq!(ending, [1.5]);
    }
}
