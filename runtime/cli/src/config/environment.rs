//! The environment of this process: read here and nowhere else, and handed on as values.

use std::collections::BTreeMap;

/// What the process was given beside its arguments.
pub(crate) type Environment = BTreeMap<String, String>;

/// The environment of this process.
pub(crate) fn environment() -> Environment {
    // A value that is not UTF-8 cannot be meant for us.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
