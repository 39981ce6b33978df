//! Variables of the environment, handed on as values, as all stores read them.

use std::collections::BTreeMap;

/// What the process was given.
pub(crate) type Environment = BTreeMap<String, String>;

/// The value of a variable; one that is empty counts as none.
pub(crate) fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Whether a switch is on.
pub(crate) fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}
