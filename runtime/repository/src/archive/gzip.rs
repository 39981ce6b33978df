//! gzip as `tar` and `gzip` read it: one member after another, and what is no member at the end is left.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// The first byte of a member, RFC 1952, 2.3.1.
const MAGIC: u8 = 0x1f;

/// What the members hold together. Each one's checksum and length are checked when its end is read.
pub(super) struct Members<R> {
    /// None at the end.
    member: Option<GzDecoder<R>>,
    is_first: bool,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(from: R) -> Self {
        Self { member: Some(GzDecoder::new(from)), is_first: true }
    }

    /// Goes on to the member after one that is at its end, if one follows.
    fn go_on(&mut self) -> io::Result<()> {
        let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { return Ok(()) };
        if rest.fill_buf()?.first() == Some(&MAGIC) {
            self.member = Some(GzDecoder::new(rest));
            self.is_first = false;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            let Some(member) = &mut self.member else { break };
            let has_header = member.header().is_some();
            match member.read(buffer) {
                Ok(0) => self.go_on()?,
                Ok(length) => return Ok(length),
                // It only began like one.
                Err(error) if !has_header && !self.is_first && error.kind() == io::ErrorKind::InvalidInput => {
                    self.member = None;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }
}
