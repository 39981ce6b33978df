//! The greatest desired scale of a while: how `scale-down-delay` holds one back.

use std::collections::VecDeque;

/// Seconds between ticks, which are this window's buckets.
const TICK: i64 = 2;

/// Values in falling order, the greatest first: none that follows a greater one can be the greatest before it is gone.
#[derive(Clone, Debug)]
pub(super) struct DelayWindow {
    maxima: VecDeque<(i64, i32)>,
    buckets: i64,
}

impl DelayWindow {
    /// None for no delay, which is not the same as one of one bucket.
    pub(super) fn new(seconds: u32) -> Option<Self> {
        let buckets = i64::from(seconds.div_ceil(TICK as u32));
        (seconds > 0).then(|| Self { maxima: VecDeque::new(), buckets })
    }

    /// Records at a second; answers the greatest within the window.
    pub(super) fn record(&mut self, second: i64, value: i32) -> i32 {
        let index = second.div_euclid(TICK);
        while self.maxima.back().is_some_and(|&(_, known)| value >= known) {
            self.maxima.pop_back();
        }
        while self.maxima.front().is_some_and(|&(known, _)| index - known >= self.buckets) {
            self.maxima.pop_front();
        }
        match self.maxima.back().copied() {
            // Two in one bucket: the greater stays.
            Some((known, greater)) if known == index => {
                self.maxima.pop_back();
                self.maxima.push_back((index, greater.max(value)));
            }
            _ => self.maxima.push_back((index, value)),
        }
        self.maxima.front().map_or(value, |&(_, greatest)| greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_of_the_window_is_kept() {
        let mut window = DelayWindow::new(6).expect("a delay");
        let seen: Vec<i32> = [(0, 5), (2, 8), (4, 3), (6, 2), (8, 1), (10, 1), (12, 1)]
            .map(|(second, value)| window.record(second, value))
            .to_vec();
        assert_eq!(seen, [5, 8, 8, 8, 3, 2, 1]);
        assert_eq!(window.record(13, 0), 1, "the same bucket as 12");
        assert!(DelayWindow::new(0).is_none());
    }
}
