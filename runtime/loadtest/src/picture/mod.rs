//! Pictures of a sweep, of a simulation and of a service that was watched, as SVG and PNG.
//!
//! All are drawn by the same code. The font is part of the program, since a slim image has none.

mod observed;
mod panel;
mod simulation;
mod sweep;

use std::sync::OnceLock;

use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use plotters::chart::{ChartContext, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{BitMapBackend, DrawingArea, DrawingBackend, IntoDrawingArea as _, RGBColor, SVGBackend};
use plotters::style::{Color as _, FontStyle, IntoFont as _, WHITE, register_font};
use thiserror::Error;

pub use observed::{Observation, observed};
pub use simulation::simulation;
pub use sweep::sweep;

/// Printable ASCII and a few signs of DejaVu Sans.
static FONT: &[u8] = include_bytes!("DejaVuSans-subset.ttf");

const FAMILY: &str = "sans-serif";
const SIZE: (u32, u32) = (1000, 640);

// Told apart by people who do not see red and green alike (Okabe and Ito's palette).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const GREY: RGBColor = RGBColor(150, 150, 150);

/// A chart from 0 on both axes.
type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws the axes and the lines of the grid.
fn axes<'a, B: DrawingBackend + 'a>(chart: &mut Chart<'a, B>, x: &str, y: &str) -> Result<(), PictureError> {
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).x_desc(x).y_desc(y).x_label_formatter(&number).y_label_formatter(&number);
    mesh.label_style((FAMILY, 13).into_font()).draw().map_err(failed)
}

/// Draws the names of what was drawn before.
fn legend<'a, B: DrawingBackend + 'a>(
    chart: &mut Chart<'a, B>,
    position: SeriesLabelPosition,
) -> Result<(), PictureError> {
    let mut labels = chart.configure_series_labels();
    labels.position(position).background_style(WHITE.mix(0.8)).border_style(GREY);
    labels.label_font((FAMILY, 13).into_font()).draw().map_err(failed)
}

/// Which file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text, of any size.
    Svg,
    /// Pixels.
    Png,
}

impl Format {
    /// By the ending of a file's name.
    #[must_use]
    pub fn of(file_name: &str) -> Option<Self> {
        match file_name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            _ => None,
        }
    }
}

/// Nothing was drawn.
#[derive(Debug, Error)]
#[error("the picture could not be drawn: {0}")]
pub struct PictureError(String);

/// What a drawing is handed: an area of any backend.
trait Drawing {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), PictureError>;
}

/// Anything that a backend says.
fn failed(error: impl std::fmt::Display) -> PictureError {
    PictureError(error.to_string())
}

fn render(drawing: &impl Drawing, format: Format) -> Result<Vec<u8>, PictureError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    if !*REGISTERED.get_or_init(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok()) {
        return Err(PictureError("the font is damaged".to_owned()));
    }
    match format {
        Format::Svg => {
            let mut text = String::new();
            {
                let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
                drawing.draw(&area)?;
                area.present().map_err(failed)?;
            }
            Ok(text.into_bytes())
        }
        Format::Png => {
            let (width, height) = SIZE;
            let mut pixels = vec![0; width as usize * height as usize * 3];
            {
                let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
                drawing.draw(&area)?;
                area.present().map_err(failed)?;
            }
            let mut file = Vec::new();
            PngEncoder::new(&mut file).write_image(&pixels, width, height, ExtendedColorType::Rgb8).map_err(failed)?;
            Ok(file)
        }
    }
}

/// The end of an axis that begins at 0: a little above the greatest value, and never 0.
fn above(values: impl Iterator<Item = f64>) -> f64 {
    let greatest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if greatest > 0.0 { greatest * 1.08 } else { 1.0 }
}

/// A label of an axis, without zeros that say nothing.
fn number(value: &f64) -> String {
    // Steps of an axis are sums of decimal fractions, which binary ones only come close to.
    format!("{}", (value * 1e4).round() / 1e4)
}
