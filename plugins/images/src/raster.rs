//! PNG and WebP by the `image` crate, and the narrowing of what decoders give to 8-bit grey or RGB.

use std::io::{Cursor, ErrorKind};

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::ImageError as CodecError;
use image::{ImageDecoder, Limits as CodecLimits};

use crate::error::Fault;
use crate::orientation::Turn;
use crate::picture::{Picture, Wanted, at_least};
use crate::size::Size;

pub(crate) const PNG: &str = "PNG";
pub(crate) const WEBP: &str = "WebP";

/// Room for what the PNG decoder keeps beside the pixels: text, colour profile, EXIF, rows. Bounds compressed bombs there.
const PNG_OVERHEAD: u64 = 16 << 20;

/// The signature and the IHDR chunk up to its height.
const PNG_HEADER: usize = 24;

pub(crate) fn probe_png(encoded: &[u8]) -> Result<Size, Fault> {
    // IHDR must come first (PNG specification, 5.6), so the size stands at a fixed place.
    let header = encoded.get(..PNG_HEADER).ok_or(Fault::CutShort(PNG))?;
    if header[12..16] != *b"IHDR" {
        return Err(Fault::Damaged { format: PNG, reason: "its header is missing".to_owned() });
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Ok(Size::new(number(16), number(20)))
}

pub(crate) fn decode_png(encoded: &[u8], wanted: Wanted, pixels: &mut Vec<u8>) -> Result<Picture, Fault> {
    wanted.admit(probe_png(encoded)?, PNG)?;
    let mut limits = CodecLimits::no_limits();
    limits.max_alloc = Some(PNG_OVERHEAD);
    let fault = |error| fault(error, PNG, !ends_with_iend(encoded));
    let mut decoder = PngDecoder::with_limits(Cursor::new(encoded), limits).map_err(fault)?;
    let exif = decoder.exif_metadata().map_err(fault)?;
    read(decoder, PNG, exif, wanted, pixels, fault)
}

pub(crate) fn probe_webp(encoded: &[u8]) -> Result<Size, Fault> {
    let fault = |error| fault(error, WEBP, webp_is_cut_short(encoded));
    let decoder = WebPDecoder::new(Cursor::new(encoded)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    Ok(Size::new(width, height))
}

pub(crate) fn decode_webp(encoded: &[u8], wanted: Wanted, pixels: &mut Vec<u8>) -> Result<Picture, Fault> {
    if webp_is_cut_short(encoded) {
        return Err(Fault::CutShort(WEBP));
    }
    // The decoder takes memory for the frame before it compares the frame with the canvas.
    if let Some(frame) = webp_frame_size(encoded) {
        wanted.admit(frame, WEBP)?;
    }
    let fault = |error| fault(error, WEBP, false);
    let mut decoder = WebPDecoder::new(Cursor::new(encoded)).map_err(fault)?;
    // Metadata that cannot be read says nothing about the pixels.
    let exif = decoder.exif_metadata().unwrap_or_default();
    read(decoder, WEBP, exif, wanted, pixels, fault)
}

fn read(
    decoder: impl ImageDecoder,
    format: &'static str,
    exif: Option<Vec<u8>>,
    wanted: Wanted,
    pixels: &mut Vec<u8>,
    fault: impl Fn(CodecError) -> Fault,
) -> Result<Picture, Fault> {
    let (width, height) = decoder.dimensions();
    let size = Size::new(width, height);
    let count = wanted.admit(size, format)?;
    let color = decoder.color_type();
    let buffer = at_least(pixels, count * usize::from(color.bytes_per_pixel()));
    let channels = usize::from(color.channel_count());
    decoder.read_image(buffer).map_err(fault)?;
    let sample = usize::from(color.bytes_per_pixel()) / channels;
    let channels = narrow(buffer, channels, sample, wanted.gray);
    let turn = exif.map_or_else(Turn::default, |chunk| Turn::from_exif(&chunk));
    Ok(Picture { size, channels, turn })
}

/// Makes 8-bit grey or RGB of pixels with `channels` samples of `sample` native-endian bytes, in place: the upper byte
/// counts, alpha is dropped. Answers the number of channels left.
pub(crate) fn narrow(buffer: &mut [u8], channels: usize, sample: usize, gray: bool) -> usize {
    let colored = channels >= 3;
    let left = if colored && !gray { 3 } else { 1 };
    if channels == left && sample == 1 {
        return left;
    }
    let upper = if cfg!(target_endian = "little") { sample - 1 } else { 0 };
    let count = buffer.len() / (channels * sample);
    // Each pixel is written at or before the place where it was read.
    for index in 0..count {
        let at = |channel: usize| (index * channels + channel) * sample + upper;
        if left == 3 {
            let pixel = [buffer[at(0)], buffer[at(1)], buffer[at(2)]];
            buffer[index * 3..index * 3 + 3].copy_from_slice(&pixel);
        } else if colored {
            buffer[index] = luma(buffer[at(0)], buffer[at(1)], buffer[at(2)]);
        } else {
            buffer[index] = buffer[at(0)];
        }
    }
    left
}

/// ITU-R 601-2 luma in the fixed point of Pillow's `convert("L")`.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

fn ends_with_iend(encoded: &[u8]) -> bool {
    // Length, type and checksum of the last chunk are 12 bytes; some writers append a few more.
    encoded[encoded.len().saturating_sub(64)..].windows(4).any(|window| window == b"IEND")
}

fn webp_is_cut_short(encoded: &[u8]) -> bool {
    let declared = encoded.get(4..8).map(|size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    declared.is_none_or(|declared| u64::from(declared) + 8 > encoded.len() as u64)
}

/// The size of the first lossy frame, wherever it lies (RFC 9649, 2.5 to 2.7 and RFC 6386, 9.1).
fn webp_frame_size(encoded: &[u8]) -> Option<Size> {
    let mut rest = encoded.get(12..)?;
    loop {
        let (kind, len) = (rest.get(..4)?, rest.get(4..8)?);
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        let body = &rest[8..];
        match kind {
            b"VP8 " => {
                let size = body.get(6..10)?;
                let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
                return Some(Size::new(side(size[0], size[1]), side(size[2], size[3])));
            }
            // An animation's frame: 16 bytes of position and timing, then chunks of its own.
            b"ANMF" => rest = body.get(16..)?,
            _ => rest = body.get(len.checked_add(len % 2)?..)?,
        }
    }
}

fn fault(error: CodecError, format: &'static str, cut_short: bool) -> Fault {
    match error {
        CodecError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => Fault::CutShort(format),
        _ if cut_short => Fault::CutShort(format),
        CodecError::Unsupported(error) => Fault::Unsupported { format, reason: error.to_string() },
        other => Fault::Damaged { format, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_keeps_the_upper_byte_and_drops_alpha() {
        let mut wide: Vec<u8> = [0x1234_u16, 0xffff, 0xab00, 0x0102].iter().flat_map(|v| v.to_ne_bytes()).collect();
        assert_eq!(narrow(&mut wide, 2, 2, false), 1);
        assert_eq!(wide[..2], [0x12, 0xab]);

        let mut rgba = vec![1, 2, 3, 0, 4, 5, 6, 255];
        assert_eq!(narrow(&mut rgba, 4, 1, false), 3);
        assert_eq!(rgba[..6], [1, 2, 3, 4, 5, 6]);

        let mut rgb = vec![255, 255, 255, 255, 0, 0];
        assert_eq!(narrow(&mut rgb, 3, 1, true), 1);
        assert_eq!(rgb[..2], [255, 76]);
    }
}
