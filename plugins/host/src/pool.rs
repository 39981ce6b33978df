//! Who may have an instance: a fixed number of permits, and a few instances that wait while a model runs, which are given
//! up first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Permits for `T`s, which may be parked with their permit.
pub(crate) struct Pool<T> {
    // Never held across an await, nor while a `T` is dropped: two numbers and a map.
    state: Mutex<State<T>>,
    /// Instances that may wait. Each holds its memory and a stack, and making a new one costs little.
    waiting: usize,
}

struct State<T> {
    free: usize,
    next: u64,
    parked: BTreeMap<u64, Held<T>>,
}

/// The right to have one instance.
pub(crate) struct Permit<T>(Arc<Pool<T>>);

/// An instance and the right to have it. The fields are dropped in this order: a permit is free when its instance is gone.
pub(crate) struct Held<T> {
    pub(crate) instance: T,
    permit: Permit<T>,
}

/// An instance that waits in the pool, unless it was given up for another request.
pub(crate) struct Parked<T> {
    pool: Arc<Pool<T>>,
    key: u64,
}

impl<T> Pool<T> {
    pub(crate) fn new(permits: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free: permits, next: 0, parked: BTreeMap::new() }), waiting })
    }

    /// A free permit, or that of the instance that has been parked for the shortest time: models serve their requests in
    /// order, so it would wait longest. None when every instance is at work.
    pub(crate) fn acquire(self: &Arc<Self>) -> Option<Permit<T>> {
        let mut state = self.lock();
        if let Some(free) = state.free.checked_sub(1) {
            state.free = free;
            return Some(Permit(Arc::clone(self)));
        }
        let (_, Held { instance, permit }) = state.parked.pop_last()?;
        drop(state);
        drop(instance);
        Some(permit)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Permit<T> {
    pub(crate) fn hold(self, instance: T) -> Held<T> {
        Held { instance, permit: self }
    }
}

impl<T> Held<T> {
    /// Lets the instance wait until it is taken back or given up, which is at once where enough others wait.
    pub(crate) fn park(self) -> Parked<T> {
        let pool = Arc::clone(&self.permit.0);
        let mut state = pool.lock();
        let key = state.next;
        state.next += 1;
        if state.parked.len() < pool.waiting {
            state.parked.insert(key, self);
        }
        drop(state);
        Parked { pool, key }
    }
}

impl<T> Parked<T> {
    /// The instance, if it is still there.
    pub(crate) fn take(&self) -> Option<Held<T>> {
        self.pool.lock().parked.remove(&self.key)
    }
}

impl<T> Drop for Parked<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        self.0.lock().free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_parked_instance_is_given_up() {
        let pool = Pool::new(2, 2);
        let (first, second) = (pool.acquire().expect("free"), pool.acquire().expect("free"));
        assert!(pool.acquire().is_none());
        let first = first.hold("first").park();
        let second = second.hold("second").park();
        let third = pool.acquire().expect("given up");
        assert!(second.take().is_none());
        let kept = first.take().expect("kept");
        assert_eq!(kept.instance, "first");
        assert!(pool.acquire().is_none());
        drop((kept, third));
        assert_eq!(pool.lock().free, 2);
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let pool = Pool::new(2, 1);
        let first = pool.acquire().expect("free").hold("first").park();
        let second = pool.acquire().expect("free").hold("second").park();
        assert!(second.take().is_none());
        assert!(first.take().is_some());
        assert_eq!(pool.lock().free, 2);
    }

    #[test]
    fn dropping_what_is_parked_frees_its_permit() {
        let pool = Pool::new(1, 1);
        let parked = pool.acquire().expect("free").hold(()).park();
        drop(parked);
        assert_eq!(pool.lock().free, 1);
    }
}
