//! How the engine works.

use corymb_core::MemoryPool;
use corymb_engine::{EngineOptions, MemoryBudget};
use corymb_hardware::Hardware;

use super::cache::cache;
use super::environment::Environment;
use super::flags::ServeFlags;
use super::models::SourceFlags;
use crate::allocator;

/// The part of the configuration that every command with a model needs.
pub(crate) fn engine_options(sources: &SourceFlags, environment: &Environment) -> EngineOptions {
    let defaults = EngineOptions::default();
    EngineOptions {
        backend: sources.backend.clone().unwrap_or(defaults.backend),
        device: sources.device.clone().unwrap_or(defaults.device),
        cache: cache(sources.cache.as_ref(), environment).folder,
        ..defaults
    }
}

/// The same for `serve`, with as many threads as were planned.
pub(super) fn serving(
    flags: &ServeFlags,
    workers: usize,
    environment: &Environment,
    hardware: &Hardware,
) -> EngineOptions {
    let defaults = EngineOptions::default();
    EngineOptions {
        workers,
        max_run_time: flags.timeouts.max_run_time.unwrap_or(defaults.max_run_time),
        plugin_timeout: flags.timeouts.plugin_timeout.unwrap_or(defaults.plugin_timeout),
        memory: memory_budget(hardware),
        max_in_flight: flags.limits.max_in_flight(workers),
        max_queue: flags.limits.max_queue(workers),
        pool: request_memory(hardware),
        keep_going: flags.loading.keep_going.unwrap_or(false),
        ..engine_options(&flags.sources, environment)
    }
}

/// What of it requests may hold beside the models.
fn request_memory(hardware: &Hardware) -> MemoryPool {
    let Some(limit) = hardware.memory.limit() else { return MemoryPool::default() };
    let (limit, memory) = (limit.limit_bytes, hardware.memory.clone());
    // A library that others have read before is resident here, and not this group's to pay for, until they are gone.
    let used = move || {
        let taken = limit.saturating_sub(memory.available_bytes()?);
        Some(taken.max(memory.current_usage().process_bytes.unwrap_or(0)))
    };
    MemoryPool::of_process(limit, used, allocator::purge)
}

/// What the control group or the machine allows; none where it cannot be told.
fn memory_budget(hardware: &Hardware) -> Option<MemoryBudget> {
    let limit = hardware.memory.limit()?.limit_bytes;
    let memory = hardware.memory.clone();
    Some(MemoryBudget::new(limit, move || memory.available_bytes().unwrap_or(limit)))
}
