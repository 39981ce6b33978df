//! From encoded elements to one batch: each picture decoded once, each region written straight into the tensor's buffer.

use std::cell::RefCell;

use bytes::Bytes;
use corymb_core::{Buffer, DType, Tensor};
use fast_image_resize::Resizer;
use half::{bf16, f16};

use crate::decode::decode;
use crate::error::{Fault, ImageError};
use crate::geometry::place;
use crate::normalize::{Block, Sample, Writer};
use crate::orientation::{Area, Turn};
use crate::picture::Picture;
use crate::plan::{Color, Limits, Plan, Region};
use crate::resample::{Source, resample};
use crate::size::Size;

/// Scratch memory beyond this is given back after the call.
const KEPT: usize = 32 << 20;

/// What a thread keeps from call to call, so that a steady load allocates nothing but tensors.
#[derive(Default)]
struct Scratch {
    decoded: Vec<u8>,
    resized: Vec<u8>,
    resizer: Resizer,
}

impl Scratch {
    fn trim(&mut self) {
        for buffer in [&mut self.decoded, &mut self.resized] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
        if self.resizer.size_of_internal_buffers() > KEPT {
            self.resizer.reset_internal_buffers();
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Decodes pictures (JPEG, PNG, WebP) into one batch of the plan's dtype, `[N,H,W,C]` or `[N,C,H,W]`: each region in the
/// order given, or each whole element where no region is named. No elements make an empty batch.
///
/// # Errors
/// The first picture, region or limit that is at fault. [`ImageError::code`] says how callers see it.
pub fn to_tensor(elements: &[Bytes], regions: &[Region], plan: &Plan, limits: &Limits) -> Result<Tensor, ImageError> {
    plan.check()?;
    match plan.dtype {
        DType::Fp32 => run::<f32>(elements, regions, plan, limits),
        DType::Fp16 => run::<f16>(elements, regions, plan, limits),
        DType::Bf16 => run::<bf16>(elements, regions, plan, limits),
        DType::Int8 => run::<i8>(elements, regions, plan, limits),
        // The check has left no other.
        _ => run::<u8>(elements, regions, plan, limits),
    }
}

/// One row of the tensor: which picture, and which part of it.
#[derive(Clone, Copy)]
struct Job {
    row: usize,
    element: usize,
    region: Option<Region>,
}

fn run<T: Sample>(elements: &[Bytes], regions: &[Region], plan: &Plan, limits: &Limits) -> Result<Tensor, ImageError> {
    let jobs = jobs(elements.len(), regions)?;
    let row_shape = plan.row_shape();
    let row_bytes = row_shape.iter().fold(size_of::<T>() as u64, |bytes, &dim| bytes.saturating_mul(dim as u64));
    let bytes = row_bytes
        .checked_mul(jobs.len() as u64)
        .filter(|&bytes| bytes <= limits.max_bytes_out)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or(ImageError::TooManyBytes { pictures: jobs.len(), row_bytes, max: limits.max_bytes_out })?;
    let mut buffer = Buffer::zeroed(bytes);
    let row_len = row_shape.iter().product::<usize>();
    let writer = Writer::<T>::new(plan);

    SCRATCH.with_borrow_mut(|scratch| {
        let outcome = fill(elements, &jobs, plan, limits, scratch, |row, block| {
            writer.write(block, &mut buffer.as_mut_slice::<T>()[row * row_len..][..row_len]);
        });
        scratch.trim();
        outcome
    })?;
    Ok(Tensor::from_buffer(plan.dtype, [&[jobs.len()], &row_shape[..]].concat(), buffer)?)
}

/// The rows, sorted by picture, so that each is decoded once.
fn jobs(elements: usize, regions: &[Region]) -> Result<Vec<Job>, ImageError> {
    if regions.is_empty() {
        return Ok((0..elements).map(|element| Job { row: element, element, region: None }).collect());
    }
    let job = |(row, region): (usize, &Region)| match usize::try_from(region.element) {
        Ok(element) if element < elements => Ok(Job { row, element, region: Some(*region) }),
        _ => Err(ImageError::NoSuchElement { region: row, element: region.element, elements }),
    };
    let mut jobs = regions.iter().enumerate().map(job).collect::<Result<Vec<_>, _>>()?;
    jobs.sort_by_key(|job| job.element);
    Ok(jobs)
}

fn fill(
    elements: &[Bytes],
    jobs: &[Job],
    plan: &Plan,
    limits: &Limits,
    scratch: &mut Scratch,
    mut write: impl FnMut(usize, Block<'_>),
) -> Result<(), ImageError> {
    let Scratch { decoded, resized, resizer } = scratch;
    let wanted = limits.wanted(plan.color == Color::Gray);
    let mut pixels = 0_u64;
    let mut spend = |more: u64, element| {
        pixels = pixels.saturating_add(more);
        let max = limits.max_pixels_total;
        if pixels > max { Err(ImageError::TooManyPixels { element, pixels, max }) } else { Ok(()) }
    };
    for jobs in jobs.chunk_by(|left, right| left.element == right.element) {
        let element = jobs[0].element;
        let mut picture = decode(&elements[element], wanted, decoded).map_err(|fault| fault.of(element))?;
        if !plan.orient {
            picture.turn = Turn::default();
        }
        spend(picture.size.pixels(), element)?;
        let (width, height) = picture.turn.exchange((picture.size.width, picture.size.height));
        for job in jobs {
            let part = region(job, Size::new(width, height))?;
            // Many regions of one large picture cost as much as many pictures.
            if job.region.is_some() {
                spend((part.width * part.height) as u64, element)?;
            }
            let block = cut(part, plan, limits.max_pixels, picture, decoded, resizer, resized);
            write(job.row, block.map_err(|fault| fault.of(element))?);
        }
    }
    Ok(())
}

/// Resizes a part of the turned picture.
fn cut<'s>(
    part: Area,
    plan: &Plan,
    max_pixels: u64,
    picture: Picture,
    decoded: &[u8],
    resizer: &mut Resizer,
    resized: &'s mut Vec<u8>,
) -> Result<Block<'s>, Fault> {
    let Picture { size, channels, turn } = picture;
    let given = Size::new(part.width as u32, part.height as u32);
    let placed = place(&plan.fit, given);

    let stored = turn.undo(part, (size.width.into(), size.height.into()));
    let source = Source {
        pixels: decoded,
        channels,
        size,
        region: (stored.left as u32, stored.top as u32, stored.width as u32, stored.height as u32),
        part: within(turn.undo(placed.source, (stored.width, stored.height)), stored),
    };
    let (width, height) = turn.exchange((placed.target.width, placed.target.height));
    // Columns are resized before rows, so on the way the height has changed and the width has not.
    if u64::from(source.region.2) * u64::from(height) > max_pixels || placed.target.pixels() > max_pixels {
        return Err(Fault::TooManyPixelsResizing { size: given });
    }
    let pixels = resample(resizer, source, Size::new(width, height), plan.resize, resized)
        .ok_or(Fault::TooManyPixelsResizing { size: given })?;
    Ok(Block {
        pixels,
        channels,
        stored: (width as usize, height as usize),
        turn,
        offset: (placed.offset.0 as usize, placed.offset.1 as usize),
    })
}

/// The job's part of the turned picture, in whole pixels.
fn region(job: &Job, picture: Size) -> Result<Area, ImageError> {
    let Some(Region { x, y, width, height, .. }) = job.region else {
        return Ok(Area { left: 0.0, top: 0.0, width: picture.width.into(), height: picture.height.into() });
    };
    let fits = |start: u32, len: u32, all: u32| len > 0 && start.checked_add(len).is_some_and(|end| end <= all);
    if !fits(x, width, picture.width) || !fits(y, height, picture.height) {
        return Err(ImageError::Region { region: job.row, x, y, width, height, element: job.element, picture });
    }
    Ok(Area { left: x.into(), top: y.into(), width: width.into(), height: height.into() })
}

/// The part without the rounding errors that would make it reach beyond `all`.
fn within(part: Area, all: Area) -> Area {
    let (left, top) = (part.left.max(0.0), part.top.max(0.0));
    Area { left, top, width: part.width.min(all.width - left), height: part.height.min(all.height - top) }
}
