//! What a user sees, tested through the real binary and real clients.

mod bench;
mod cases;
mod clients;
mod collector;
mod commands;
mod dashboards;
mod doctor;
mod drain;
mod engine_options;
mod engines;
mod flowers;
mod harness;
mod hazards;
mod hostile;
mod live;
mod manifests;
mod mistakes;
mod parity;
mod repository;
mod signals;
mod signatures;
mod start;
mod stats;
mod telemetry;
mod tidy;
mod tune;
