//! The one wasmtime engine: which proposals are on, how instances are pooled, which instruction set code is for.

use std::hash::{Hash as _, Hasher};

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::limits::TABLE_ELEMENTS;

/// Instances alive at once, over all plugins: at work, waiting for another model in `infer`, or for their own to run. So many on
/// small machines.
const INSTANCES: u32 = 64;

/// Those of a server with so many workers: each worker may have one, as may the thread that takes its place while a call is long.
pub(crate) fn instances(workers: usize) -> u32 {
    let busy = workers.saturating_mul(2).saturating_add(2 * WAITING);
    u32::try_from(busy).unwrap_or(u32::MAX).clamp(INSTANCES, MOST_INSTANCES)
}

/// The pool reserves 8 GiB of addresses for each.
const MOST_INSTANCES: u32 = 4096;

/// Of these, how many may wait for their own model to run. Each keeps a stack on which pictures may have been decoded,
/// 0.3 MB; a request that finds its instance gone pays some 30 µs for another.
pub(crate) const WAITING: usize = 8;

/// Wasm may use this much of a fiber's stack; the rest is for host functions, the picture codec among them.
const WASM_STACK: usize = 512 << 10;

/// Address space only: pages are taken when touched.
const FIBER_STACK: usize = 2 << 20;

/// Pages that a guest has touched are kept for the next one, up to so many bytes of an instance.
const KEPT_RESIDENT: usize = 512 << 10;

fn config() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        // Compiled in because builds without them have had advisories of their own; not offered to guests.
        .wasm_memory64(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false);
    config
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    // A few more than are ever handed out.
    let slots = instances + 4;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * 16)
        .total_memories(slots * 2)
        .total_tables(slots * 4)
        .total_stacks(slots)
        .total_gc_heaps(1)
        .max_core_instances_per_component(64)
        .max_memories_per_component(2)
        .max_tables_per_component(16)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(4)
        // Clearing pages by hand instead of giving them back pays only for pages that guests touch, and the first pages of a
        // Rust guest are the unused end of its stack: 256 KiB made requests 1 µs slower and the process 8 MB larger.
        .linear_memory_keep_resident(0)
        .table_keep_resident(16 << 10);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        // Linux 6.7 and later name the pages that were touched, so that only these are cleared, and no other core has to
        // be told that a page has gone.
        pool.pagemap_scan(Enabled::Yes).linear_memory_keep_resident(KEPT_RESIDENT);
    }
    pool
}

/// The engine that runs plugins, for this machine's instruction set; and why it has no pool, where it has none.
///
/// The pool reserves address space for every slot at once. Where that cannot be had (`ulimit -v`), instances are
/// allocated one by one, which is slower and otherwise the same.
pub(crate) fn serving(instances: u32) -> wasmtime::Result<(Engine, Option<String>)> {
    let mut pooled = config();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
    match Engine::new(&pooled) {
        Ok(engine) => Ok((engine, None)),
        Err(error) => {
            let engine = compiling()?;
            tracing::warn!(%error, "no address space for a pool of plugin instances; they are allocated one by one");
            Ok((engine, Some(format!("{error:#}"))))
        }
    }
}

/// An engine that only compiles, for [`serving`] on this machine.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// An engine that only compiles, for any machine of this architecture: naming a target switches off the detection of
/// this machine's extensions. Everything else is as in [`serving`], which is what makes its code loadable there.
pub(crate) fn baseline() -> wasmtime::Result<Engine> {
    let mut config = config();
    config.target(&format!("{}-unknown-{}-gnu", std::env::consts::ARCH, std::env::consts::OS))?;
    Engine::new(&config)
}

/// Equal for two engines exactly when the code of one fits the other: wasmtime's version, settings and target.
pub(crate) fn compatibility(engine: &Engine) -> [u8; 32] {
    struct Digesting(Sha256);
    impl Hasher for Digesting {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Digesting(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}
