//! The model's name in the beginning of a message, of which not all has come.

use super::request::NAME;

/// The name in a message's first field. Protobuf's writers put fields in the order of their numbers, and `model_name` has number 1,
/// so this is where it stands; none where it is not there, not all there, or no text.
#[must_use]
pub fn first_name(begin: &[u8]) -> Option<&str> {
    let mut rest = begin;
    let (1, prost::encoding::WireType::LengthDelimited) = prost::encoding::decode_key(&mut rest).ok()? else {
        return None;
    };
    let len = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
    let name = rest.get(..len).filter(|_| (1..=NAME).contains(&len))?;
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_where_it_is_whole() {
        assert_eq!(first_name(b"\x0a\x02ab\x2a\xff\xff"), Some("ab"));
        for begin in
            [&b""[..], b"\x0a", b"\x0a\x80", b"\x0a\x03ab", b"\x0a\x00", b"\x12\x02ab", b"\x08\x02", b"\x0a\x01\xff"]
        {
            assert_eq!(first_name(begin), None, "{begin:?}");
        }
        let long = [&[0x0a, 0x81, 0x20][..], &[b'a'; 4097]].concat();
        assert_eq!(first_name(&long), None);
    }
}
