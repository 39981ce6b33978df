//! Fuzz targets for every decoder of `corymb-wire`, and the corpus that they have found.
//!
//! A target is a function of bytes that panics where a property does not hold; each file in `src/targets` says which
//! properties those are. What all decoders owe their caller is in `decoder.rs`: the code of a refusal, the budget and the
//! limits. `reference.rs` decodes gRPC once more, by the generated types; `nested.rs` parses JSON's numbers once more.
//!
//! * `cargo test` replays the corpus, which lies in `corpus/TARGET`: it needs neither libFuzzer nor instrumented code.
//! * `just fuzz TARGET SECONDS` builds the binary `fuzz` with libFuzzer and coverage instrumentation, on stable Rust, and
//!   runs one target. New inputs go to `target/fuzz/corpus/TARGET`. Where a target panics, the log names the file with the
//!   input; that file belongs into `corpus/TARGET` under a speaking name, together with the change that mends the decoder.
//! * `just fuzz-minimise TARGET` keeps of the committed and the new inputs those that cover most, within the corpus's
//!   bounds. Files with a speaking name stay.
//! * `cargo run -p corymb-tests-fuzz --example seed` writes the `seed-…` files again, from the wire's own encoders.
//!
//! The first bytes of an input choose the signature and the headers; the rest is the body.

mod decoder;
mod equality;
mod input;
mod nested;
mod reference;
mod signatures;
mod targets;

use targets::{
    grpc_answer, grpc_frame, grpc_request, inflate, numbers, picture, raw, refusal, texts, timeouts, v1_answer,
    v1_request, v2_answer, v2_metadata, v2_request,
};

/// The folder of the corpus, each target by the name of its folder there.
pub const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");

/// Panics where a property does not hold.
pub type Target = fn(&[u8]);

/// All targets and their names.
pub const TARGETS: [(&str, Target); 15] = [
    ("v1_request", v1_request::run),
    ("v1_answer", v1_answer::run),
    ("v2_request", v2_request::run),
    ("v2_answer", v2_answer::run),
    ("v2_metadata", v2_metadata::run),
    ("grpc_request", grpc_request::run),
    ("grpc_answer", grpc_answer::run),
    ("grpc_frame", grpc_frame::run),
    ("inflate", inflate::run),
    ("numbers", numbers::run),
    ("texts", texts::run),
    ("picture", picture::run),
    ("raw", raw::run),
    ("refusal", refusal::run),
    ("timeouts", timeouts::run),
];
