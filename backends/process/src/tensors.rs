//! Tensors in memory that both sides have open: written on one side, described in a message, read on the other.
//!
//! Neither side maps it, so nothing that the other does while it reads or writes can be more than wrong bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use corymb_core::{Buffer, DType, Tensor, Tensors, element_count};
use serde::{Deserialize, Serialize};

/// What stays after a run, in bytes; more is given back.
const KEPT: u64 = 16 << 20;

/// A tensor of a request, and the place of its content.
#[derive(Serialize, Deserialize)]
pub(crate) struct Placed {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    at: u64,
    /// In bytes. Of BYTES each element is behind its length, of four bytes, lowest first.
    len: u64,
}

/// What a backend gives or is given: for each request of a run its tensors.
pub(crate) type Batch = Vec<Vec<Placed>>;

/// Bytes of the content of a batch.
pub(crate) fn len(batch: &Batch) -> u64 {
    batch.iter().flatten().fold(0, |sum, placed| placed.len.saturating_add(sum))
}

/// Writes tensors, one behind the other.
pub(crate) fn write(memory: &File, requests: &[Tensors]) -> io::Result<Batch> {
    let mut at = 0;
    let mut place = |(name, tensor): (&str, &Tensor)| -> io::Result<Placed> {
        let begin = at;
        let mut put = |bytes: &[u8]| -> io::Result<()> {
            memory.write_all_at(bytes, at)?;
            at += bytes.len() as u64;
            Ok(())
        };
        if let Some(bytes) = tensor.bytes() {
            put(bytes)?;
        } else {
            let mut joined = Vec::new();
            for element in tensor.elements().unwrap_or_default() {
                let length = u32::try_from(element.len()).map_err(|_| io::Error::other("an element has over 4 GiB"))?;
                joined.extend_from_slice(&length.to_le_bytes());
                joined.extend_from_slice(element);
            }
            put(&joined)?;
        }
        let (dtype, shape) = (tensor.dtype().name().to_owned(), tensor.shape().to_vec());
        Ok(Placed { name: name.to_owned(), dtype, shape, at: begin, len: at - begin })
    };
    requests.iter().map(|tensors| tensors.iter().map(&mut place).collect()).collect()
}

/// Reads what the other side wrote.
///
/// # Errors
/// When a description does not fit what is there: nothing is allocated that is not.
pub(crate) fn read(memory: &File, batch: &Batch) -> io::Result<Vec<Tensors>> {
    let there = memory.metadata()?.len();
    let tensor = |placed: &Placed| -> io::Result<(String, Tensor)> {
        let Placed { name, dtype, shape, at, len } = placed;
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("tensor '{name}': {what}"));
        let dtype = DType::from_name(dtype).ok_or_else(|| wrong("an unknown datatype"))?;
        if at.checked_add(*len).is_none_or(|end| end > there) {
            return Err(wrong("its content is not there"));
        }
        let mut content = Buffer::zeroed(usize::try_from(*len).map_err(|_| wrong("it is too large"))?);
        memory.read_exact_at(content.as_mut_slice::<u8>(), *at)?;
        let tensor = if dtype == DType::Bytes {
            let count = element_count(shape).map_err(|error| wrong(&error.to_string()))?;
            let elements = elements(&content.freeze(), count).ok_or_else(|| wrong("its elements are cut"))?;
            Tensor::from_elements(shape.as_slice(), elements)
        } else {
            Tensor::from_buffer(dtype, shape.as_slice(), content)
        };
        Ok((name.clone(), tensor.map_err(|error| wrong(&error.to_string()))?))
    };
    batch.iter().map(|tensors| tensors.iter().map(tensor).collect()).collect()
}

fn elements(content: &Bytes, count: usize) -> Option<Vec<Bytes>> {
    let mut elements = Vec::with_capacity(count.min(content.len() / 4));
    let mut at = 0;
    while at < content.len() {
        let length = u32::from_le_bytes(content.get(at..at + 4)?.try_into().ok()?) as usize;
        let end = (at + 4).checked_add(length).filter(|end| *end <= content.len())?;
        elements.push(content.slice(at + 4..end));
        at = end;
    }
    Some(elements)
}

/// Gives back what a large run has left.
pub(crate) fn trim(memory: &File) -> io::Result<()> {
    if memory.metadata()?.len() > KEPT { memory.set_len(0) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    fn memory() -> File {
        File::from(memfd_create("corymb-test", MemfdFlags::CLOEXEC).expect("memory"))
    }

    #[test]
    fn what_is_written_is_read() {
        let memory = memory();
        let texts = ["", "one", "naïve"].map(|text| Bytes::from_static(text.as_bytes())).to_vec();
        let requests = [
            Tensors::from_iter([
                ("x", Tensor::from_slice([2, 3], &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("valid")),
                ("text", Tensor::from_elements([3, 1], texts).expect("valid")),
            ]),
            Tensors::from_iter([
                ("flag", Tensor::new(DType::Bool, [1], Bytes::from_static(&[1])).expect("valid")),
                ("none", Tensor::from_slice::<i64>([0, 4], &[]).expect("valid")),
                ("number", Tensor::from_slice([], &[-7_i64]).expect("valid")),
            ]),
        ];
        let batch = write(&memory, &requests).expect("written");
        assert_eq!(len(&batch), 24 + 12 + 9 + 1 + 8);
        assert_eq!(read(&memory, &batch).expect("read"), requests);
        trim(&memory).expect("trimmed");
        assert_eq!(read(&memory, &batch).expect("kept"), requests);
    }

    #[test]
    fn a_description_that_lies_is_refused() {
        let memory = memory();
        memory.write_all_at(&[9; 64], 0).expect("written");
        let placed = |dtype: &str, shape: &[usize], at: u64, len: u64| {
            vec![vec![Placed { name: "x".to_owned(), dtype: dtype.to_owned(), shape: shape.to_vec(), at, len }]]
        };
        let lies = [
            placed("FP32", &[1 << 40], 0, 1 << 42),
            placed("FP32", &[4], 60, 16),
            placed("FP32", &[4], u64::MAX, 16),
            placed("FP32", &[5], 0, 16),
            placed("FP31", &[4], 0, 16),
            placed("BOOL", &[4], 0, 4),
            placed("BYTES", &[1], 0, 16),
            placed("BYTES", &[usize::MAX, 2], 0, 16),
        ];
        for (number, batch) in lies.iter().enumerate() {
            assert!(read(&memory, batch).is_err(), "{number}");
        }
    }
}
