//! What a prediction protocol is: a target, a decoder, an encoder.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Error, Holder, Response, Signature, Tensors};
use corymb_wire::{Budget, Coding, Decoded, Encoded, Limits, grpc};
use http::HeaderMap;

use crate::target::Target;

/// A prediction protocol. Everything that two of them would do alike is in the pipeline.
pub(crate) trait Protocol: 'static {
    /// The word for metrics.
    const NAME: corymb_engine::Protocol;

    /// What the answer needs to know of the request.
    type Ask: Send + 'static;

    /// The answer's bytes.
    type Answer: Answer;

    /// How long the caller waits, by the headers.
    fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error>;

    /// Whom a request is for. Asked first with the names of its URL, before its body is read, and, where that gives none,
    /// with the message.
    fn target(place: Place<'_>, limits: &Limits) -> Result<Option<Asked>, Error>;

    /// How long the caller waits, by a message whose URL names the target; asked where the model is waited for.
    fn patience(_headers: &HeaderMap, _message: &Bytes, _limits: &Limits) -> Option<Duration> {
        None
    }

    /// The message as tensors.
    fn decode(
        signature: &Signature,
        headers: &HeaderMap,
        message: &Bytes,
        limits: &Limits,
        budget: &mut dyn Budget,
    ) -> Result<Decoded<Self::Ask>, Error>;

    /// The answer as bytes.
    fn encode(
        signature: &Signature,
        ask: Self::Ask,
        response: Response,
        budget: &mut dyn Budget,
    ) -> Result<Self::Answer, Error>;

    /// How many bytes of tensors the encoder reads or copies: all of them, unless it sends buffers as they are.
    fn copied(outputs: &Tensors) -> usize {
        outputs.byte_len()
    }
}

/// Where a target is looked for.
pub(crate) enum Place<'a> {
    /// The names in the URL, where it has any.
    Url(Option<Target>),
    /// A message.
    Message(&'a Bytes),
}

/// Whom a request is for, and what it says of itself beside that.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) target: Target,
    /// The caller's own name for the request, where it is known by now.
    pub(crate) id: String,
    /// How long the caller waits, where it is known by now.
    pub(crate) timeout: Option<Duration>,
}

impl Asked {
    pub(crate) fn of_url(target: Target) -> Self {
        Self { target, id: String::new(), timeout: None }
    }
}

/// An answer's bytes, however they lie.
pub(crate) trait Answer: Sized + Send + 'static {
    /// How many there are.
    fn len(&self) -> usize;

    /// The same answer compressed.
    fn compressed(self, coding: Coding) -> Result<Self, Error>;

    /// The same answer, whose memory is `held` until its last byte is sent.
    fn holding(self, held: Holder) -> Self;
}

impl Answer for grpc::Message {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn compressed(self, coding: Coding) -> Result<Self, Error> {
        self.deflated(coding)
    }

    /// By its last piece, which is sent last.
    fn holding(self, place: Holder) -> Self {
        self.map_last(|piece| place.keep_with(piece))
    }
}

impl Answer for Encoded {
    fn len(&self) -> usize {
        self.body.len()
    }

    /// REST's answers are sent as they are: nothing asks for this yet.
    fn compressed(self, _: Coding) -> Result<Self, Error> {
        Ok(self)
    }

    fn holding(self, place: Holder) -> Self {
        Self { body: place.keep_with(self.body), ..self }
    }
}
