//! A sweep: throughput and latency over concurrency, with the knee.

use plotters::chart::{ChartBuilder, LabelAreaPosition, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement};
use plotters::prelude::{DrawingArea, DrawingBackend, LineSeries};
use plotters::style::{BLACK, Color as _, IntoFont as _, ShapeStyle, WHITE};

use super::panel::{Line, panel};
use super::{BLUE, Drawing, FAMILY, Format, GREEN, GREY, ORANGE, PictureError, above, axes, failed, legend, render};
use crate::advice::Recommendation;
use crate::simulate::Outcome;
use crate::sweep::{Objective, Step};

/// Draws the steps of a sweep, and below them the replicas of the replays of what is recommended.
///
/// # Errors
/// [`PictureError`], where a backend fails.
pub fn sweep(
    title: &str,
    steps: &[Step],
    objective: Option<&Objective>,
    recommendation: Option<&Recommendation>,
    replays: &[(String, Outcome)],
    format: Format,
) -> Result<Vec<u8>, PictureError> {
    let mut steps: Vec<&Step> = steps.iter().collect();
    steps.sort_by_key(|step| step.concurrency);
    render(&Sweep { title, steps, objective, recommendation, replays }, format)
}

struct Sweep<'a> {
    title: &'a str,
    steps: Vec<&'a Step>,
    objective: Option<&'a Objective>,
    recommendation: Option<&'a Recommendation>,
    replays: &'a [(String, Outcome)],
}

impl Sweep<'_> {
    fn panel<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        caption: &str,
        unit: &str,
        lines: &[(&str, ShapeStyle, Vec<f64>)],
        limit: Option<f64>,
        legend_at: SeriesLabelPosition,
    ) -> Result<(), PictureError> {
        let right = above(self.steps.iter().map(|step| step.concurrency as f64));
        let top = above(lines.iter().flat_map(|(_, _, values)| values.iter().copied()).chain(limit));
        let mut chart = ChartBuilder::on(area)
            .caption(caption, (FAMILY, 17).into_font())
            .margin(10)
            .margin_right(24)
            .set_label_area_size(LabelAreaPosition::Left, 74)
            .set_label_area_size(LabelAreaPosition::Bottom, 40)
            .build_cartesian_2d(0.0..right, 0.0..top)
            .map_err(failed)?;
        axes(&mut chart, "requests in flight", unit)?;
        for (name, style, values) in lines {
            let points: Vec<(f64, f64)> =
                self.steps.iter().zip(values).map(|(step, value)| (step.concurrency as f64, *value)).collect();
            let style = *style;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))
                .map_err(failed)?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, style.filled()))).map_err(failed)?;
        }
        if let Some(limit) = limit {
            chart
                .draw_series(LineSeries::new([(0.0, limit), (right, limit)], ORANGE.stroke_width(1)))
                .map_err(failed)?
                .label("objective")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], ORANGE));
        }
        if let Some(told) = self.recommendation {
            let knee = told.knee as f64;
            chart
                .draw_series(LineSeries::new([(knee, 0.0), (knee, top)], GREEN.stroke_width(2)))
                .map_err(failed)?
                .label(format!("knee: {}", told.knee))
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], GREEN));
        }
        legend(&mut chart, legend_at)
    }
}

impl Sweep<'_> {
    /// Ready replicas over time under each of the loads.
    fn replicas<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), PictureError> {
        let colours = [BLUE, ORANGE, GREEN, GREY].into_iter().cycle();
        let lines: Vec<Line<'_>> = self
            .replays
            .iter()
            .zip(colours)
            .map(|((name, outcome), colour)| {
                let points = outcome.ticks.iter().map(|tick| (tick.t, f64::from(tick.ready))).collect();
                Line { name, colour, points }
            })
            .collect();
        let right = lines.iter().filter_map(|line| Some(line.points.last()?.0)).fold(1.0, f64::max);
        panel(area, "ready replicas", right, &lines, None)
    }
}

impl Drawing for Sweep<'_> {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), PictureError> {
        area.fill(&WHITE).map_err(failed)?;
        let area = area.titled(self.title, (FAMILY, 20).into_font()).map_err(failed)?;
        let halves = if self.replays.is_empty() { vec![area] } else { area.split_evenly((2, 1)) };
        let panels = halves[0].split_evenly((1, 2));
        let of = |value: fn(&Step) -> f64| self.steps.iter().map(|step| value(step)).collect::<Vec<f64>>();
        let throughput = [("answers", BLUE.stroke_width(2), of(|step| step.report.rps))];
        self.panel(&panels[0], "Throughput", "answers a second", &throughput, None, SeriesLabelPosition::LowerRight)?;
        let latency = [
            ("p50", BLUE.stroke_width(2), of(|step| step.report.latency.p50_ms)),
            ("p95", BLACK.stroke_width(2), of(|step| step.report.latency.p95_ms)),
            ("p99", GREY.stroke_width(2), of(|step| step.report.latency.p99_ms)),
        ];
        let limit = self.objective.map(|objective| objective.limit_ms);
        self.panel(&panels[1], "Latency", "milliseconds", &latency, limit, SeriesLabelPosition::UpperLeft)?;
        match halves.get(1) {
            Some(below) => self.replicas(below),
            None => Ok(()),
        }
    }
}
