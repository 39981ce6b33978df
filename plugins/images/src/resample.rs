//! Resizing by fast_image_resize, with a buffer and coefficients that are kept from picture to picture.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::orientation::Area;
use crate::picture::at_least;
use crate::plan::{Kernel, Resize};
use crate::size::Size;

/// A part of a picture, as stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) pixels: &'a [u8],
    pub(crate) channels: usize,
    /// Of the whole picture.
    pub(crate) size: Size,
    /// The region (left, top, width, height), in whole pixels: what lies outside does not bleed in.
    pub(crate) region: (u32, u32, u32, u32),
    /// The part of the region that is resized, relative to it.
    pub(crate) part: Area,
}

/// Resizes `source` to `target`; the pixels lie at the start of the answer, row by row. None when the parts do not fit
/// together, which the caller has ruled out.
pub(crate) fn resample<'o>(
    resizer: &mut Resizer,
    source: Source<'_>,
    target: Size,
    resize: Resize,
    out: &'o mut Vec<u8>,
) -> Option<&'o [u8]> {
    let len = target.width as usize * target.height as usize * source.channels;
    let out = at_least(out, len);
    match source.channels {
        1 => run::<U8>(resizer, source, target, resize, out)?,
        _ => run::<U8x3>(resizer, source, target, resize, out)?,
    }
    Some(out)
}

fn run<P: PixelTrait>(
    resizer: &mut Resizer,
    source: Source<'_>,
    target: Size,
    resize: Resize,
    out: &mut [u8],
) -> Option<()> {
    let Area { left, top, width, height } = source.part;
    let options = ResizeOptions::new().resize_alg(algorithm(resize)).crop(left, top, width, height).use_alpha(false);
    let whole = TypedImageRef::<P>::from_buffer(source.size.width, source.size.height, source.pixels).ok()?;
    let mut target = TypedImage::<P>::from_buffer(target.width, target.height, out).ok()?;
    let (left, top, width, height) = source.region;
    let region = TypedCroppedImage::from_ref(&whole, left, top, width, height).ok()?;
    resizer.resize_typed(&region, &mut target, &options).ok()
}

fn algorithm(resize: Resize) -> ResizeAlg {
    let filter = match resize.kernel {
        Kernel::Nearest => return ResizeAlg::Nearest,
        Kernel::Bilinear => FilterType::Bilinear,
        Kernel::Bicubic => FilterType::CatmullRom,
        Kernel::Lanczos3 => FilterType::Lanczos3,
    };
    if resize.antialias { ResizeAlg::Convolution(filter) } else { ResizeAlg::Interpolation(filter) }
}
