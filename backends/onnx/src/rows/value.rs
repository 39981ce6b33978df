//! What is known of a value of the graph: its shape, where the rows of the request are in it, and its numbers if they are few.

use super::polynomial::Polynomial;

/// Numbers of a value that are followed: shapes and indices, not weights.
pub(super) const MAX_NUMBERS: usize = 64;

/// Why a rule does not hold for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The node brings rows together: a row's answer can depend on other rows, or on how many there are.
    Mixes(String),
    /// There is no rule that says either.
    Unknown(String),
}

pub(super) type Outcome<T> = Result<T, Refusal>;

pub(super) fn mixes<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Refusal::Mixes(reason.into()))
}

pub(super) fn unknown<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Refusal::Unknown(reason.into()))
}

/// Where the rows are along one axis, whose size is `outer` × rows × a number that is the same for each row: the element
/// `(o × rows + r) × width + w` belongs to row `r`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) axis: usize,
    pub(super) outer: Polynomial,
}

impl Place {
    /// The rows one after the other.
    pub(super) fn at(axis: usize) -> Self {
        Self { axis, outer: Polynomial::constant(1) }
    }

    pub(super) fn moved(&self, axis: usize) -> Self {
        Self { axis, outer: self.outer.clone() }
    }
}

/// How a value depends on the rows of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// It is the same whatever the rows are and however many there are.
    Same,
    /// Each row's part depends on that row alone, and has the same shape for each.
    Along(Place),
    /// Its numbers depend on how many rows there are, and are known.
    Count,
    /// As along a place, but each row's part depends on that row and on its number among the others.
    Numbered(Place, Ordinal),
    /// Something else; the index of the reason.
    Lost(usize),
}

/// What is known of elements that depend on the number of their row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ordinal {
    /// Each is the number of its row.
    Exact,
    /// Along the last axis lies a tuple, of which the first is the number of the row and the others depend on the row alone.
    First,
    /// Nothing more.
    Any,
}

/// A shape: one polynomial an axis.
pub(super) type Shape = Vec<Polynomial>;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// None where not even the rank is known.
    pub(super) shape: Option<Shape>,
    pub(super) rows: Rows,
    /// Its numbers, where they are known and few.
    pub(super) numbers: Option<Numbers>,
}

/// The elements of a small tensor in row-major order; truth values are 0 and 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) elements: Vec<Polynomial>,
    /// Whether their element type is that of whole numbers.
    pub(super) whole: bool,
}

impl Value {
    pub(super) fn lost(reason: usize) -> Self {
        Self { shape: None, rows: Rows::Lost(reason), numbers: None }
    }

    /// A value that no request changes, but of which nothing is known.
    pub(super) fn opaque() -> Self {
        Self { shape: None, rows: Rows::Same, numbers: None }
    }

    /// A value that no row changes.
    pub(super) fn same(shape: Shape) -> Outcome<Self> {
        if shape.iter().any(Polynomial::has_rows) {
            return mixes("the shape of a value that has no rows depends on how many rows there are");
        }
        Ok(Self { shape: Some(shape), rows: Rows::Same, numbers: None })
    }

    /// A value with rows.
    pub(super) fn along(shape: Shape, place: Place) -> Outcome<Self> {
        let other = |(axis, size): (usize, &Polynomial)| axis != place.axis && size.has_rows();
        if shape.iter().enumerate().any(other) {
            return mixes("the shape of a row depends on how many rows there are");
        }
        let block = place.outer.times(&Polynomial::rows());
        let width = block.and_then(|block| shape.get(place.axis)?.divided_by(&block));
        if width.is_none_or(|width| width.has_rows() || width.is(0)) || place.outer.has_rows() {
            return unknown("the rows cannot be found in its result");
        }
        Ok(Self { shape: Some(shape), rows: Rows::Along(place), numbers: None })
    }

    /// With rows at a place, or without.
    pub(super) fn of(shape: Shape, place: Option<Place>) -> Outcome<Self> {
        match place {
            Some(place) => Self::along(shape, place),
            None => Self::same(shape),
        }
    }

    /// A value whose numbers are known.
    pub(super) fn numbers(shape: Shape, elements: Vec<Polynomial>, whole: bool) -> Self {
        let rows = if elements.iter().any(Polynomial::has_rows) { Rows::Count } else { Rows::Same };
        Self { shape: Some(shape), rows, numbers: Some(Numbers { elements, whole }) }
    }

    /// A list of whole numbers.
    pub(super) fn list(elements: Vec<Polynomial>) -> Self {
        let length = i64::try_from(elements.len()).unwrap_or(i64::MAX);
        Self::numbers(vec![Polynomial::constant(length)], elements, true)
    }

    pub(super) fn place(&self) -> Option<&Place> {
        match &self.rows {
            Rows::Along(place) => Some(place),
            _ => None,
        }
    }

    pub(super) fn is_numbered(&self) -> bool {
        matches!(self.rows, Rows::Numbered(..))
    }

    pub(super) fn is_same(&self) -> bool {
        self.rows == Rows::Same
    }

    pub(super) fn shape(&self) -> Outcome<&[Polynomial]> {
        self.shape.as_deref().map_or_else(|| unknown("the shape of an operand is not known"), Ok)
    }

    pub(super) fn rank(&self) -> Outcome<usize> {
        self.shape().map(<[_]>::len)
    }

    /// Whether it holds one number only.
    pub(super) fn is_single(&self) -> bool {
        self.shape.as_ref().is_some_and(|shape| shape.iter().all(|size| size.is(1)))
    }

    /// Its numbers as constants.
    pub(super) fn constants(&self) -> Option<Vec<i64>> {
        self.elements()?.iter().map(Polynomial::as_constant).collect()
    }

    pub(super) fn elements(&self) -> Option<&[Polynomial]> {
        self.numbers.as_ref().map(|numbers| numbers.elements.as_slice())
    }
}

/// Axis `axis` of `rank`, counted from the end where negative.
pub(super) fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let axis = if axis < 0 { axis.saturating_add(signed) } else { axis };
    match usize::try_from(axis) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => unknown("its axis is outside of its operand"),
    }
}
