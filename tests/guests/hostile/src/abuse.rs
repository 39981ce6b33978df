//! What a plugin may not do.

use crate::bindings::corymb::plugin::logging::{self, Level};
use crate::bindings::corymb::plugin::metrics;
use crate::bindings::corymb::plugin::tensors::Tensor;

pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

pub fn spin_in_host_calls(tensor: &Tensor) -> ! {
    loop {
        tensor.byte_len();
    }
}

pub fn trap() -> ! {
    std::process::abort()
}

pub fn grow() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

#[inline(never)]
pub fn recurse(depth: u64) {
    if std::hint::black_box(depth) > 0 {
        recurse(depth + 1);
    }
    std::hint::black_box(depth);
}

pub fn flood_the_log() {
    let line = "long\n".repeat(1 << 10);
    for _ in 0..1000 {
        logging::log(Level::Info, &line);
    }
}

pub fn flood_the_metrics() {
    for index in 0..1000 {
        metrics::counter_add(&format!("name{index}"), 1);
        metrics::histogram_record(&format!("name{index}"), 1.0);
    }
}

pub fn flood_the_handles(tensor: &Tensor) {
    let mut all = Vec::new();
    loop {
        all.push(tensor.share());
    }
}
