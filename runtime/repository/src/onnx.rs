//! How an `.onnx` file is named, and which other files it refers to, by walking its protobuf without reading its weights.
//!
//! Field numbers are those of `onnx.proto` (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use corymb_core::files;

/// Graphs in attributes of nodes of graphs: deeper is no model.
const MAX_DEPTH: usize = 64;
/// The longest location, and the most of them.
const MAX_LOCATION: u64 = 4096;
const MAX_LOCATIONS: usize = 10_000;

/// Where in the tree of messages the walk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Sparse,
    Tensor,
}

impl Kind {
    /// What a field of this message holds, as far as it leads to tensors.
    fn field(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Some(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::Sparse),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            _ => None,
        }
    }
}

/// Whether a file of this name is taken for an ONNX model.
pub(crate) fn is_onnx(name: &str) -> bool {
    // What begins with a dot is not seen, as macOS's `._model.onnx` beside a `model.onnx`.
    name.strip_suffix(".onnx").is_some_and(|stem| !stem.is_empty()) && !name.starts_with('.')
}

/// Whether a name is that of something that is fetched by itself: a model or an archive.
pub(crate) fn is_file(name: &str) -> bool {
    is_onnx(name) || crate::archive::Kind::of(name).is_some()
}

/// The largest message of protobuf, in bytes.
const MAX_SIZE: u64 = i32::MAX as u64;

/// `TensorProto.external_data`, a map of strings.
const EXTERNAL_DATA: u64 = 13;

/// The locations of a model's external data, relative to its folder, as the file has them: unchecked.
///
/// # Errors
/// When the file cannot be read, or is not a well-formed message; which may be left to who loads it.
pub fn external_data(path: &Path) -> io::Result<BTreeSet<String>> {
    let file = files::open(path)?;
    let size = file.metadata()?.len();
    if size > MAX_SIZE {
        return Err(malformed("larger than a message can be"));
    }
    let mut walk = Walk { reader: BufReader::with_capacity(64 << 10, file), at: 0, found: BTreeSet::new() };
    walk.message(Kind::Model, size, 0)?;
    Ok(walk.found)
}

struct Walk {
    reader: BufReader<File>,
    at: u64,
    found: BTreeSet<String>,
}

impl Walk {
    fn message(&mut self, kind: Kind, end: u64, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(malformed("messages are nested too deep"));
        }
        while self.at < end {
            let key = self.varint()?;
            let (number, wire) = (key >> 3, key & 7);
            if number == 0 {
                // As of a file whose room was set aside and that nobody has written yet.
                return Err(malformed("a field of the number 0"));
            }
            let length = match wire {
                0 => {
                    self.varint()?;
                    continue;
                }
                1 => 8,
                2 => self.varint()?,
                5 => 4,
                _ => return Err(malformed("an unknown wire type")),
            };
            let inner = self.at.checked_add(length).filter(|inner| *inner <= end);
            let inner = inner.ok_or_else(|| malformed("a field is longer than its message"))?;
            match kind.field(number).filter(|_| wire == 2) {
                Some(field) => self.message(field, inner, depth + 1)?,
                None if kind == Kind::Tensor && number == EXTERNAL_DATA => self.entry(inner)?,
                None => self.skip(length)?,
            }
        }
        if self.at == end { Ok(()) } else { Err(malformed("a message ends inside a field")) }
    }

    /// One pair of key (1) and value (2).
    fn entry(&mut self, end: u64) -> io::Result<()> {
        let (mut key, mut value) = (String::new(), String::new());
        while self.at < end {
            let tag = self.varint()?;
            let length = self.varint()?;
            if length > MAX_LOCATION || self.at + length > end {
                return Err(malformed("an entry of external data is too long"));
            }
            match tag {
                0x0a => key = self.text(length)?,
                0x12 => value = self.text(length)?,
                _ => return Err(malformed("an entry of external data has an unknown field")),
            }
        }
        if key == "location" {
            self.found.insert(value);
        }
        if self.found.len() > MAX_LOCATIONS {
            return Err(malformed("too many files of external data"));
        }
        Ok(())
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        let mut text = String::new();
        self.reader.by_ref().take(length).read_to_string(&mut text)?;
        self.at += length;
        Ok(text)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        self.reader.seek_relative(i64::try_from(length).map_err(|_| malformed("a field is too long"))?)?;
        self.at += length;
        Ok(())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.reader.fill_buf()?.first().copied() else {
                return Err(malformed("the file ends early"));
            };
            self.reader.consume(1);
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number is too long"))
    }
}

fn malformed(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).expect("short")], content].concat()
    }

    fn tensor(location: &str) -> Vec<u8> {
        let entry = |key: &str, value: &str| [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        let entries = [("location", location), ("offset", "0")].map(|(key, value)| field(13, &entry(key, value)));
        [field(9, b"raw"), entries.concat(), vec![14 << 3, 1]].concat()
    }

    fn locations(content: &[u8]) -> io::Result<Vec<String>> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        external_data(file.path()).map(|found| found.into_iter().collect())
    }

    #[test]
    fn locations_of_initializers_and_constants_are_found() {
        let attribute = field(5, &tensor("b.bin"));
        let graph = [field(5, &tensor("a.bin")), field(1, &field(5, &attribute)), field(2, b"name")].concat();
        let model = [vec![8, 9], field(7, &graph)].concat();
        assert_eq!(locations(&model).expect("well-formed"), ["a.bin", "b.bin"]);
        assert!(locations(b"").expect("empty").is_empty());
    }

    #[test]
    fn what_is_no_message_is_an_error_and_no_more() {
        for content in [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x3a\x7f\x0a", b"hello", &[0x0f]] {
            assert!(locations(content).is_err(), "{content:?}");
        }
        let nested = (0..100).fold(Vec::new(), |inner: Vec<u8>, _| {
            let length = |length: usize| [0x80 | (length & 0x7f) as u8, (length >> 7) as u8];
            [&[7 << 3 | 2][..], &length(inner.len()), &inner].concat()
        });
        let _ = locations(&nested);
    }
}
