//! One turn of a connection: hyper polls it until it has nothing more to do by itself, with the request that begins
//! in it.
//!
//! hyper hands a body over in steps between which it wakes its own task, and begins each HTTP/2 stream as a task of its
//! own. For a small request each of these is a way through the scheduler, which wakes another core for it, and together
//! they cost more than the request. So a connection that woke itself is polled again at once, and a stream that is alone
//! on its connection is first polled here; it becomes a task when it has to wait.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// A connection is polled up to this many times before other connections have their turn.
const POLLS: usize = 8;

/// A stream, which reports to nobody.
pub(crate) type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The streams that began in this turn.
#[derive(Clone, Default)]
pub(crate) struct Begun(Arc<Mutex<Vec<Stream>>>);

impl Begun {
    pub(crate) fn push(&self, stream: Stream) {
        self.streams().push(stream);
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Begun").field(&self.streams().len()).finish()
    }
}

/// Nobody polls: whoever wakes, wakes the task.
const IDLE: u8 = 0;
/// The connection is being polled.
const POLLING: u8 = 1;
/// Somebody woke the connection: while it is polled that means one more poll, else the task was woken.
const WOKEN: u8 = 2;

/// Stands in for the task's own waker.
#[derive(Debug)]
struct Note {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            self.task.wake();
        }
    }
}

/// The turns of one connection.
#[derive(Debug)]
pub(crate) struct Turns {
    note: Arc<Note>,
    waker: Waker,
    begun: Begun,
}

impl Turns {
    pub(crate) fn new(begun: Begun) -> Self {
        let note = Arc::new(Note { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
        Self { waker: Arc::clone(&note).into(), note, begun }
    }

    /// Polls `connection`, again while it wakes itself. `alone` says whether it holds a single request.
    pub(crate) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut connection: impl FnMut(&mut Context<'_>) -> Poll<T>,
        alone: impl Fn() -> bool,
    ) -> Poll<T> {
        self.note.task.register(context.waker());
        let mut own = Context::from_waker(&self.waker);
        for _ in 0..POLLS {
            // A wake until here is answered by the poll that follows.
            self.note.state.store(POLLING, Ordering::Release);
            if let Poll::Ready(end) = connection(&mut own) {
                return Poll::Ready(end);
            }
            self.begin(&mut own, &alone);
            let quiet = self.note.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if quiet.is_ok() {
                return Poll::Pending;
            }
        }
        self.note.state.store(IDLE, Ordering::Release);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn begin(&self, own: &mut Context<'_>, alone: &impl Fn() -> bool) {
        let begun = std::mem::take(&mut *self.begun.streams());
        for mut stream in begun {
            // One that waits is polled by its task next, which replaces the waker that it was given here.
            if !alone() || stream.as_mut().poll(own).is_pending() {
                tokio::spawn(stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn polled(mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>) -> (usize, usize, Turns) {
        let task = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Arc::clone(&task).into();
        let turns = Turns::new(Begun::default());
        let mut polls = 0;
        let connection = |context: &mut Context<'_>| {
            polls += 1;
            poll(context)
        };
        let _ = turns.poll(&mut Context::from_waker(&waker), connection, || true);
        // A later wake reaches the task.
        let woken = task.0.load(Ordering::Relaxed);
        turns.waker.wake_by_ref();
        turns.waker.wake_by_ref();
        assert!(task.0.load(Ordering::Relaxed) <= woken + 1);
        (polls, task.0.load(Ordering::Relaxed), turns)
    }

    #[test]
    fn who_wakes_itself_is_polled_again_and_the_task_is_left_alone() {
        let mut left = 3;
        let (polls, woken, _) = polled(|context| {
            if left > 0 {
                left -= 1;
                context.waker().wake_by_ref();
            }
            Poll::Pending
        });
        assert_eq!((polls, woken), (4, 1), "the wake is the one behind the poll");
    }

    #[test]
    fn who_never_rests_gives_way() {
        let (polls, woken, _) = polled(|context| {
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(polls, POLLS);
        assert!(woken >= 1, "the task is polled again after the others");
    }

    #[tokio::test]
    async fn a_stream_alone_runs_here_and_others_as_tasks() {
        for (alone, expected) in [(true, 1), (false, 0)] {
            let turns = Turns::new(Begun::default());
            let runs = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&runs);
            turns.begun.push(Box::pin(async move {
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            let idle = |_: &mut Context<'_>| Poll::<()>::Pending;
            assert!(turns.poll(&mut Context::from_waker(Waker::noop()), idle, || alone).is_pending());
            assert_eq!(runs.load(Ordering::Relaxed), expected);
            while runs.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
