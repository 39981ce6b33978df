//! Sizes as polynomials: what a dimension is for any number of rows, sequence length or picture size.

use std::cmp::Ordering;
use std::collections::HashMap;

/// A quantity without a known number, by its index in [`Symbols`].
pub(super) type Symbol = u32;

/// The number of rows.
pub(super) const ROWS: Symbol = 0;

/// Larger polynomials than exporters write are given up, so that no file makes the analysis slow.
const MAX_TERMS: usize = 16;
const MAX_DEGREE: usize = 8;

/// A polynomial with integer coefficients, in the one form that equal polynomials have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Polynomial(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// Ascending, each as often as its exponent says.
    symbols: Vec<Symbol>,
    coefficient: i64,
}

/// Graded lexicographic order, which products keep: what division by the leading term rests on. The greatest comes first.
fn order(one: &[Symbol], two: &[Symbol]) -> Ordering {
    two.len().cmp(&one.len()).then_with(|| one.cmp(two))
}

impl Polynomial {
    pub(super) fn constant(value: i64) -> Self {
        if value == 0 { Self::default() } else { Self(vec![Term { symbols: Vec::new(), coefficient: value }]) }
    }

    pub(super) fn symbol(symbol: Symbol) -> Self {
        Self(vec![Term { symbols: vec![symbol], coefficient: 1 }])
    }

    /// The number of rows.
    pub(super) fn rows() -> Self {
        Self::symbol(ROWS)
    }

    pub(super) fn as_constant(&self) -> Option<i64> {
        match self.0.as_slice() {
            [] => Some(0),
            [only] if only.symbols.is_empty() => Some(only.coefficient),
            _ => None,
        }
    }

    pub(super) fn is(&self, value: i64) -> bool {
        self.as_constant() == Some(value)
    }

    /// Whether it changes with the number of rows.
    pub(super) fn has_rows(&self) -> bool {
        self.symbols().any(|symbol| symbol == ROWS)
    }

    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.0.iter().flat_map(|term| term.symbols.iter().copied())
    }

    fn coefficients(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|term| term.coefficient)
    }

    /// None where the result is too large to be worth following.
    pub(super) fn plus(&self, other: &Self) -> Option<Self> {
        Self::collect(self.0.iter().chain(&other.0).cloned().collect())
    }

    pub(super) fn minus(&self, other: &Self) -> Option<Self> {
        self.plus(&other.times(&Self::constant(-1))?)
    }

    pub(super) fn times(&self, other: &Self) -> Option<Self> {
        if self.0.len() * other.0.len() > MAX_TERMS * MAX_TERMS {
            return None;
        }
        let mut terms = Vec::with_capacity(self.0.len() * other.0.len());
        for one in &self.0 {
            for two in &other.0 {
                let mut symbols = [one.symbols.as_slice(), &two.symbols].concat();
                symbols.sort_unstable();
                terms.push(Term { symbols, coefficient: one.coefficient.checked_mul(two.coefficient)? });
            }
        }
        Self::collect(terms)
    }

    pub(super) fn product<'a>(factors: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        factors.into_iter().try_fold(Self::constant(1), |product, factor| product.times(factor))
    }

    fn collect(mut terms: Vec<Term>) -> Option<Self> {
        terms.sort_by(|one, two| order(&one.symbols, &two.symbols));
        let mut sum: Vec<Term> = Vec::with_capacity(terms.len());
        for term in terms {
            match sum.last_mut() {
                Some(last) if last.symbols == term.symbols => {
                    last.coefficient = last.coefficient.checked_add(term.coefficient)?;
                }
                _ => sum.push(term),
            }
        }
        sum.retain(|term| term.coefficient != 0);
        let fits = sum.len() <= MAX_TERMS && sum.iter().all(|term| term.symbols.len() <= MAX_DEGREE);
        fits.then_some(Self(sum))
    }

    /// The quotient, where the division leaves no rest whatever the symbols stand for.
    pub(super) fn divided_by(&self, divisor: &Self) -> Option<Self> {
        let leading = divisor.0.first()?;
        let (mut rest, mut quotient) = (self.clone(), Self::default());
        // Each step removes the leading term, so there are no more of them than terms can appear.
        for _ in 0..MAX_TERMS * MAX_TERMS {
            let Some(term) = rest.0.first() else { return Some(quotient) };
            let (coefficient, 0) = (
                term.coefficient.checked_div(leading.coefficient)?,
                term.coefficient.checked_rem(leading.coefficient)?,
            ) else {
                return None;
            };
            let step = Self(vec![Term { symbols: without(&term.symbols, &leading.symbols)?, coefficient }]);
            rest = rest.minus(&step.times(divisor)?)?;
            quotient = quotient.plus(&step)?;
        }
        None
    }
}

/// The symbols of a monomial divided by another.
fn without(symbols: &[Symbol], divisor: &[Symbol]) -> Option<Vec<Symbol>> {
    let mut left = symbols.to_vec();
    for symbol in divisor {
        left.remove(left.iter().position(|known| known == symbol)?);
    }
    Some(left)
}

/// What is known of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A size: a whole number that is not negative.
    Size,
    /// A whole number.
    Integer,
    /// A number that is not negative.
    Amount,
    /// Any number.
    Real,
}

/// All symbols of one analysis: equal descriptions have the same symbol.
#[derive(Debug)]
pub(super) struct Symbols {
    known: HashMap<String, Symbol>,
    kinds: Vec<Kind>,
    /// Sizes that are the lesser of a number greater than 1 and another size.
    limited: HashMap<Symbol, Polynomial>,
}

impl Symbols {
    pub(super) fn new() -> Self {
        Self { known: HashMap::new(), kinds: vec![Kind::Size], limited: HashMap::new() }
    }

    /// The symbol of a description.
    pub(super) fn named(&mut self, description: String, kind: Kind) -> Polynomial {
        let next = Symbol::try_from(self.kinds.len()).unwrap_or(Symbol::MAX);
        let symbol = *self.known.entry(description).or_insert(next);
        if symbol == next {
            self.kinds.push(kind);
        }
        Polynomial::symbol(symbol)
    }

    /// One that is equal to no other.
    pub(super) fn fresh(&mut self, kind: Kind) -> Polynomial {
        self.kinds.push(kind);
        Polynomial::symbol(Symbol::try_from(self.kinds.len() - 1).unwrap_or(Symbol::MAX))
    }

    /// The lesser of `most`, greater than 1, and another size.
    pub(super) fn limited(&mut self, most: i64, size: &Polynomial) -> Polynomial {
        let lesser = self.named(format!("at most {most} {size:?}"), Kind::Size);
        for symbol in lesser.symbols() {
            self.limited.insert(symbol, size.clone());
        }
        lesser
    }

    /// Whether `one` is the lesser of a number greater than 1 and `two`: where the two are broadcast, the result is `two`.
    pub(super) fn is_limited(&self, one: &Polynomial, two: &Polynomial) -> bool {
        matches!(one.0.as_slice(), [Term { symbols, coefficient: 1 }]
            if matches!(symbols.as_slice(), [only] if self.limited.get(only) == Some(two)))
    }

    fn kind(&self, symbol: Symbol) -> Kind {
        usize::try_from(symbol).ok().and_then(|index| self.kinds.get(index)).copied().unwrap_or(Kind::Real)
    }

    /// Whether it is a whole number.
    pub(super) fn is_whole(&self, polynomial: &Polynomial) -> bool {
        polynomial.symbols().all(|symbol| matches!(self.kind(symbol), Kind::Size | Kind::Integer))
    }

    /// Whether it cannot be negative: a sum of products of what is not.
    pub(super) fn is_amount(&self, polynomial: &Polynomial) -> bool {
        let amount = |symbol| matches!(self.kind(symbol), Kind::Size | Kind::Amount);
        polynomial.symbols().all(amount) && polynomial.coefficients().all(|coefficient| coefficient >= 0)
    }

    /// Whether it can be a size: nothing in it may be negative but what is taken from a size.
    pub(super) fn is_size(&self, polynomial: &Polynomial) -> bool {
        polynomial.symbols().all(|symbol| self.kind(symbol) == Kind::Size)
    }

    /// Whether two are never equal: one is a negative constant, and the other the product or sum of sizes.
    pub(super) fn differ(&self, one: &Polynomial, two: &Polynomial) -> bool {
        match (one.as_constant(), two.as_constant()) {
            (Some(one), Some(two)) => one != two,
            (Some(negative), None) => negative < 0 && self.is_amount(two),
            (None, Some(negative)) => negative < 0 && self.is_amount(one),
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(index: Symbol) -> Polynomial {
        Polynomial::symbol(index)
    }

    #[test]
    fn equal_polynomials_are_equal_however_they_were_made() {
        let (b, t, one) = (symbol(0), symbol(1), Polynomial::constant(1));
        let left = b.plus(&t).and_then(|sum| sum.times(&b.minus(&t)?)).expect("small");
        let right = b.times(&b).and_then(|square| square.minus(&t.times(&t)?)).expect("small");
        assert_eq!(left, right);
        assert_eq!(left.minus(&right), Some(Polynomial::default()));
        assert!(b.plus(&one).expect("small").minus(&b).expect("small").is(1));
    }

    #[test]
    fn division_leaves_no_rest_or_is_none() {
        let (b, t, h) = (symbol(0), symbol(1), symbol(2));
        let area = t.plus(&Polynomial::constant(1)).and_then(|wider| wider.times(&h)).expect("small");
        let all = b.times(&area).expect("small").times(&Polynomial::constant(6)).expect("small");
        assert_eq!(all.divided_by(&area), b.times(&Polynomial::constant(6)));
        assert_eq!(all.divided_by(&b), area.times(&Polynomial::constant(6)));
        assert_eq!(all.divided_by(&Polynomial::constant(4)), None);
        assert_eq!(b.divided_by(&t), None);
        assert_eq!(b.divided_by(&Polynomial::default()), None);
        assert_eq!(Polynomial::default().divided_by(&b), Some(Polynomial::default()));
        assert_eq!(Polynomial::constant(i64::MIN).divided_by(&Polynomial::constant(-1)), None);
    }

    #[test]
    fn what_grows_too_large_is_given_up() {
        let sum = (0..20).try_fold(Polynomial::default(), |sum, index| sum.plus(&symbol(index)));
        assert_eq!(sum, None);
        assert_eq!((0..9).try_fold(Polynomial::constant(1), |product, _| product.times(&symbol(1))), None);
        assert_eq!(Polynomial::constant(i64::MAX).plus(&Polynomial::constant(1)), None);
    }

    #[test]
    fn sizes_are_never_negative() {
        let mut symbols = Symbols::new();
        let size = symbols.named("T".to_owned(), Kind::Size);
        assert_eq!(size, symbols.named("T".to_owned(), Kind::Size));
        let any = symbols.fresh(Kind::Integer);
        let minus_one = Polynomial::constant(-1);
        assert!(symbols.differ(&size, &minus_one) && symbols.differ(&minus_one, &Polynomial::rows()));
        assert!(!symbols.differ(&any, &minus_one));
        assert!(!symbols.differ(&size.minus(&Polynomial::constant(2)).expect("small"), &minus_one));
        assert!(!symbols.is_size(&any) && symbols.is_whole(&any) && symbols.is_size(&size));
    }
}
