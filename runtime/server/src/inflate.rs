//! Bounded decompression of bodies and messages, a piece at a time, so that the bytes can be accounted as they appear.

use std::io::Read;

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use corymb_engine::{Permit, Stage};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::app::App;
use crate::status::ServerError;

/// How much one visit to the compute pool may produce: about 10 ms of work, so that others get their turn.
const PIECE: usize = 4 * 1024 * 1024;

/// A compression that requests may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// The coding of that name, in any case.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            Some(Self::Gzip)
        } else if name.eq_ignore_ascii_case("deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }
}

enum Decoder {
    Gzip(MultiGzDecoder<Reader<Bytes>>),
    Zlib(ZlibDecoder<Reader<Bytes>>),
    Deflate(DeflateDecoder<Reader<Bytes>>),
}

impl Decoder {
    fn new(coding: Coding, compressed: Bytes) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(compressed.reader())),
            // "deflate" means the zlib format, but some clients send it bare.
            Coding::Deflate if is_zlib(&compressed) => Self::Zlib(ZlibDecoder::new(compressed.reader())),
            Coding::Deflate => Self::Deflate(DeflateDecoder::new(compressed.reader())),
        }
    }

    fn reader(&mut self) -> &mut dyn Read {
        match self {
            Self::Gzip(decoder) => decoder,
            Self::Zlib(decoder) => decoder,
            Self::Deflate(decoder) => decoder,
        }
    }
}

fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..] if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

struct Inflater {
    decoder: Decoder,
    output: Vec<u8>,
}

impl Inflater {
    /// Appends at most `limit` bytes; fewer mean the end.
    fn step(&mut self, limit: usize) -> std::io::Result<usize> {
        self.decoder.reader().take(limit as u64).read_to_end(&mut self.output)
    }
}

/// The decompressed bytes, at most `max` of them, held by the permit where there is one. The work is done on the
/// compute pool.
pub(crate) async fn inflate(
    app: &App,
    mut permit: Option<&mut Permit>,
    coding: Coding,
    compressed: Bytes,
    max: usize,
) -> Result<Bytes, ServerError> {
    let mut inflater = Inflater { decoder: Decoder::new(coding, compressed), output: Vec::new() };
    loop {
        // One byte more than allowed tells "too large" from "exactly full".
        let piece = PIECE.min(max - inflater.output.len() + 1);
        let step = move || {
            let grown = inflater.step(piece);
            (inflater, grown)
        };
        let (back, grown) = app.engine.compute(Stage::Decode, step).await?;
        inflater = back;
        let grown =
            grown.map_err(|error| ServerError::invalid(format!("the body could not be decompressed: {error}")))?;
        if inflater.output.len() > max {
            return Err(ServerError::too_large(format!("the body takes more than {max} bytes when decompressed")));
        }
        if let Some(permit) = &mut permit {
            permit.reserve(grown)?;
        }
        if grown < piece {
            return Ok(inflater.output.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).expect("written");
        encoder.finish().expect("finished")
    }

    fn all(coding: Coding, compressed: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let mut inflater = Inflater { decoder: Decoder::new(coding, compressed.into()), output: Vec::new() };
        while inflater.step(7)? == 7 {}
        Ok(inflater.output)
    }

    #[test]
    fn every_coding_is_undone() {
        let data = b"daisy, dandelion, roses, sunflowers, tulips".repeat(3);
        assert_eq!(all(Coding::Gzip, gzip(&data)).expect("gzip"), data);
        let two_members = [gzip(&data), gzip(b"!")].concat();
        assert_eq!(all(Coding::Gzip, two_members).expect("gzip").len(), data.len() + 1);

        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&data).expect("written");
        assert_eq!(all(Coding::Deflate, zlib.finish().expect("finished")).expect("zlib"), data);

        let mut bare = DeflateEncoder::new(Vec::new(), Compression::best());
        bare.write_all(&data).expect("written");
        assert_eq!(all(Coding::Deflate, bare.finish().expect("finished")).expect("deflate"), data);
    }

    #[test]
    fn broken_streams_are_errors() {
        let mut cut = gzip(&[1; 1000]);
        cut.truncate(cut.len() - 9);
        assert!(all(Coding::Gzip, cut).is_err());
        assert!(all(Coding::Gzip, b"not gzip".to_vec()).is_err());
        assert_eq!(Coding::from_name("GZIP"), Some(Coding::Gzip));
        assert_eq!(Coding::from_name("br"), None);
    }

    #[test]
    fn one_step_is_bounded() {
        let bomb = gzip(&vec![0; 10_000_000]);
        let mut inflater = Inflater { decoder: Decoder::new(Coding::Gzip, bomb.into()), output: Vec::new() };
        assert_eq!(inflater.step(1000).expect("a piece"), 1000);
        assert_eq!(inflater.output.len(), 1000);
    }
}
