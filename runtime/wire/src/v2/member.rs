//! Members of V2's objects: each at most once, of one type, and `null` where they are left out.

use jiter::{Jiter, Peek};

use crate::json::fault::{Fault, found};

/// Fills a slot that a member may fill once.
pub(super) fn once<T>(slot: &mut Option<T>, value: Option<T>, member: &str) -> Result<(), Fault> {
    if slot.is_some() {
        return Err(Fault::new(format!("`{member}` is given twice")));
    }
    *slot = value;
    Ok(())
}

/// A text.
pub(super) fn text(json: &mut Jiter<'_>, member: &str) -> Result<Option<String>, Fault> {
    match json.peek()? {
        Peek::Null => json.known_null().map(|()| None).map_err(Fault::from),
        Peek::String => Ok(Some(json.known_str()?.to_owned())),
        other => Err(unexpected(json, other, "a text").of(member)),
    }
}

/// The beginning of a list: its first element, which may be missing.
pub(super) fn list(json: &mut Jiter<'_>, member: &str) -> Result<Option<Option<Peek>>, Fault> {
    match json.peek()? {
        Peek::Null => json.known_null().map(|()| None).map_err(Fault::from),
        Peek::Array => Ok(Some(json.known_array()?)),
        other => Err(unexpected(json, other, "a list").of(member)),
    }
}

/// What stands there, and what should.
pub(super) fn unexpected(json: &mut Jiter<'_>, peek: Peek, expected: &str) -> Fault {
    match found(peek) {
        Some(found) => Fault::new(format!("is {found}; expected {expected}")),
        None => json.known_skip(peek).err().map_or_else(|| Fault::new("is malformed"), Fault::from),
    }
}
