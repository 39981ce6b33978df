//! JPEG by zune-jpeg.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::{DecodeErrors, UnsupportedSchemes};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::Fault;
use crate::orientation::Turn;
use crate::picture::{Picture, Wanted, at_least};
use crate::size::Size;

pub(crate) const NAME: &str = "JPEG";

pub(crate) fn probe(encoded: &[u8]) -> Result<Size, Fault> {
    open(encoded).map(|decoder| size(&decoder))
}

pub(crate) fn decode(encoded: &[u8], wanted: Wanted, pixels: &mut Vec<u8>) -> Result<Picture, Fault> {
    let mut decoder = open(encoded)?;
    let size = size(&decoder);
    let count = wanted.admit(size, NAME)?;
    // Luma is stored as such: asking for it alone spares the other planes and the colour conversion.
    let stored = decoder.input_colorspace();
    let luma = stored == Some(ColorSpace::Luma) || (wanted.gray && stored == Some(ColorSpace::YCbCr));
    let output = if luma { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options().jpeg_set_out_colorspace(output));
    let channels = output.num_components();
    let buffer = at_least(pixels, count * channels);
    decoder.decode_into(buffer).map_err(fault)?;
    let turn = decoder.exif().map_or_else(Turn::default, |chunk| Turn::from_exif(chunk));
    let channels = crate::raster::narrow(buffer, channels, 1, wanted.gray);
    Ok(Picture { size, channels, turn })
}

/// A decoder that has read the headers.
fn open(encoded: &[u8]) -> Result<JpegDecoder<ZCursor<&[u8]>>, Fault> {
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(encoded), options());
    // Lenient as browsers and Pillow are about oddities between segments, but not about a missing end: outside strict
    // and incremental mode the decoder would paint the missing part grey and call it a success.
    decoder.set_incremental_mode(true);
    decoder.decode_headers().map_err(fault)?;
    Ok(decoder)
}

fn options() -> DecoderOptions {
    // The format's own bound; ours is on the product.
    DecoderOptions::new_fast().set_max_width(u16::MAX.into()).set_max_height(u16::MAX.into())
}

fn size(decoder: &JpegDecoder<ZCursor<&[u8]>>) -> Size {
    let (width, height) = decoder.dimensions().unwrap_or_default();
    Size::new(width as u32, height as u32)
}

fn fault(error: DecodeErrors) -> Fault {
    let reason = match error {
        error if error.is_recoverable_eof() => return Fault::CutShort(NAME),
        DecodeErrors::Unsupported(scheme) => {
            let kind = match scheme {
                UnsupportedSchemes::LosslessHuffman | UnsupportedSchemes::LosslessArithmetic => "lossless",
                UnsupportedSchemes::ExtendedSequentialHuffman => "extended sequential",
                _ => "arithmetic coding",
            };
            return Fault::Unsupported { format: NAME, reason: kind.to_owned() };
        }
        DecodeErrors::FormatStatic(text) if text.contains("not supported") => {
            return Fault::Unsupported { format: NAME, reason: text.to_owned() };
        }
        DecodeErrors::FormatStatic(text) => text.to_owned(),
        DecodeErrors::Format(text)
        | DecodeErrors::HuffmanDecode(text)
        | DecodeErrors::ArithmeticDecode(text)
        | DecodeErrors::DqtError(text)
        | DecodeErrors::SosError(text)
        | DecodeErrors::SofError(text)
        | DecodeErrors::MCUError(text) => text,
        other => other.to_string(),
    };
    Fault::Damaged { format: NAME, reason }
}
