//! A real service while an autoscaler scales it: requests, replicas, and the concurrency that decides, over time.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingBackend};
use plotters::style::{IntoFont as _, WHITE};

use super::panel::{Line, Shade, panel};
use super::{BLUE, Drawing, FAMILY, Format, GREEN, GREY, ORANGE, PictureError, failed, render};

/// What was seen of a service at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Seconds since the first.
    pub t: f64,
    /// Requests a second since the observation before.
    pub rate: f64,
    /// Requests in flight, on average since the observation before.
    pub in_flight: f64,
    /// The autoscaler's average over its stable window.
    pub stable: f64,
    /// Its average over the panic window.
    pub panic: f64,
    /// Panic mode.
    pub panicking: bool,
    /// Replicas that the autoscaler wants.
    pub desired: f64,
    /// Replicas that take requests.
    pub ready: f64,
}

/// Draws what was seen, in the order of its times.
///
/// # Errors
/// [`PictureError`], where a backend fails.
pub fn observed(title: &str, seen: &[Observation], format: Format) -> Result<Vec<u8>, PictureError> {
    render(&Observed { title, seen }, format)
}

struct Observed<'a> {
    title: &'a str,
    seen: &'a [Observation],
}

impl Observed<'_> {
    fn points(&self, value: fn(&Observation) -> f64) -> Vec<(f64, f64)> {
        self.seen.iter().map(|one| (one.t, value(one))).collect()
    }

    /// As steps: between two observations a replica is there or it is not.
    fn steps(&self, value: fn(&Observation) -> f64) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(self.seen.len() * 2);
        for (t, value) in self.points(value) {
            points.extend(points.last().map(|&(_, before)| (t, before)));
            points.push((t, value));
        }
        points
    }

    fn panic_mode(&self) -> Vec<(f64, f64)> {
        let mut stretches: Vec<(f64, f64)> = Vec::new();
        let mut before = None;
        for one in self.seen {
            match (before, stretches.last_mut()) {
                (Some(true), Some(last)) => last.1 = one.t,
                _ if one.panicking => stretches.push((one.t, one.t)),
                _ => {}
            }
            before = Some(one.panicking);
        }
        stretches
    }
}

impl Drawing for Observed<'_> {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), PictureError> {
        area.fill(&WHITE).map_err(failed)?;
        let area = area.titled(self.title, (FAMILY, 20).into_font()).map_err(failed)?;
        let panels = area.split_evenly((3, 1));
        let right = self.seen.last().map_or(1.0, |one| one.t).max(1.0);
        let rate = Line { name: "rate", colour: BLUE, points: self.points(|one| one.rate) };
        panel(&panels[0], "requests a second", right, &[rate], None)?;
        let replicas = [
            Line { name: "wanted", colour: ORANGE, points: self.steps(|one| one.desired) },
            Line { name: "ready", colour: GREEN, points: self.steps(|one| one.ready) },
        ];
        let panic_mode = Shade { name: "panic mode", stretches: self.panic_mode() };
        panel(&panels[1], "replicas", right, &replicas, Some(&panic_mode))?;
        let concurrency = [
            Line { name: "in flight", colour: GREY, points: self.points(|one| one.in_flight) },
            Line { name: "panic window", colour: ORANGE, points: self.points(|one| one.panic) },
            Line { name: "stable window", colour: BLUE, points: self.points(|one| one.stable) },
        ];
        panel(&panels[2], "concurrency", right, &concurrency, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Vec<Observation> {
        let nothing = Observation {
            t: 0.0,
            rate: 0.0,
            in_flight: 0.0,
            stable: 0.0,
            panic: 0.0,
            panicking: false,
            desired: 0.0,
            ready: 0.0,
        };
        (0..10)
            .map(|second| Observation { t: f64::from(second), panicking: (2..5).contains(&second), ..nothing })
            .map(|one| Observation { desired: if one.panicking { 8.0 } else { 0.0 }, ..one })
            .collect()
    }

    #[test]
    fn replicas_are_steps_and_panic_mode_is_one_stretch() {
        let seen = seen();
        let observed = Observed { title: "", seen: &seen };
        assert_eq!(observed.panic_mode(), [(2.0, 5.0)]);
        let steps = observed.steps(|one| one.desired);
        assert!(steps.windows(2).all(|pair| pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1), "{steps:?}");
        assert_eq!(steps.iter().filter(|&&point| point == (2.0, 8.0)).count(), 1, "{steps:?}");
    }

    #[test]
    fn both_formats_show_something() {
        let svg = String::from_utf8(observed("The page", &seen(), Format::Svg).expect("drawn")).expect("text");
        for text in ["The page", "wanted", "panic mode", "stable window"] {
            assert!(svg.contains(text), "{text}");
        }
        let png = observed("The page", &seen(), Format::Png).expect("drawn");
        assert_eq!(image::load_from_memory(&png).expect("a PNG").to_rgb8().dimensions(), (1000, 640));
    }

    #[test]
    fn nothing_seen_is_an_empty_picture() {
        observed("", &[], Format::Svg).expect("drawn");
    }
}
