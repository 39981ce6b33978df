//! What decoding one request may take: fixed limits, and memory that is asked for before it is used.

use bytes::Bytes;
use corymb_core::{Code, Error};

/// What a BYTES element takes in memory beside its bytes, measured at its peak: its place in the list, which was copied when it
/// grew, and what an engine or a plugin makes of it.
pub(crate) const ELEMENT: usize = 5 * size_of::<Bytes>();

/// Bytes that a decoder uses before it asks for them, so that a small request asks once.
pub(crate) const STEP: usize = 64 * 1024;

/// Limits of one request, whatever its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of tensors that one request may decode to, where they take more than their text or varints did. `[0,0,…]` as
    /// FP64 takes four times the bytes of its JSON and `["","",…]` ten times, so a limit on the body does not bound it.
    pub decoded: usize,
    /// BYTES elements of one tensor. An element costs memory however short it is.
    pub elements: usize,
    /// Inputs, outputs and raw contents of a gRPC message.
    pub entries: usize,
    /// Parameters of a request, an input or an output. Each name is compared with the others.
    pub parameters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { decoded: 512 * 1024 * 1024, elements: 16 * 1024 * 1024, entries: 4096, parameters: 256 }
    }
}

impl Limits {
    /// That a tensor which has `given` BYTES elements may have one more.
    pub(crate) fn check_element(&self, given: usize) -> Result<(), Error> {
        if given < self.elements {
            return Ok(());
        }
        Err(Error::new(Code::TooLarge, format!("more than {} BYTES elements", self.elements)))
    }
}

/// Memory that a decoder asks for. The server implements it by its budget for all requests in flight.
pub trait Budget {
    /// Adds `bytes` to what this request holds.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where that is more than there is.
    fn reserve(&mut self, bytes: usize) -> Result<(), Error>;
}

/// A budget without end, for clients and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl Budget for Unbounded {
    fn reserve(&mut self, _: usize) -> Result<(), Error> {
        Ok(())
    }
}

/// An empty buffer for `bytes` at most, which are asked of the budget where they are many.
pub(crate) fn reserved(bytes: usize, budget: &mut dyn Budget) -> Result<Vec<u8>, Error> {
    if bytes >= STEP {
        budget.reserve(bytes)?;
    }
    Ok(Vec::with_capacity(bytes))
}

/// The account of one request while it is decoded.
pub(crate) struct Ledger<'a> {
    pub(crate) limits: &'a Limits,
    budget: &'a mut dyn Budget,
    decoded: usize,
    /// Reserved, but not yet used.
    ahead: usize,
    /// Used, but not yet reserved: less than [`STEP`].
    pending: usize,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(limits: &'a Limits, budget: &'a mut dyn Budget) -> Self {
        Self { limits, budget, decoded: 0, ahead: 0, pending: 0 }
    }

    /// Tensors grow by `bytes` that the request's own bytes do not bound.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.decoded = self.decoded.saturating_add(bytes);
        if self.decoded > self.limits.decoded {
            return Err(self.too_large());
        }
        self.hold(bytes)
    }

    /// A tensor that has `given` BYTES elements grows by one, whose bytes lie in the body.
    pub(crate) fn take_element(&mut self, given: usize) -> Result<(), Error> {
        self.limits.check_element(given)?;
        self.take(ELEMENT)
    }

    /// How many bytes may be used until [`Ledger::take`] must be asked again.
    pub(crate) fn step(&self) -> usize {
        STEP.min(self.remaining())
    }

    /// Bytes that [`Ledger::take`] still allows.
    pub(crate) fn remaining(&self) -> usize {
        self.limits.decoded - self.decoded
    }

    /// Room is made for `bytes` that will probably be taken.
    pub(crate) fn expect(&mut self, bytes: usize) -> Result<(), Error> {
        if self.decoded.saturating_add(bytes) > self.limits.decoded {
            return Err(self.too_large());
        }
        if bytes >= STEP {
            self.budget.reserve(bytes)?;
            self.ahead += bytes;
        }
        Ok(())
    }

    /// A copy of `bytes` that are no more than what the request sent.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        let ahead = self.ahead.min(bytes);
        self.ahead -= ahead;
        self.pending += bytes - ahead;
        if self.pending >= STEP { self.settle() } else { Ok(()) }
    }

    /// Reserves what was used.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        match std::mem::take(&mut self.pending) {
            0 => Ok(()),
            bytes => self.budget.reserve(bytes),
        }
    }

    #[cold]
    fn too_large(&self) -> Error {
        let limit = self.limits.decoded;
        Error::new(
            Code::TooLarge,
            format!("the tensors of the request take more than {limit} bytes, which is the limit"),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A budget that counts, and ends.
    #[derive(Debug, Default)]
    pub(crate) struct Counted {
        pub(crate) left: usize,
        pub(crate) reserved: usize,
    }

    impl Counted {
        pub(crate) fn of(left: usize) -> Self {
            Self { left, reserved: 0 }
        }
    }

    impl Budget for Counted {
        fn reserve(&mut self, bytes: usize) -> Result<(), Error> {
            self.left = self.left.checked_sub(bytes).ok_or_else(|| Error::new(Code::Overloaded, "no room"))?;
            self.reserved += bytes;
            Ok(())
        }
    }

    #[test]
    fn small_amounts_are_reserved_together_and_large_ones_at_once() {
        let limits = Limits::default();
        let mut budget = Counted::of(usize::MAX);
        let mut ledger = Ledger::new(&limits, &mut budget);
        ledger.take(1000).expect("room");
        ledger.hold(1000).expect("room");
        assert_eq!(ledger.pending, 2000);
        ledger.take(STEP).expect("room");
        assert_eq!(ledger.pending, 0);
        ledger.hold(7).expect("room");
        ledger.settle().expect("room");
        assert_eq!(budget.reserved, STEP + 2007);
    }

    #[test]
    fn what_was_expected_is_not_reserved_twice() {
        let limits = Limits::default();
        let mut budget = Counted::of(STEP * 2);
        let mut ledger = Ledger::new(&limits, &mut budget);
        ledger.expect(STEP * 2).expect("room");
        ledger.take(STEP * 2).expect("reserved before");
        assert_eq!(ledger.take(STEP).expect_err("beyond").code, Code::Overloaded);
    }

    #[test]
    fn the_limit_on_tensors_holds_whatever_the_budget_is() {
        let limits = Limits { decoded: 100, ..Limits::default() };
        let mut budget = Unbounded;
        let mut ledger = Ledger::new(&limits, &mut budget);
        ledger.take(90).expect("room");
        assert_eq!(ledger.step(), 10);
        assert_eq!(ledger.expect(11).expect_err("beyond").code, Code::TooLarge);
        assert_eq!(ledger.take(11).expect_err("beyond").code, Code::TooLarge);
    }
}
