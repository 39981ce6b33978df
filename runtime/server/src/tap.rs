//! A place to look on: requests and answers as tensors, free of any protocol.

use corymb_core::{Error, Request, Response};
use corymb_engine::Protocol;

/// Sees each prediction that was decoded, and what became of it, in every protocol alike.
///
/// Both calls happen on the way of the request, so an implementation only takes note: tensors share their memory when they
/// are cloned. A request whose caller went away has no second call.
pub trait Tap: Send + Sync {
    /// A request as the engine is about to get it, with its model, version, parameters and inputs. `number` is its own.
    fn request(&self, number: u64, protocol: Protocol, request: &Request);

    /// What became of the request of that number: the answer before it is encoded, or why there is none.
    fn answer(&self, number: u64, answer: Result<&Response, &Error>);
}
