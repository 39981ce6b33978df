//! A simulation: the rate, the replicas, and the requests in flight, over time.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingBackend};
use plotters::style::{IntoFont as _, RGBColor, WHITE};

use super::panel::{Line, panel};
use super::{BLUE, Drawing, FAMILY, Format, GREEN, ORANGE, PictureError, failed, render};
use crate::simulate::{Outcome, Tick};

/// Points of one line, at most: more than a picture is wide.
const MAX_POINTS: usize = 4000;

/// Draws an outcome.
///
/// # Errors
/// [`PictureError`], where a backend fails.
pub fn replay(title: &str, outcome: &Outcome, format: Format) -> Result<Vec<u8>, PictureError> {
    // The greatest of each stretch is kept, so that no peak is lost.
    let stretch = outcome.ticks.len().div_ceil(MAX_POINTS).max(1);
    render(&Replay { title, ticks: &outcome.ticks, stretch }, format)
}

/// A name, a colour, and what it shows of a tick.
type Shown<'a> = (&'a str, RGBColor, fn(&Tick) -> f64);

struct Replay<'a> {
    title: &'a str,
    ticks: &'a [Tick],
    stretch: usize,
}

impl Replay<'_> {
    fn panel<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        unit: &str,
        shown: &[Shown<'_>],
    ) -> Result<(), PictureError> {
        let right = self.ticks.last().map_or(1.0, |tick| tick.t).max(1.0);
        let lines: Vec<Line<'_>> = shown
            .iter()
            .map(|&(name, colour, value)| {
                let points = self.ticks.chunks(self.stretch).map(|ticks| {
                    let greatest = ticks.iter().map(value).fold(0.0, f64::max);
                    (ticks[0].t, greatest)
                });
                Line { name, colour, points: points.collect() }
            })
            .collect();
        panel(area, unit, right, &lines, None)
    }
}

impl Drawing for Replay<'_> {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), PictureError> {
        area.fill(&WHITE).map_err(failed)?;
        let area = area.titled(self.title, (FAMILY, 20).into_font()).map_err(failed)?;
        let panels = area.split_evenly((3, 1));
        self.panel(&panels[0], "requests a second", &[("rate", BLUE, |tick| tick.rate)])?;
        self.panel(
            &panels[1],
            "replicas",
            &[("asked for", ORANGE, |tick| f64::from(tick.replicas)), ("ready", GREEN, |tick| f64::from(tick.ready))],
        )?;
        self.panel(
            &panels[2],
            "requests",
            &[("in flight", BLUE, |tick| tick.in_flight as f64), ("waiting", ORANGE, |tick| tick.queued as f64)],
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Arrivals;
    use crate::simulate::{Autoscaling, PodModel, Scenario, ServiceTime, Trace, simulate};

    #[test]
    fn both_formats_show_something() {
        let scenario = Scenario {
            trace: Trace::parse("0,5\n30,50\n60,0\n90,0").expect("valid"),
            arrivals: Arrivals::Constant,
            autoscaling: Autoscaling { target: Some(1.0), ..Autoscaling::default() },
            pod: PodModel {
                parallelism: 1,
                service_time: ServiceTime::Constant(50.0),
                cold_start: Duration::from_secs(2),
            },
            start_replicas: 1,
            timeout: Duration::from_secs(300),
            seed: 1,
        };
        let outcome = simulate(&scenario).expect("runs");
        let svg = String::from_utf8(replay("A burst", &outcome, Format::Svg).expect("drawn")).expect("text");
        for text in ["A burst", "asked for", "requests a second", "seconds"] {
            assert!(svg.contains(text), "{text}");
        }
        let png = replay("A burst", &outcome, Format::Png).expect("drawn");
        let picture = image::load_from_memory(&png).expect("a PNG").to_rgb8();
        assert_eq!(picture.dimensions(), (1000, 640));
        // Letters are drawn: there is ink in the band of the title.
        let ink = (0..1000).flat_map(|x| (0..30).map(move |y| (x, y)));
        assert!(ink.filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 100).count() > 100);
    }
}
