//! What the decoders of all formats share: the decoded picture, what is wanted of it, and the buffer for its pixels.

use crate::error::Fault;
use crate::orientation::Turn;
use crate::plan::Limits;
use crate::size::Size;

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
