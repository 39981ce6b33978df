//! What the system must allow a server: found out before anything is begun, and not by what happens to need it first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::ensure;
use bytesize::ByteSize;
use corymb_hardware::{Hardware, ThreadPlan};

/// With fewer addresses, in bytes, not even a small model and the server's threads have their place.
const LEAST_ADDRESSES: u64 = 2 << 30;
/// What each thread of compute may need in another's place while its call is long.
const PLACES: usize = 2;
/// Threads beside those that were planned: the allocator's, the clock of plugins, the log, those that start processes.
const OTHERS: usize = 12;
/// Of a thread that does nothing, in bytes.
const STACK: usize = 128 << 10;

/// Fails where this process may not have the address space or the threads that a server needs.
pub(super) fn check(hardware: &Hardware, plan: &ThreadPlan) -> anyhow::Result<()> {
    if let Some(limit) = hardware.address_space_bytes {
        ensure!(
            limit >= LEAST_ADDRESSES,
            "this process may have {} of addresses (`ulimit -v`); expected {} at least, and 4 GiB more for each worker where \
             plugins run",
            ByteSize(limit),
            ByteSize(LEAST_ADDRESSES)
        );
    }
    let needed = plan.workers.saturating_mul(PLACES).saturating_add(plan.io_threads).saturating_add(OTHERS);
    let made = threads(needed);
    ensure!(
        made == needed,
        "this process may start {made} threads, of the {needed} that it needs; raise `ulimit -u`, or the limit of processes of its \
         container (pids.max)"
    );
    Ok(())
}

/// How many of so many threads can be alive at once.
fn threads(wanted: usize) -> usize {
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let wait = || {
            while !end.load(Ordering::Acquire) {
                thread::park();
            }
        };
        let made = (0..wanted).map_while(|_| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, wait).ok());
        let made: Vec<_> = made.collect();
        end.store(true, Ordering::Release);
        made.iter().for_each(|handle| handle.thread().unpark());
        made.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_made_and_end() {
        assert_eq!((threads(0), threads(50)), (0, 50));
    }
}
