//! Nested lists: walks them once, finds their shape, and says where they are ragged.

use corymb_core::MAX_RANK;
use jiter::{Jiter, Peek};

use super::fault::{Fault, found};

/// The size of a level of which no list has been closed. No list has so many elements.
const OPEN: usize = usize::MAX;

/// The shape that the lists read so far agree on.
#[derive(Clone, Debug)]
pub(super) struct Nest {
    /// Of each level; [`OPEN`] until one of its lists has been closed.
    sizes: [usize; MAX_RANK],
    /// How deep lists have been seen.
    levels: usize,
    /// How deep the values lie, once one has been seen.
    rank: Option<usize>,
    /// The depth at which anything, lists too, is one value.
    opaque: Option<usize>,
}

impl Nest {
    /// `opaque` is the depth at which anything, lists too, is one value; none where only lists are lists.
    pub(super) fn new(opaque: Option<usize>) -> Self {
        Self { sizes: [OPEN; MAX_RANK], levels: 0, rank: None, opaque }
    }

    pub(super) fn has_documents(&self) -> bool {
        self.opaque.is_some()
    }

    /// Reads the value at which `json` stands, calling `leaf` for each element in row-major order. `depth` is 0 for a
    /// whole tensor and 1 for one row of it.
    pub(super) fn walk<F>(&mut self, json: &mut Jiter<'_>, peek: Peek, depth: usize, leaf: &mut F) -> Result<(), Fault>
    where
        F: FnMut(&mut Jiter<'_>, Peek) -> Result<(), Fault>,
    {
        // The levels above a row are those that the rows themselves make.
        self.levels = self.levels.max(depth);
        self.value(json, peek, depth, leaf)
    }

    /// The shape of all that was read; `rows`, where given, is the size of axis 0.
    pub(super) fn shape(&self, rows: Option<usize>) -> Vec<usize> {
        let rank = self.rank.unwrap_or(self.levels);
        let mut shape: Vec<usize> =
            self.sizes[..rank].iter().map(|size| if *size == OPEN { 0 } else { *size }).collect();
        if let (Some(first), Some(rows)) = (shape.first_mut(), rows) {
            *first = rows;
        }
        shape
    }

    #[inline]
    fn value<F>(&mut self, json: &mut Jiter<'_>, peek: Peek, depth: usize, leaf: &mut F) -> Result<(), Fault>
    where
        F: FnMut(&mut Jiter<'_>, Peek) -> Result<(), Fault>,
    {
        if peek == Peek::Array && self.opaque != Some(depth) {
            return self.list(json, depth, leaf);
        }
        if self.rank != Some(depth) {
            self.first_value(peek, depth)?;
        }
        leaf(json, peek)
    }

    #[cold]
    fn first_value(&mut self, peek: Peek, depth: usize) -> Result<(), Fault> {
        if self.rank.is_some() || self.levels != depth {
            let found = found(peek).unwrap_or("a value");
            return Err(Fault::new(format!("found {found} where others have a list: the nesting is ragged")));
        }
        self.rank = Some(depth);
        Ok(())
    }

    fn list<F>(&mut self, json: &mut Jiter<'_>, depth: usize, leaf: &mut F) -> Result<(), Fault>
    where
        F: FnMut(&mut Jiter<'_>, Peek) -> Result<(), Fault>,
    {
        if depth >= MAX_RANK {
            return Err(Fault::new(format!("lists are nested deeper than {MAX_RANK}")));
        }
        if self.rank.is_some_and(|rank| depth >= rank) {
            return Err(Fault::new("found a list where others have a value: the nesting is ragged"));
        }
        self.levels = self.levels.max(depth + 1);
        let mut count = 0;
        let mut next = json.known_array()?;
        while let Some(peek) = next {
            self.value(json, peek, depth + 1, leaf).map_err(|fault| fault.at(count))?;
            count += 1;
            next = json.array_step()?;
        }
        match self.sizes[depth] {
            OPEN => self.sizes[depth] = count,
            size if size == count => {}
            size => {
                let what = format!("has {count} values where the first list of that depth has {size}");
                return Err(Fault::new(format!("{what}: the nesting is ragged")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Result<Vec<usize>, String> {
        let mut json = Jiter::new(text.as_bytes());
        let mut nest = Nest::new(None);
        let peek = json.peek().expect("not empty");
        nest.walk(&mut json, peek, 0, &mut |json, peek| Ok(json.known_skip(peek)?))
            .map_err(|fault| fault.into_error("x", text.as_bytes()).message)?;
        Ok(nest.shape(None))
    }

    #[test]
    fn shapes_are_found() {
        assert_eq!(shape("5"), Ok(vec![]));
        assert_eq!(shape("[]"), Ok(vec![0]));
        assert_eq!(shape("[1,2,3]"), Ok(vec![3]));
        assert_eq!(shape("[[1,2],[3,4],[5,6]]"), Ok(vec![3, 2]));
        assert_eq!(shape("[[],[]]"), Ok(vec![2, 0]));
        assert_eq!(shape("[[[]]]"), Ok(vec![1, 1, 0]));
        let deepest = format!("{}1{}", "[".repeat(16), "]".repeat(16));
        assert_eq!(shape(&deepest), Ok(vec![1; 16]));
    }

    #[test]
    fn raggedness_is_named_where_it_is() {
        let cases = [
            ("[[1,2],[3]]", "x[1]: has 1 values where the first list of that depth has 2"),
            ("[[1,2],3]", "x[1]: found a number where others have a list"),
            ("[1,[2]]", "x[1]: found a list where others have a value"),
            ("[[],[1]]", "x[1]: has 1 values where the first list of that depth has 0"),
            ("[[[1],[2]],[[3],[]]]", "x[1][1]: has 0 values where the first list of that depth has 1"),
            ("[[[]],[1]]", "x[1][0]: found a number where others have a list"),
        ];
        for (text, expected) in cases {
            assert_eq!(shape(text), Err(format!("{expected}: the nesting is ragged")), "{text}");
        }
        let too_deep = format!("{}1{}", "[".repeat(17), "]".repeat(17));
        assert_eq!(shape(&too_deep), Err(format!("x{}: lists are nested deeper than 16", "[0]".repeat(16))));
    }
}
