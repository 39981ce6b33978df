//! The processor's memory that sessions take, bounded for each run: ONNX Runtime's own arena grows as a graph demands,
//! until the kernel ends the process.
//!
//! All sessions on the processor take memory from one allocator of ours, which counts what the run on the calling thread
//! holds, and takes what is more than a little from the memory that all requests share. It refuses as ONNX Runtime's own allocator does, by its C++ exception `std::bad_alloc`, which the library makes
//! the run's error: most of its callers would write to a null pointer.
#![allow(unsafe_code, reason = "an allocator behind a C interface")]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use corymb_core::{Holder, MemoryPool, Shortage, UNCOUNTED};
use ort::AsPointer as _;
use ort::environment::Environment;
use ort::memory::MemoryInfo;
use ort::sys::{ORT_API_VERSION, OrtAllocator, OrtMemoryInfo};

use crate::values::{checked, processor_memory};

/// What ONNX Runtime's kernels want of the address of a block at least, and the room before it for its size.
const ALIGNMENT: usize = 64;
/// From so many bytes on, blocks begin with a page: rows of tensors then do not share cache lines or straddle pages.
const LARGE: usize = 64 << 10;
const PAGE: usize = 4096;
/// Some kernels read a few bytes behind the end: `MLAS_SYMM_QGEMM_BUF_OVERRUN` is at most 30.
const OVERRUN: usize = 32;
/// No machine has it: asked for so much, the library's own allocator refuses.
const TOO_MUCH: usize = 1 << 62;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    /// glibc's: gives back to the kernel what lies free in its arenas, beyond `pad` bytes.
    safe fn malloc_trim(pad: usize) -> i32;
}

/// Gives back to the kernel what the library freed: it takes what is not a tensor's from the system's allocator, which keeps
/// that in an arena for each thread that ever loaded a model.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    malloc_trim(0);
}

type Allocate = unsafe extern "system-unwind" fn(*mut OrtAllocator, usize) -> *mut c_void;

/// So much at least is taken from the shared memory at once, in bytes, where there is so much.
const STEP: u64 = 4 << 20;

/// What a run has been refused, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) asked: u64,
    /// Beside that.
    pub(crate) held: u64,
    pub(crate) limit: u64,
    /// Where it was the shared memory that did not suffice.
    pub(crate) shortage: Option<Shortage>,
}

#[derive(Clone, Copy)]
struct Account {
    limit: u64,
    held: u64,
    /// What it may hold without asking the shared memory for more.
    granted: u64,
    refusal: Option<Refusal>,
    /// Whether blocks are zeroed.
    clear: bool,
}

thread_local! {
    /// Of the run that this thread is in.
    static ACCOUNT: Cell<Option<Account>> = const { Cell::new(None) };
    /// What that run has of the memory that all requests share.
    static HOLDER: RefCell<Option<Holder>> = const { RefCell::new(None) };
}

/// Bounds what is taken on this thread until it is dropped. What a kernel takes on other threads is not counted: scratch
/// space for its share of the work.
pub(crate) struct Bounded(());

impl Bounded {
    /// At most `limit` bytes at the same time, and what `pool` has; zeroed where they are to be `clear`, see `unwritten.rs`.
    pub(crate) fn enter(limit: u64, pool: &MemoryPool, clear: bool) -> Self {
        HOLDER.set(Some(pool.holder()));
        ACCOUNT.set(Some(Account { limit, held: 0, granted: UNCOUNTED, refusal: None, clear }));
        Self(())
    }

    /// What was asked for beyond the limit, or beyond what the machine gives.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        ACCOUNT.get().and_then(|account| account.refusal)
    }
}

impl Bounded {
    /// Ends the run; what it held is to go on with its outputs.
    pub(crate) fn end(self) -> Holder {
        HOLDER.take().unwrap_or_else(|| MemoryPool::default().holder())
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        ACCOUNT.set(None);
        HOLDER.set(None);
    }
}

/// Makes sessions that ask for it (`session.use_env_allocators`) take the processor's memory from here.
pub(crate) fn register(environment: &Environment) -> Result<(), ort::Error> {
    let mut own = ptr::null_mut();
    // SAFETY: the pointer to write to is valid.
    checked(unsafe { (ort::api().GetAllocatorWithDefaultOptions)(&raw mut own) })?;
    // SAFETY: the library's own allocator is static.
    let refuse = unsafe { own.as_ref() }.and_then(|own| own.Alloc).ok_or_else(|| ort::Error::new("no allocator"))?;
    // SAFETY: the same calling convention; that it may unwind is what is added.
    let refuse = unsafe { std::mem::transmute::<unsafe extern "system" fn(_, _) -> _, Allocate>(refuse) };
    // SAFETY: as above, the other way: who calls it is C++, where functions unwind.
    let allocate = unsafe { std::mem::transmute::<Allocate, unsafe extern "system" fn(_, _) -> _>(allocate) };
    // SAFETY: a structure of numbers and function pointers.
    let head = OrtAllocator {
        version: ORT_API_VERSION,
        Alloc: Some(allocate),
        Free: Some(free),
        Info: Some(info),
        ..unsafe { OrtAllocator::default() }
    };
    // Never freed: sessions hold it, and a process has one library to its end.
    let allocator = Box::leak(Box::new(Allocator { head, info: processor_memory()?, own, refuse }));
    // SAFETY: both are valid to the end of the process.
    checked(unsafe { (ort::api().RegisterAllocator)(environment.ptr().cast_mut(), &raw mut allocator.head) })
}

/// What the library knows by a pointer to its first field.
#[repr(C)]
struct Allocator {
    head: OrtAllocator,
    info: MemoryInfo<'static>,
    own: *mut OrtAllocator,
    refuse: Allocate,
}

unsafe extern "system" fn info(this: *const OrtAllocator) -> *const OrtMemoryInfo {
    // SAFETY: the library calls with what was registered.
    unsafe { (*this.cast::<Allocator>()).info.ptr() }
}

unsafe extern "system-unwind" fn allocate(this: *mut OrtAllocator, size: usize) -> *mut c_void {
    if size == 0 {
        return ptr::null_mut();
    }
    if let Some(block) = take(size) {
        return block.as_ptr().cast();
    }
    // SAFETY: the library calls with what was registered, and its own allocator is static.
    unsafe {
        let this = &*this.cast::<Allocator>();
        (this.refuse)(this.own, TOO_MUCH)
    }
}

unsafe extern "system" fn free(_this: *mut OrtAllocator, block: *mut c_void) {
    if let Some(block) = NonNull::new(block.cast::<u8>()) {
        // SAFETY: the library gives back what it was given, once.
        unsafe { give_back(block) };
    }
}

/// A block of `size` bytes behind its size, if the run may have it.
fn take(size: usize) -> Option<NonNull<u8>> {
    let Some(mut account) = ACCOUNT.get() else { return new_block(size, false) };
    let Account { limit, held, granted, .. } = account;
    let asked = size as u64;
    let mut shortage = None;
    let mut allowed = asked <= limit.saturating_sub(held);
    if allowed && held + asked > granted {
        match grant(held + asked - granted) {
            Ok(more) => account.granted += more,
            Err(missing) => (allowed, shortage) = (false, Some(missing)),
        }
    }
    let block = if allowed { new_block(size, account.clear) } else { None };
    match block {
        Some(_) => account.held += asked,
        None => account.refusal = Some(Refusal { asked, held, limit, shortage }),
    }
    ACCOUNT.set(Some(account));
    block
}

/// Takes `missing` bytes or more from the shared memory; returns how many.
fn grant(missing: u64) -> Result<u64, Shortage> {
    HOLDER.with_borrow_mut(|holder| {
        let Some(holder) = holder else { return Ok(missing) };
        let step = missing.max(STEP);
        holder.grow(step).map(|()| step).or_else(|_| holder.grow(missing).map(|()| missing))
    })
}

/// The alignment of a block of `size` bytes, and how far behind the start of its memory it lies.
fn alignment(size: usize) -> usize {
    if size < LARGE { ALIGNMENT } else { PAGE }
}

fn layout(size: usize) -> Option<Layout> {
    let alignment = alignment(size);
    Layout::from_size_align(size.checked_add(alignment + OVERRUN)?, alignment).ok()
}

fn new_block(size: usize, clear: bool) -> Option<NonNull<u8>> {
    let layout = layout(size)?;
    // SAFETY: the layout is not empty; the block begins where its alignment ends, and its size lies just before it.
    unsafe {
        let memory = if clear { alloc_zeroed(layout) } else { alloc(layout) };
        let block = NonNull::new(memory)?.add(layout.align());
        block.cast::<usize>().sub(1).write(size);
        Some(block)
    }
}

/// # Safety
/// `block` came from [`new_block`] and is not used any more.
unsafe fn give_back(block: NonNull<u8>) {
    // SAFETY: as promised: the size lies before the block, and tells the layout.
    let size = unsafe {
        let size = block.cast::<usize>().sub(1).read();
        if let Some(layout) = layout(size) {
            dealloc(block.sub(layout.align()).as_ptr(), layout);
        }
        size
    };
    if let Some(account) = ACCOUNT.get() {
        ACCOUNT.set(Some(Account { held: account.held.saturating_sub(size as u64), ..account }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(size: usize) -> NonNull<u8> {
        take(size).expect("a block")
    }

    fn given_back(block: NonNull<u8>) {
        // SAFETY: each block of these tests is given back once.
        unsafe { give_back(block) };
    }

    #[test]
    fn a_run_holds_what_it_may_and_no_byte_more() {
        let pool = MemoryPool::default();
        let bounded = Bounded::enter(1000, &pool, false);
        let (first, second) = (taken(600), taken(400));
        assert_eq!(take(1), None);
        assert_eq!(bounded.refusal(), Some(Refusal { asked: 1, held: 1000, limit: 1000, shortage: None }));
        given_back(second);
        given_back(taken(400));
        given_back(first);
        drop(bounded);
        let unbounded = taken(2000);
        // What was taken before the run is not credited to it.
        let bounded = Bounded::enter(1000, &pool, false);
        given_back(unbounded);
        assert_eq!((take(1001), bounded.refusal().map(|refusal| refusal.held)), (None, Some(0)));
    }

    #[test]
    fn a_run_finds_nothing_of_others_where_that_is_asked_for() {
        const SIZE: usize = 5000;
        let pool = MemoryPool::default();
        for clear in [false, true, true] {
            let _bounded = Bounded::enter(u64::MAX, &pool, clear);
            let block = taken(SIZE);
            // SAFETY: the block is this large, and zeroed where that was asked for.
            unsafe {
                if clear {
                    assert!(std::slice::from_raw_parts(block.as_ptr(), SIZE).iter().all(|&byte| byte == 0));
                }
                block.write_bytes(7, SIZE);
            }
            given_back(block);
        }
    }

    #[test]
    fn runs_share_what_there_is() {
        let pool = MemoryPool::fixed(8 << 20);
        let bounded = Bounded::enter(u64::MAX, &pool, false);
        let little = taken(UNCOUNTED as usize);
        assert_eq!(pool.held(), 0, "too little to be counted");
        let more = taken(1000);
        assert_eq!(pool.held(), STEP);
        assert_eq!(take(8 << 20), None);
        let refused = bounded.refusal().and_then(|refusal| refusal.shortage);
        assert!(matches!(refused, Some(Shortage::Never { limit, .. }) if limit == 7 << 20), "{refused:?}");
        let mut other = pool.holder();
        other.grow(2 << 20).expect("room");
        assert_eq!(take(6 << 20), None);
        let refused = bounded.refusal().and_then(|refusal| refusal.shortage);
        assert!(matches!(refused, Some(Shortage::Now { .. })), "{refused:?}");
        given_back(little);
        given_back(more);
        drop(bounded);
        assert_eq!(pool.held(), 2 << 20);
    }

    #[test]
    fn a_size_that_no_machine_has_is_refused() {
        for size in [TOO_MUCH, isize::MAX as usize, usize::MAX] {
            let bounded = Bounded::enter(u64::MAX, &MemoryPool::default(), false);
            assert_eq!((take(size), bounded.refusal().map(|refusal| refusal.asked)), (None, Some(size as u64)));
        }
    }

    #[test]
    fn blocks_are_aligned_and_wholly_their_owners() {
        for size in [1, 63, 64, LARGE - 1, LARGE, LARGE + 1, 1 << 20] {
            let blocks: Vec<NonNull<u8>> = (0..4).map(|_| taken(size)).collect();
            for (block, byte) in blocks.iter().zip(0_u8..) {
                assert_eq!(block.addr().get() % alignment(size), 0, "{size}");
                // SAFETY: the block is this large, and what may be read behind it is ours too.
                unsafe { block.write_bytes(byte, size + OVERRUN) };
            }
            for (block, byte) in blocks.into_iter().zip(0_u8..) {
                // SAFETY: written above.
                let content = unsafe { std::slice::from_raw_parts(block.as_ptr(), size) };
                assert!(content.iter().all(|&found| found == byte), "{size}");
                given_back(block);
            }
        }
    }
}
