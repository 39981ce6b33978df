//! The rules are held against tables of cases, one line each; `tests/language.rs` says how a line is read.

pub(super) mod broken;
mod classical;
mod control;
mod coverage;
mod elementwise;
pub(crate) mod graphs;
mod language;
mod layout;
mod network;
mod products;
mod runtime;
mod selection;
mod sizes;
