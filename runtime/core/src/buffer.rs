//! A growable byte buffer whose start is aligned to 64 bytes, so that any element type and any SIMD load fits.

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;

/// One cache line; the unit in which [`Buffer`] allocates.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; Buffer::ALIGNMENT]);

/// Bytes that a tensor will own. Written once, then frozen into shared, immutable [`Bytes`] without a copy.
#[derive(Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

/// A larger buffer is better zeroed by the operating system.
const ZEROED_HERE: usize = (4 << 20) / Buffer::ALIGNMENT;

/// Lines of zeros. Asked for zeroed memory the allocator gives pages that it has back to the operating system and takes
/// them anew: a call, interrupts on the other cores that run this process, and a fault for each page, 86 in a request to
/// the flowers model. Writing the zeros costs none of it, and leaves them in the cache that the tensor is written to next.
fn zeros(lines: usize) -> Vec<Line> {
    if lines > ZEROED_HERE {
        return bytemuck::zeroed_vec(lines);
    }
    // Seen through, the compiler would make of the two steps the request that they avoid.
    let mut zeros = std::hint::black_box(Vec::with_capacity(lines));
    zeros.resize(lines, Line::zeroed());
    zeros
}

impl Buffer {
    /// The alignment of the first byte.
    pub const ALIGNMENT: usize = 64;

    /// An empty buffer with room for `bytes` bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { lines: zeros(bytes.div_ceil(Self::ALIGNMENT)), len: 0 }
    }

    /// `len` bytes of zero.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { len, ..Self::with_capacity(len) }
    }

    /// A copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.as_mut_slice::<u8>().copy_from_slice(bytes);
        buffer
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends one element. All elements of a buffer are of one size.
    #[inline]
    pub fn push<T: Pod>(&mut self, element: T) {
        let end = self.len + size_of::<T>();
        if end > self.lines.len() * Self::ALIGNMENT {
            self.grow(end);
        }
        bytemuck::cast_slice_mut::<Line, T>(&mut self.lines)[self.len / size_of::<T>()] = element;
        self.len = end;
    }

    /// Appends elements of one size.
    pub fn extend_from_slice<T: Pod>(&mut self, elements: &[T]) {
        let end = self.len + size_of_val(elements);
        if end > self.lines.len() * Self::ALIGNMENT {
            self.grow(end);
        }
        bytemuck::cast_slice_mut::<Line, u8>(&mut self.lines)[self.len..end]
            .copy_from_slice(bytemuck::cast_slice(elements));
        self.len = end;
    }

    /// What has been written, as elements of `T`.
    #[must_use]
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len / size_of::<T>()]
    }

    /// What has been written, as elements of `T`, to be changed in place.
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        let elements = self.len / size_of::<T>();
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..elements]
    }

    /// The bytes, shared from now on; no copy.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        let lines = bytes.div_ceil(Self::ALIGNMENT).max(self.lines.len() * 2).max(4);
        self.lines.resize(lines, Line::zeroed());
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_grow_and_stay_aligned() {
        let mut buffer = Buffer::default();
        for value in 0..1000_i64 {
            buffer.push(value);
        }
        assert_eq!(buffer.as_slice::<i64>().len(), 1000);
        assert_eq!(buffer.as_slice::<i64>()[999], 999);
        let bytes = buffer.freeze();
        assert_eq!(bytes.as_ptr().align_offset(Buffer::ALIGNMENT), 0);
        assert_eq!(bytes.len(), 8000);
    }

    #[test]
    fn extends_and_pushes_mix() {
        let mut buffer = Buffer::with_capacity(4);
        buffer.push(1.0_f32);
        buffer.extend_from_slice(&[2.0_f32; 100]);
        buffer.push(3.0_f32);
        assert_eq!(buffer.as_slice::<f32>().len(), 102);
        assert_eq!(buffer.as_slice::<f32>()[101], 3.0);
    }

    #[test]
    fn an_empty_buffer_freezes() {
        assert!(Buffer::default().freeze().is_empty());
    }
}
