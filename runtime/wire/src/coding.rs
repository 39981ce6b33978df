//! Compression of bodies and messages; undone a piece at a time, so that the bytes can be accounted as they appear.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

/// A compression that requests may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, the format that HTTP calls deflate; the bare one of RFC 1951 is understood.
    Deflate,
}

impl Coding {
    /// The coding of that name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            Some(Self::Gzip)
        } else if name.eq_ignore_ascii_case("deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }

    /// The name for headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Appends all `pieces`, compressed, to `out`.
    pub(crate) fn deflate(self, out: Vec<u8>, pieces: &[Bytes]) -> io::Result<Vec<u8>> {
        fn write(out: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
            pieces.iter().try_for_each(|piece| out.write_all(piece))
        }
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                write(&mut encoder, pieces)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::fast());
                write(&mut encoder, pieces)?;
                encoder.finish()
            }
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

/// A compressed body and what came out of it so far.
pub struct Inflater {
    decoder: Decoder,
    output: Vec<u8>,
}

impl Inflater {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(coding: Coding, compressed: Bytes) -> Self {
        Self { decoder: Decoder::new(coding, compressed), output: Vec::new() }
    }

    /// Appends at most `limit` bytes to the output and returns how many; fewer mean the end.
    ///
    /// # Errors
    /// Where the bytes are not what the coding says, or were cut off.
    pub fn step(&mut self, limit: usize) -> io::Result<usize> {
        self.decoder.reader().take(limit as u64).read_to_end(&mut self.output)
    }

    /// Bytes of the output so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.output.len()
    }

    /// Whether there is no output yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// The output.
    #[must_use]
    pub fn into_output(self) -> Bytes {
        self.output.into()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("output", &self.output.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use flate2::write::DeflateEncoder;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).expect("written");
        encoder.finish().expect("finished")
    }

    fn all(coding: Coding, compressed: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let mut inflater = Inflater::new(coding, compressed.into());
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
        let mut inflater = Inflater::new(Coding::Gzip, bomb.into());
        assert_eq!(inflater.step(1000).expect("a piece"), 1000);
        assert_eq!(inflater.output.len(), 1000);
    }
}
