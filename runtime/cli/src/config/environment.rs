//! The environment of this process: read here and nowhere else, and handed on as values.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Of the variables that are flags.
pub(super) const PREFIX: &str = "CORYMB_";

/// What the process was given beside its arguments.
pub(crate) type Environment = BTreeMap<String, String>;

/// The environment of this process.
pub(crate) fn environment() -> Environment {
    let known = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        // Of ours one that is not UTF-8 is no less meant for us, and names what is not there; of others it is.
        let value =
            if name.starts_with(PREFIX) { value.to_string_lossy().into_owned() } else { value.into_string().ok()? };
        Some((name, value))
    };
    std::env::vars_os().filter_map(known).collect()
}
