//! The bounds of memory, and what is given back.

use super::*;

#[test]
fn holders_share_a_bound_and_give_back() {
    let pool = MemoryPool::fixed(160);
    let (mut first, mut second, mut small) = (pool.holder(), pool.holder(), pool.holder());
    first.grow(100).expect("room");
    assert_eq!(second.grow(41), Err(Shortage::Now { bytes: 41, limit: 140 }));
    assert_eq!(second.grow(141), Err(Shortage::Never { bytes: 141, limit: 140 }));
    assert_eq!(first.grow(u64::MAX), Err(Shortage::Never { bytes: u64::MAX, limit: 140 }));
    second.grow(40).expect("room");
    assert!(second.grow(1).is_err(), "the rest is for small holders");
    small.grow(10).expect("room");
    assert!(small.grow(1).is_err(), "it is large now");
    first.set(10);
    assert_eq!((pool.held(), first.bytes()), (60, 10));
    first.set(190);
    assert_eq!(pool.held(), 240, "what is there is counted");
    drop((first, second, small));
    assert_eq!(pool.held(), 0);
}

#[test]
fn what_is_lent_is_asked_for_once() {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let pool = MemoryPool::lent(move |bytes| {
        let before = counter.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > 100 { Err(Shortage::Now { bytes, limit: 100 }) } else { Ok(()) }
    });
    let mut holder = pool.holder();
    holder.grow(60).expect("lent");
    holder.set(10);
    holder.grow(50).expect("still there");
    assert_eq!((asked.load(Ordering::Relaxed), pool.held()), (60, 60));
    assert_eq!(holder.grow(50), Err(Shortage::Now { bytes: 50, limit: 100 }));
    drop(holder);
    pool.repay();
    assert_eq!((pool.limit(), pool.held()), (0, 0));
}

#[test]
fn the_bound_follows_what_else_the_process_takes() {
    let used = Arc::new(AtomicU64::new(300));
    let told = Arc::clone(&used);
    let pool = MemoryPool::of_process(1600, move || Some(told.load(Ordering::Relaxed)), || {});
    assert_eq!(pool.limit(), 800);
    used.store(600, Ordering::Relaxed);
    let mut holder = pool.holder();
    holder.grow(1).expect("not due yet");
    pool.remeasure();
    holder.grow(550).expect("measured only while nothing is held");
    drop(holder);
    used.store(1500, Ordering::Relaxed);
    pool.remeasure();
    pool.holder().grow(176).expect_err("a model was loaded");
    assert_eq!(pool.limit(), 200, "so much is always left");
}

#[test]
fn nothing_is_taken_beyond_what_the_process_can_bear() {
    let (used, purges) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (told, counter) = (Arc::clone(&used), Arc::clone(&purges));
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let pool = MemoryPool::of_process(1600, move || Some(told.load(Ordering::Relaxed)), count);
    let mut holder = pool.holder();
    holder.grow(300).expect("room");
    // What nobody counts: 1200 may be taken.
    used.store(1100, Ordering::Relaxed);
    std::thread::sleep(2 * GLANCE);
    assert!(holder.grow(50).is_err(), "what was taken just now is not among it");
    std::thread::sleep(3 * UNTOUCHED);
    assert!(matches!(holder.grow(101), Err(Shortage::Now { .. })));
    assert_eq!((pool.held(), purges.load(Ordering::Relaxed)), (300, 2));
    holder.grow(100).expect("room");
    used.store(400, Ordering::Relaxed);
    holder.grow(101).expect("looked at anew");
    std::thread::sleep(3 * UNTOUCHED);
    used.store(1290, Ordering::Relaxed);
    std::thread::sleep(2 * GLANCE);
    assert!(pool.holder().grow(7).is_err());
    pool.holder().grow(6).expect("so little is there for all others");
    used.store(1300, Ordering::Relaxed);
    std::thread::sleep(2 * GLANCE);
    assert!(pool.holder().grow(6).is_err(), "up to a bound");
    used.store(1600, Ordering::Relaxed);
    drop(holder);
    pool.holder().grow(200).expect("so much is always left");
    let mut small = pool.holder();
    small.grow(90).expect("there is room");
    assert!(pool.holder().grow(20).is_err(), "to one at a time");
    pool.holder().grow(10).expect("but for a little");
}

#[test]
fn what_was_freed_is_given_back_where_there_is_no_room_beside_it() {
    let purged = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&purged);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let pool = MemoryPool::of_process(1600, || Some(0), count);
    assert_eq!(pool.limit(), 1100);
    let hold = |bytes: u64| {
        let mut holder = pool.holder();
        holder.grow(bytes).expect("room");
        holder
    };
    drop(hold(500));
    drop(hold(400));
    assert_eq!(purged.load(Ordering::Relaxed), 0, "there is room beside what was freed");
    let _held = hold(300);
    assert_eq!(purged.load(Ordering::Relaxed), 1);
    drop(hold(600));
    assert_eq!(purged.load(Ordering::Relaxed), 1);
}
