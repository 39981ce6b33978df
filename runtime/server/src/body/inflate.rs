//! Bounded decompression of bodies and messages, a piece at a time, so that the bytes can be accounted as they appear.

use bytes::Bytes;
use corymb_engine::{Permit, Stage};
use corymb_wire::{Coding, Inflater};

use crate::app::App;
use crate::status::ServerError;

/// How much one visit to the compute pool may produce: about 10 ms of work, so that others get their turn.
const PIECE: usize = 4 * 1024 * 1024;

/// The decompressed bytes, at most `max` of them, held by the permit where there is one. The work is done on the
/// compute pool.
pub(super) async fn inflate(
    app: &App,
    mut permit: Option<&mut Permit>,
    coding: Coding,
    compressed: Bytes,
    max: usize,
) -> Result<Bytes, ServerError> {
    let mut inflater = Inflater::new(coding, compressed);
    loop {
        // One byte more than allowed tells "too large" from "exactly full".
        let piece = PIECE.min(max - inflater.len() + 1);
        let step = move || {
            let grown = inflater.step(piece);
            (inflater, grown)
        };
        let (back, grown) = app.engine.compute(Stage::Decode, step).await?;
        inflater = back;
        let grown =
            grown.map_err(|error| ServerError::invalid(format!("the body could not be decompressed: {error}")))?;
        if inflater.len() > max {
            return Err(ServerError::too_large(format!("the body takes more than {max} bytes when decompressed")));
        }
        if let Some(permit) = &mut permit {
            // The output grows by copying it.
            permit.reserve(super::BODY, 2 * grown)?;
        }
        if grown < piece {
            return Ok(inflater.into_output());
        }
    }
}
