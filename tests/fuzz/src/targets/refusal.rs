//! Refusals: a message is the same when it is written and read again.

use corymb_wire::refusal::{decode, encode};

/// The body, which is also taken as a message.
pub(crate) fn run(data: &[u8]) {
    let messages = [decode(data), std::str::from_utf8(data).ok().map(str::to_owned)];
    for message in messages.into_iter().flatten() {
        let written = encode(&message);
        assert_eq!(decode(written.as_bytes()).as_deref(), Some(&*message), "{written}");
    }
}
