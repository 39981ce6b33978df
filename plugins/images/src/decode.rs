//! Bytes in, 8-bit grey or RGB pixels out: tells the format, checks the header against the limits, then decodes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Fault, ImageError};
use crate::picture::{Picture, Wanted};
use crate::size::Size;
use crate::{jpeg, raster};

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
