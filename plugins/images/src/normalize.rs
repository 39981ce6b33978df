//! 8-bit pixels into the tensor's own buffer: turned, normalised and laid out in one pass.

use half::{bf16, f16};

use crate::orientation::Turn;
use crate::plan::{Color, Fit, Layout, Plan};

/// An element type that pixels become.
pub(crate) trait Sample: bytemuck::Pod {
    /// Nearest value, ties to even; integers saturate.
    fn from_f32(value: f32) -> Self;
}

impl Sample for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Sample for f16 {
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Sample for bf16 {
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Sample for u8 {
    fn from_f32(value: f32) -> Self {
        value.round_ties_even() as Self
    }
}

impl Sample for i8 {
    fn from_f32(value: f32) -> Self {
        value.round_ties_even() as Self
    }
}

/// Resized pixels, as stored, and where they go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) pixels: &'a [u8],
    /// 1 or 3.
    pub(crate) channels: usize,
    /// Width and height as stored.
    pub(crate) stored: (usize, usize),
    pub(crate) turn: Turn,
    /// Column and row of the tensor where the turned block begins.
    pub(crate) offset: (usize, usize),
}

/// Everything about a plan that is the same for each picture.
#[derive(Debug)]
pub(crate) struct Writer<T> {
    /// What each of the 256 values of a pixel becomes, per channel of the tensor: one load replaces the arithmetic,
    /// whatever the dtype.
    tables: Vec<[T; 256]>,
    /// The letterbox's pixel, per channel of the tensor.
    padding: Option<Vec<T>>,
    color: Color,
    layout: Layout,
    width: usize,
    height: usize,
}

impl<T: Sample> Writer<T> {
    /// For a plan that has been checked.
    pub(crate) fn new(plan: &Plan) -> Self {
        let value = |pixel: f32, mean: f32, std: f32| T::from_f32((pixel * plan.scale - mean) / std);
        let tables: Vec<[T; 256]> = plan
            .mean
            .iter()
            .zip(&plan.std)
            .map(|(&mean, &std)| std::array::from_fn(|pixel| value(pixel as f32, mean, std)))
            .collect();
        let padding = match &plan.fit {
            Fit::Letterbox { pixel, .. } => {
                let values = tables.iter().zip(pixel.iter().cycle());
                Some(values.map(|(table, &pixel)| table[usize::from(pixel)]).collect())
            }
            Fit::Stretch(_) | Fit::CenterCrop { .. } => None,
        };
        let size = plan.fit.size();
        let (width, height) = (size.width as usize, size.height as usize);
        Self { tables, padding, color: plan.color, layout: plan.layout, width, height }
    }

    /// Fills one picture's part of the tensor.
    pub(crate) fn write(&self, block: Block<'_>, out: &mut [T]) {
        let (width, height) = block.turn.exchange(block.stored);
        if let Some(padding) = &self.padding
            && (width, height) != (self.width, self.height)
        {
            self.pad(padding, out);
        }
        for y in 0..height {
            let (start, step) = block.turn.row(y, block.stored);
            let first = (block.offset.1 + y) * self.width + block.offset.0;
            match self.layout {
                Layout::Nchw => self.planar_row(block, (start, step), first, width, out),
                Layout::Nhwc => self.interleaved_row(block, (start, step), first, width, out),
            }
        }
    }

    fn planar_row(&self, block: Block<'_>, (start, step): (usize, isize), first: usize, width: usize, out: &mut [T]) {
        let plane = self.width * self.height;
        for (channel, table) in self.tables.iter().enumerate() {
            let offset = self.source_channel(channel, block.channels);
            let row = &mut out[channel * plane + first..][..width];
            if step == 1 && block.channels == 3 {
                let pixels = &block.pixels[start * 3..][..width * 3];
                for (value, pixel) in row.iter_mut().zip(pixels.chunks_exact(3)) {
                    *value = table[usize::from(pixel[offset])];
                }
            } else {
                for (value, index) in row.iter_mut().zip(positions(start, step)) {
                    *value = table[usize::from(block.pixels[index * block.channels + offset])];
                }
            }
        }
    }

    fn interleaved_row(
        &self,
        block: Block<'_>,
        (start, step): (usize, isize),
        first: usize,
        width: usize,
        out: &mut [T],
    ) {
        let channels = self.tables.len();
        let row = &mut out[first * channels..][..width * channels];
        for (values, index) in row.chunks_exact_mut(channels).zip(positions(start, step)) {
            let pixel = &block.pixels[index * block.channels..][..block.channels];
            for (channel, (value, table)) in values.iter_mut().zip(&self.tables).enumerate() {
                *value = table[usize::from(pixel[self.source_channel(channel, block.channels)])];
            }
        }
    }

    /// Which channel of the picture, which is grey or RGB, feeds one of the tensor.
    const fn source_channel(&self, channel: usize, channels: usize) -> usize {
        match self.color {
            _ if channels == 1 => 0,
            Color::Bgr => 2 - channel,
            Color::Rgb | Color::Gray => channel,
        }
    }

    fn pad(&self, padding: &[T], out: &mut [T]) {
        match self.layout {
            Layout::Nchw => {
                for (plane, &value) in out.chunks_exact_mut(self.width * self.height).zip(padding) {
                    plane.fill(value);
                }
            }
            Layout::Nhwc => out.chunks_exact_mut(padding.len()).for_each(|pixel| pixel.copy_from_slice(padding)),
        }
    }
}

/// `start`, `start + step`, …
fn positions(start: usize, step: isize) -> impl Iterator<Item = usize> {
    (0..).map(move |index: isize| start.wrapping_add_signed(step * index))
}
