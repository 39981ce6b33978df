//! The commands, a folder for each: what may be typed behind it, and what it does.

pub(crate) mod bench;
pub(crate) mod compiler;
pub(crate) mod doctor;
pub(crate) mod instance;
pub(crate) mod manifest;
pub(crate) mod models;
pub(crate) mod plugin;
pub(crate) mod predict;
pub(crate) mod serve;
pub(crate) mod simulate;
pub(crate) mod tune;
