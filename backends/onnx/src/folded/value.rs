//! What is known of a value that an engine can compute while it loads a graph.

/// Numbers of a value that are followed: those of sizes.
const MAX_NUMBERS: u64 = 64;

/// A value of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// It comes from a request.
    Fed(Fed),
    /// It follows from what the file stores.
    Fixed(Fixed),
}

/// A value that comes from requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// Its sizes, where they are known: none for one that requests give.
    pub(super) dims: Option<Vec<Option<u64>>>,
    /// It has so many dimensions at most.
    pub(super) rank: u64,
}

impl Fed {
    /// Of a shape that is not known.
    pub(super) fn of(rank: u64) -> Self {
        Self { dims: None, rank }
    }
}

/// A value that no request changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fixed {
    /// At most so many; none where nobody knows.
    pub(super) elements: Option<u64>,
    pub(super) dims: Option<Vec<u64>>,
    /// Its elements in row-major order where they are whole numbers, known and few. One that is none is a size that requests
    /// give: a value with such a number is not computed at load.
    pub(super) numbers: Option<Vec<Option<i64>>>,
}

impl Fixed {
    pub(super) fn unknown() -> Self {
        Self::default()
    }

    /// Of that shape.
    pub(super) fn of(dims: Vec<u64>) -> Self {
        Self { elements: Some(product(&dims)), dims: Some(dims), numbers: None }
    }

    /// Of a shape that is not known.
    pub(super) fn at_most(elements: Option<u64>) -> Self {
        Self { elements, ..Self::default() }
    }

    /// Of that shape if it is known, else so many elements.
    pub(super) fn shaped(dims: Option<Vec<u64>>, elements: Option<u64>) -> Self {
        dims.map_or_else(|| Self::at_most(elements), Self::of)
    }

    /// These in a row.
    pub(super) fn row(numbers: Vec<Option<i64>>) -> Self {
        let shape = Self::of(vec![numbers.len() as u64]);
        Self { numbers: Some(numbers), ..shape }.bounded()
    }

    /// With these numbers, if there are as many as elements.
    pub(super) fn with(mut self, numbers: Option<Vec<Option<i64>>>) -> Self {
        self.numbers = numbers.filter(|numbers| self.elements == Some(numbers.len() as u64));
        self.bounded()
    }

    fn bounded(mut self) -> Self {
        self.numbers = self.numbers.filter(|numbers| numbers.len() as u64 <= MAX_NUMBERS);
        self
    }

    /// Whether a request gives one of its numbers.
    pub(super) fn is_open(&self) -> bool {
        self.numbers.as_ref().is_some_and(|numbers| numbers.contains(&None))
    }

    /// Its numbers, where all of them are known.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        self.numbers.as_ref()?.iter().copied().collect()
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }
}

/// How many elements a shape has.
pub(super) fn product(dims: &[u64]) -> u64 {
    dims.iter().fold(1, |product, dim| product.saturating_mul(*dim))
}

/// An axis as the format counts it: from the end where it is negative.
pub(super) fn place(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}

/// The shape that these have together, by the rules of broadcasting. None where they do not fit.
pub(super) fn broadcast<'v>(shapes: impl Iterator<Item = &'v Vec<u64>> + Clone) -> Option<Vec<u64>> {
    let rank = shapes.clone().map(Vec::len).max()?;
    let mut together = vec![1; rank];
    for shape in shapes {
        for (axis, &size) in shape.iter().enumerate() {
            let axis = &mut together[rank - shape.len() + axis];
            if *axis == 1 {
                *axis = size;
            } else if size != 1 && size != *axis {
                return None;
            }
        }
    }
    Some(together)
}
