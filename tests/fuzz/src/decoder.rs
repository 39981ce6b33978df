//! What every decoder owes its caller, whatever the bytes are: a refusal in the caller's terms, a budget that covers what
//! the tensors hold, and limits that hold.

use bytes::Bytes;
use corymb_core::{Code, Error, Tensor, Tensors};
use corymb_wire::{Budget, Limits};

/// What a BYTES element takes in memory beside its bytes.
const ELEMENT: usize = size_of::<Bytes>();

/// The inputs, outputs and parameters that [`SMALL`] allows.
pub(crate) const ENTRIES: usize = 8;

/// Limits that small inputs reach.
const SMALL: Limits = Limits { decoded: 512, elements: 8, entries: ENTRIES, parameters: 4 };

/// A budget that ends, and says how much was taken of it.
struct Counted {
    left: usize,
    reserved: usize,
}

impl Counted {
    fn of(left: usize) -> Self {
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

/// A decoder and one body.
pub(crate) struct Decoder<'a, T> {
    pub(crate) body: &'a Bytes,
    pub(crate) decode: &'a dyn Fn(&Limits, &mut dyn Budget) -> Result<T, Error>,
    pub(crate) tensors: fn(&T) -> &Tensors,
    /// Whether elements of a fixed size count against [`Limits::decoded`]: those that were text or varints do.
    pub(crate) counts: &'a dyn Fn(&Tensor) -> bool,
    /// The most tensors there can be under limits of [`ENTRIES`].
    pub(crate) most: usize,
}

impl<T> Decoder<'_, T> {
    /// Checks the decoder, and returns what it made of the body; none for a refusal.
    pub(crate) fn check(&self) -> Option<T> {
        let mut budget = Counted::of(usize::MAX);
        let decoded = (self.decode)(&Limits::default(), &mut budget);
        self.check_limits(decoded.as_ref().ok());
        let decoded = decoded.map_err(|error| check_refusal(&error)).ok()?;
        let tensors = (self.tensors)(&decoded);
        let held = held(tensors, self.body);
        let reserved = budget.reserved;
        assert!(reserved >= held, "{reserved} bytes were reserved for tensors that hold {held} beside the body");
        self.check_budget(reserved, tensors);
        Some(decoded)
    }

    /// A budget of just what was reserved suffices, and one byte less does not.
    fn check_budget(&self, reserved: usize, tensors: &Tensors) {
        let again = (self.decode)(&Limits::default(), &mut Counted::of(reserved));
        let again = again.unwrap_or_else(|error| panic!("a budget of {reserved} bytes does not suffice: {error}"));
        assert!((self.tensors)(&again) == tensors, "another budget gives other tensors");
        if let Some(less) = reserved.checked_sub(1) {
            match (self.decode)(&Limits::default(), &mut Counted::of(less)) {
                Ok(_) => panic!("{reserved} bytes were reserved, but {less} suffice"),
                Err(error) => assert_eq!(error.code, Code::Overloaded, "{error}"),
            }
        }
    }

    /// Small limits refuse, or change nothing and hold.
    fn check_limits(&self, unlimited: Option<&T>) {
        let limited = match (self.decode)(&SMALL, &mut Counted::of(usize::MAX)) {
            Ok(limited) => limited,
            Err(error) => return check_refusal(&error),
        };
        let tensors = (self.tensors)(&limited);
        assert_eq!(unlimited.map(self.tensors), Some(tensors), "small limits give other tensors");
        assert!(tensors.len() <= self.most, "{} tensors", tensors.len());
        let elements = |tensor: &Tensor| tensor.elements().map_or(0, <[Bytes]>::len);
        let most = tensors.iter().map(|(_, tensor)| elements(tensor)).max().unwrap_or(0);
        assert!(most <= SMALL.elements, "{most} BYTES elements");
        let decoded = |tensor: &Tensor| match tensor.bytes() {
            Some(bytes) if (self.counts)(tensor) => bytes.len(),
            Some(_) => 0,
            None => elements(tensor) * ELEMENT,
        };
        let decoded: usize = tensors.iter().map(|(_, tensor)| decoded(tensor)).sum();
        assert!(decoded <= SMALL.decoded, "{decoded} bytes of tensors");
    }
}

/// That a refusal is the caller's, and tells no secret.
pub(crate) fn check_refusal(error: &Error) {
    let expected = [Code::InvalidArgument, Code::TooLarge, Code::UnsupportedMediaType, Code::Unimplemented];
    assert!(expected.contains(&error.code), "{:?}: {error}", error.code);
    assert!(!error.message.is_empty(), "a refusal says what is wrong");
    assert_eq!(error.details, None, "what a caller did wrong has no internal details");
}

/// Bytes that tensors hold beside the body: those that lie elsewhere, and the handle of each BYTES element.
fn held(tensors: &Tensors, body: &Bytes) -> usize {
    tensors.iter().map(|(_, tensor)| held_by(tensor, body)).sum()
}

fn held_by(tensor: &Tensor, body: &Bytes) -> usize {
    let within = body.as_ptr_range();
    let outside = |bytes: &Bytes| {
        let own = bytes.as_ptr_range();
        if within.start <= own.start && own.end <= within.end { 0 } else { bytes.len() }
    };
    match (tensor.bytes(), tensor.elements().unwrap_or_default()) {
        (Some(bytes), _) => outside(bytes),
        // The whole body as one element: its handle, one for each request, is not reserved.
        (None, [only]) if only.as_ptr_range() == within => 0,
        (None, elements) => elements.iter().map(|element| ELEMENT + outside(element)).sum(),
    }
}
