//! Simulations of one load: the rate, and under each of those who scale the pods and the latency, over time.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingBackend};
use plotters::style::{BLACK, IntoFont as _, RGBColor, WHITE};

use super::panel::{Line, panel};
use super::{BLUE, Drawing, FAMILY, Format, GREEN, GREY, ORANGE, PictureError, failed, render};
use crate::simulate::{Moment, Outcome};

/// Draws outcomes of the same load side by side.
///
/// # Errors
/// [`PictureError`], where a backend fails.
pub fn simulation(title: &str, outcomes: &[Outcome], format: Format) -> Result<Vec<u8>, PictureError> {
    render(&Simulation { title, outcomes }, format)
}

struct Simulation<'a> {
    title: &'a str,
    outcomes: &'a [Outcome],
}

/// What an outcome is called among the others.
fn name(outcome: &Outcome, outcomes: &[Outcome]) -> String {
    let is_alone = outcomes.iter().filter(|other| other.scaler == outcome.scaler).count() == 1;
    match outcome.autoscaling.target.filter(|_| !is_alone) {
        Some(target) => format!("{} at {target}", outcome.scaler),
        None => outcome.scaler.to_owned(),
    }
}

/// Points of one line. Between two moments a replica is there or it is not.
fn steps(moments: &[Moment], value: impl Fn(&Moment) -> f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(moments.len() * 2);
    for moment in moments {
        points.extend(points.last().map(|&(_, before)| (moment.t, before)));
        points.push((moment.t, value(moment)));
    }
    points
}

impl Simulation<'_> {
    fn named(&self) -> Vec<(String, RGBColor, &Outcome)> {
        let colours = [BLUE, ORANGE, GREEN, BLACK, GREY].into_iter().cycle();
        self.outcomes.iter().zip(colours).map(|(one, colour)| (name(one, self.outcomes), colour, one)).collect()
    }

    fn replicas<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, right: f64) -> Result<(), PictureError> {
        let named = self.named();
        let ready = |moment: &Moment| f64::from(moment.ready);
        let asked = |moment: &Moment| f64::from(moment.replicas);
        let lines = match named.as_slice() {
            [(_, _, only)] => vec![
                Line { name: "asked for", colour: ORANGE, points: steps(&only.moments, asked) },
                Line { name: "ready", colour: GREEN, points: steps(&only.moments, ready) },
            ],
            all => all
                .iter()
                .map(|(name, colour, one)| Line { name, colour: *colour, points: steps(&one.moments, ready) })
                .collect(),
        };
        panel(area, "ready replicas", right, &lines, None)
    }

    fn latency<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, right: f64) -> Result<(), PictureError> {
        let named: Vec<(String, RGBColor, &Outcome)> = self
            .named()
            .into_iter()
            .map(|(name, colour, one)| {
                let latency = &one.summary.latency;
                let name = format!(
                    "{name}: p50 {:.0}, p95 {:.0}, p99 {:.0} ms",
                    latency.p50_ms, latency.p95_ms, latency.p99_ms
                );
                (name, colour, one)
            })
            .collect();
        let lines: Vec<Line<'_>> = named
            .iter()
            .map(|(name, colour, one)| {
                let points = one.moments.iter().filter_map(|moment| Some((moment.t, moment.p95_ms?)));
                Line { name, colour: *colour, points: points.collect() }
            })
            .collect();
        panel(area, "p95 in ms", right, &lines, None)
    }
}

impl Drawing for Simulation<'_> {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), PictureError> {
        area.fill(&WHITE).map_err(failed)?;
        let area = area.titled(self.title, (FAMILY, 20).into_font()).map_err(failed)?;
        let panels = area.split_evenly((3, 1));
        let right = self.outcomes.first().map_or(1.0, |one| one.summary.seconds).max(1.0);
        let rate = self.outcomes.first().map_or_else(Vec::new, |one| steps(&one.moments, |moment| moment.rate));
        panel(&panels[0], "requests a second", right, &[Line { name: "rate", colour: BLUE, points: rate }], None)?;
        self.replicas(&panels[1], right)?;
        self.latency(&panels[2], right)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Arrivals;
    use crate::simulate::{Autoscaling, Hpa, Keda, PodModel, Run, Scaler, Scenario, ServiceTime, Trace, simulate_by};

    fn outcome(scaler: Scaler) -> Outcome {
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
        simulate_by(&scenario, &Run { scaler, ..Run::default() }).expect("runs")
    }

    fn svg(title: &str, outcomes: &[Outcome]) -> String {
        String::from_utf8(simulation(title, outcomes, Format::Svg).expect("drawn")).expect("text")
    }

    #[test]
    fn both_formats_show_something() {
        let only = [outcome(Scaler::Kpa)];
        let text = svg("A burst", &only);
        for words in ["A burst", "asked for", "requests a second", "seconds", "kpa: p50"] {
            assert!(text.contains(words), "{words}");
        }
        let png = simulation("A burst", &only, Format::Png).expect("drawn");
        let picture = image::load_from_memory(&png).expect("a PNG").to_rgb8();
        assert_eq!(picture.dimensions(), (1000, 640));
        // Letters are drawn: there is ink in the band of the title.
        let ink = (0..1000).flat_map(|x| (0..30).map(move |y| (x, y)));
        assert!(ink.filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 100).count() > 100);
    }

    #[test]
    fn who_scales_is_side_by_side() {
        let (hpa, keda) = (Hpa::default(), Keda::default());
        let all = [Scaler::Kpa, Scaler::Hpa(hpa.clone()), Scaler::Keda(hpa, keda)].map(outcome);
        let text = svg("Three", &all);
        for words in ["kpa: p50", "hpa: p50", "keda: p50", "ready replicas"] {
            assert!(text.contains(words), "{words}");
        }
        let twice = [outcome(Scaler::Kpa), outcome(Scaler::Kpa)];
        assert!(svg("Two", &twice).contains("kpa at 1: p50"));
        svg("None", &[]);
    }
}
