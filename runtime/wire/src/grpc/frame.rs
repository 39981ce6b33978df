//! gRPC's framing: messages behind five bytes that say whether they are compressed and how long they are.
//!
//! tonic's own codec reserves the declared length before a byte has come, and copies every answer into one buffer. This
//! one checks the length first and leaves output tensors in their own buffers; `corymb-tests-bench tiny` compares both.

use bytes::{BufMut, Bytes};
use corymb_core::{Code, Error};

use crate::coding::Coding;

/// Bytes before each message: a flag, and the length in network order.
pub const PREFIX: usize = 5;

/// What precedes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether the message is compressed, by the coding that the call's headers name.
    pub compressed: bool,
    /// Bytes of the message as it is sent.
    pub len: usize,
}

impl Head {
    /// Reads the prefix of a message of at most `max` bytes.
    ///
    /// # Errors
    /// [`Code::TooLarge`], before anything is allocated for the message; [`Code::Internal`], as gRPC's specification
    /// demands, for a compressed message of a call without a coding.
    pub fn parse(prefix: [u8; PREFIX], coding: Option<Coding>, max: usize) -> Result<Self, Error> {
        let [flag, length @ ..] = prefix;
        let len = u32::from_be_bytes(length) as usize;
        if len > max {
            let message = format!("the message has {len} bytes; at most {max} are accepted");
            return Err(Error::new(Code::TooLarge, message));
        }
        let compressed = match (flag, coding) {
            (0, _) => false,
            (1, Some(_)) => true,
            (1, None) => return Err(Error::new(Code::Internal, "a compressed message needs a grpc-encoding")),
            _ => return Err(Error::new(Code::Internal, format!("compression flag {flag}; expected 0 or 1"))),
        };
        Ok(Self { compressed, len })
    }
}

/// One message on its way out, in pieces that need not lie together.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pieces: Vec<Bytes>,
}

impl Message {
    /// A message in pieces, the first of which begins with [`PREFIX`] bytes of room for the prefix.
    pub(super) fn new(mut first: Vec<u8>, others: impl IntoIterator<Item = Bytes>) -> Result<Self, Error> {
        let mut pieces = vec![Bytes::new()];
        pieces.extend(others);
        let len = first.len() - PREFIX + pieces.iter().map(Bytes::len).sum::<usize>();
        first[..PREFIX].copy_from_slice(&prefix(0, len)?);
        pieces[0] = first.into();
        Ok(Self { pieces })
    }

    /// A small message.
    ///
    /// # Errors
    /// [`Code::TooLarge`] beyond 4 GiB.
    pub fn of(message: &impl prost::Message) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(PREFIX + message.encoded_len());
        bytes.put_bytes(0, PREFIX);
        message.encode(&mut bytes).map_err(|error| internal(error.to_string()))?;
        Self::new(bytes, [])
    }

    /// The pieces, prefix included.
    #[must_use]
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    /// The same message with another last piece.
    #[must_use]
    pub fn map_last(mut self, change: impl FnOnce(Bytes) -> Bytes) -> Self {
        if let Some(last) = self.pieces.pop() {
            self.pieces.push(change(last));
        }
        self
    }

    /// Bytes of the message, prefix included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// The same message compressed.
    ///
    /// # Errors
    /// [`Code::TooLarge`] beyond 4 GiB.
    pub fn deflated(self, coding: Coding) -> Result<Self, Error> {
        let mut pieces = self.pieces;
        if let Some(first) = pieces.first_mut() {
            *first = first.slice(PREFIX..);
        }
        let out = coding.deflate(vec![0; PREFIX], &pieces);
        let mut out = out.map_err(|error| internal(format!("compress an answer: {error}")))?;
        let len = out.len() - PREFIX;
        out[..PREFIX].copy_from_slice(&prefix(1, len)?);
        Ok(Self { pieces: vec![out.into()] })
    }

    /// Whether there is nothing, not even a prefix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

pub(super) fn internal(details: String) -> Error {
    Error::new(Code::Internal, "internal error").with_details(details)
}

fn prefix(flag: u8, len: usize) -> Result<[u8; PREFIX], Error> {
    let len = u32::try_from(len).map_err(|_too_long| {
        Error::new(Code::TooLarge, format!("the answer has {len} bytes; gRPC carries at most 4 GiB"))
    })?;
    let [a, b, c, d] = len.to_be_bytes();
    Ok([flag, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_checked_before_anything_is_reserved() {
        let parse = |prefix, coding| Head::parse(prefix, coding, 8).map_err(|error| error.code);
        assert_eq!(parse([0, 0, 0, 0, 8], None), Ok(Head { compressed: false, len: 8 }));
        assert_eq!(parse([0, 0, 0, 0, 9], None), Err(Code::TooLarge));
        assert_eq!(parse([0, 0xff, 0xff, 0xff, 0xff], None), Err(Code::TooLarge));
        assert_eq!(parse([1, 0, 0, 0, 1], None), Err(Code::Internal));
        assert_eq!(parse([2, 0, 0, 0, 1], Some(Coding::Gzip)), Err(Code::Internal));
        assert_eq!(parse([1, 0, 0, 0, 1], Some(Coding::Gzip)), Ok(Head { compressed: true, len: 1 }));
    }

    #[test]
    fn pieces_are_one_message() {
        let first = vec![0, 0, 0, 0, 0, 1, 2];
        let message = Message::new(first, [Bytes::from_static(&[3; 300])]).expect("short");
        assert_eq!(message.clone().into_pieces()[0][..], [0, 0, 0, 1, 46, 1, 2]);
        let small = message.deflated(Coding::Gzip).expect("compressed").into_pieces().concat();
        assert_eq!(small[0], 1);
        assert_eq!(u32::from_be_bytes([small[1], small[2], small[3], small[4]]) as usize, small.len() - PREFIX);
    }
}
