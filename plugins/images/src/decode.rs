//! Bytes in, 8-bit grey or RGB pixels out: tells the format, checks the header against the limits, then decodes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Fault, ImageError};
use crate::orientation::Turn;
use crate::plan::{Limits, Size};
use crate::{jpeg, raster};

/// A decoded picture; its pixels lie at the start of the scratch buffer, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture {
    /// As stored, before turning.
    pub(crate) size: Size,
    /// 1 (grey) or 3 (red, green, blue).
    pub(crate) channels: usize,
    pub(crate) turn: Turn,
}

/// What the caller wants of a decoder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// One channel of luma, whatever the picture has.
    pub(crate) gray: bool,
    pub(crate) max_pixels: u64,
}

impl Wanted {
    /// The number of pixels, if that many are allowed.
    pub(crate) fn admit(self, size: Size, format: &'static str) -> Result<usize, Fault> {
        if size.width == 0 || size.height == 0 {
            return Err(Fault::Damaged { format, reason: format!("its size is {}x{}", size.width, size.height) });
        }
        match usize::try_from(size.pixels()) {
            Ok(pixels) if size.pixels() <= self.max_pixels => Ok(pixels),
            _ => Err(Fault::TooManyPixels { size, max: self.max_pixels }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    WebP,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => jpeg::NAME,
            Self::Png => raster::PNG,
            Self::WebP => raster::WEBP,
        }
    }

    fn of(encoded: &[u8]) -> Result<Self, Fault> {
        match encoded {
            [] => Err(Fault::Empty),
            [0xff, 0xd8, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            [b'G', b'I', b'F', b'8', ..] => Err(Fault::OtherFormat("GIF")),
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Err(Fault::OtherFormat("TIFF")),
            [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => Err(Fault::OtherFormat("AVIF")),
            [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', b'i' | b'v', ..]
            | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i', b'f', b'1', ..] => Err(Fault::OtherFormat("HEIF")),
            [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] | [0xff, 0x0a, ..] => Err(Fault::OtherFormat("JPEG XL")),
            // "BM", the file's size, four bytes of zero.
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Err(Fault::OtherFormat("BMP")),
            _ => Err(Fault::NotAPicture),
        }
    }
}

/// The size that the header declares, before any orientation. Nothing is decoded and no limit applied.
///
/// # Errors
/// [`ImageError::Picture`] of element 0.
pub fn probe(encoded: &[u8]) -> Result<Size, ImageError> {
    let guarded = guard(encoded, |format| match format {
        Format::Jpeg => jpeg::probe(encoded),
        Format::Png => raster::probe_png(encoded),
        Format::WebP => raster::probe_webp(encoded),
    });
    guarded.map_err(|fault| fault.of(0))
}

/// Decodes into the start of `pixels`, which grows where needed.
pub(crate) fn decode(encoded: &[u8], wanted: Wanted, pixels: &mut Vec<u8>) -> Result<Picture, Fault> {
    guard(encoded, |format| match format {
        Format::Jpeg => jpeg::decode(encoded, wanted, pixels),
        Format::Png => raster::decode_png(encoded, wanted, pixels),
        Format::WebP => raster::decode_webp(encoded, wanted, pixels),
    })
}

/// Runs a decoder; its panic becomes a fault of this picture. What it leaves behind is overwritten by the next picture.
fn guard<T>(encoded: &[u8], run: impl FnOnce(Format) -> Result<T, Fault>) -> Result<T, Fault> {
    let format = Format::of(encoded)?;
    catch_unwind(AssertUnwindSafe(|| run(format))).unwrap_or(Err(Fault::Decoder(format.name())))
}

/// The first `len` bytes of a scratch buffer that grows where needed and is not cleared.
pub(crate) fn at_least(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        // Anew instead of resized: the old content is of no use, and zeroed pages come cheaper than copied ones.
        *buffer = vec![0; len];
    }
    &mut buffer[..len]
}

impl Limits {
    pub(crate) const fn wanted(&self, gray: bool) -> Wanted {
        Wanted { gray, max_pixels: self.max_pixels }
    }
}
