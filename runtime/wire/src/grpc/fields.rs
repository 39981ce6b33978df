//! Protobuf's wire format, read a field at a time: lengths are checked against what is there, and bytes stay in place.

use bytes::{Buf, Bytes};
use corymb_core::{Code, Error};
use prost::encoding::{WireType, decode_key, decode_varint};

/// A field's value as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A text, bytes, a message, or packed numbers.
    Data(Bytes),
}

/// The fields of one message.
#[derive(Clone, Debug)]
pub(super) struct Fields(Bytes);

impl Fields {
    pub(super) fn of(message: Bytes) -> Self {
        Self(message)
    }

    /// The next field and its number; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Field)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = decode_key(&mut self.0).map_err(|error| malformed(error.to_string()))?;
        let field = match wire_type {
            WireType::Varint => Field::Varint(self.varint()?),
            WireType::SixtyFourBit => Field::Fixed64(self.fixed(number, 8, Bytes::get_u64_le)?),
            WireType::ThirtyTwoBit => Field::Fixed32(self.fixed(number, 4, Bytes::get_u32_le)?),
            WireType::LengthDelimited => {
                let len = self.varint()?;
                match usize::try_from(len) {
                    Ok(len) if len <= self.0.len() => Field::Data(self.0.split_to(len)),
                    _ => {
                        let left = self.0.len();
                        return Err(malformed(format!("field {number} claims {len} bytes; {left} are left")));
                    }
                }
            }
            WireType::StartGroup | WireType::EndGroup => return Err(malformed(format!("field {number} is a group"))),
        };
        Ok(Some((number, field)))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        decode_varint(&mut self.0).map_err(|error| malformed(error.to_string()))
    }

    fn fixed<T>(&mut self, number: u32, size: usize, read: impl FnOnce(&mut Bytes) -> T) -> Result<T, Error> {
        if self.0.len() < size {
            return Err(malformed(format!("field {number} takes {size} bytes; {} are left", self.0.len())));
        }
        Ok(read(&mut self.0))
    }
}

/// Numbers that stand packed one after the other.
pub(super) fn packed_varints(mut data: Bytes, mut each: impl FnMut(u64) -> Result<(), Error>) -> Result<(), Error> {
    while !data.is_empty() {
        each(decode_varint(&mut data).map_err(|error| malformed(error.to_string()))?)?;
    }
    Ok(())
}

/// The text in a field.
pub(super) fn text(field: Field, what: &str) -> Result<String, Error> {
    match field {
        Field::Data(data) => {
            String::from_utf8(data.into()).map_err(|_invalid| malformed(format!("{what} is not valid UTF-8")))
        }
        _ => Err(malformed(format!("{what} is not a text"))),
    }
}

/// The bytes, or the message, in a field.
pub(super) fn data(field: Field, what: &str) -> Result<Bytes, Error> {
    match field {
        Field::Data(data) => Ok(data),
        _ => Err(malformed(format!("{what} has the wrong wire type"))),
    }
}

pub(super) fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidArgument, format!("the message is not valid protobuf: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &'static [u8]) -> Result<Vec<(u32, Field)>, Error> {
        let mut fields = Fields::of(Bytes::from_static(bytes));
        let mut all = Vec::new();
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn every_wire_type_is_read() {
        let fields = all(&[0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0]);
        let expected = vec![
            (1, Field::Varint(150)),
            (2, Field::Data(Bytes::from_static(b"hi"))),
            (3, Field::Fixed32(1)),
            (4, Field::Fixed64(2)),
        ];
        assert_eq!(fields.expect("valid"), expected);
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        for bytes in [
            &[0x12, 5, b'h'][..],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x1d, 1, 0],
            &[0x21, 1, 0, 0, 0],
            &[0x08, 0x80],
            &[0x80],
            &[0x0b],
            &[0x00],
        ] {
            assert!(all(bytes).is_err(), "{bytes:?}");
        }
    }
}
