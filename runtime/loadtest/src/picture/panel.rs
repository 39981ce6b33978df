//! One panel of lines over time, as pictures of a simulation and of a real service both have them.

use plotters::chart::{ChartBuilder, LabelAreaPosition, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::element::{PathElement, Rectangle};
use plotters::prelude::{DrawingArea, DrawingBackend, LineSeries};
use plotters::style::{Color as _, RGBColor};

use super::{ORANGE, PictureError, above, axes, failed, legend};

/// A line by its name in the legend.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) colour: RGBColor,
    /// Seconds and values.
    pub(super) points: Vec<(f64, f64)>,
}

/// Stretches of time that are shaded, by their name in the legend.
pub(super) struct Shade<'a> {
    pub(super) name: &'a str,
    pub(super) stretches: Vec<(f64, f64)>,
}

/// Draws lines from second 0 to `right`.
pub(super) fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    unit: &str,
    right: f64,
    lines: &[Line<'_>],
    shade: Option<&Shade<'_>>,
) -> Result<(), PictureError> {
    let top = above(lines.iter().flat_map(|line| line.points.iter().map(|&(_, value)| value)));
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(24)
        .set_label_area_size(LabelAreaPosition::Left, 74)
        .set_label_area_size(LabelAreaPosition::Bottom, 36)
        .build_cartesian_2d(0.0..right, 0.0..top)
        .map_err(failed)?;
    axes(&mut chart, "seconds", unit)?;
    if let Some(shade) = shade.filter(|shade| !shade.stretches.is_empty()) {
        let colour = ORANGE.mix(0.15).filled();
        let rectangles = shade.stretches.iter().map(|&(from, to)| Rectangle::new([(from, 0.0), (to, top)], colour));
        chart
            .draw_series(rectangles)
            .map_err(failed)?
            .label(shade.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], colour));
    }
    for &Line { name, colour, ref points } in lines {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}
