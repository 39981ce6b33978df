//! Work that takes a core for long and must hold nobody up: on a thread of its own, which has what others leave.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Panicked;

/// The least priority that the operating system knows.
const NICEST: i32 = 19;

/// Runs `work` on a thread of its own. With `yields` other threads go first; what it starts inherits that and cannot get
/// rid of it.
pub(crate) async fn in_background<T: Send + 'static>(
    yields: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || {
        let _timers = runtime.enter();
        // Without a process' number it is the thread that calls.
        if yields && let Err(error) = rustix::process::setpriority_process(None, NICEST) {
            tracing::debug!(%error, "a load goes on at the usual priority");
        }
        let result = catch_unwind(AssertUnwindSafe(work));
        // Nobody may wait any more.
        let _ = sender.send(result.map_err(|payload| Panicked::from_payload(payload.as_ref())));
    };
    let begun = thread::Builder::new().name("background".to_owned()).spawn(run);
    begun.map_err(|error| Panicked(format!("no thread could be started: {error}")))?;
    receiver.await.unwrap_or_else(|_| Err(Panicked("its thread has ended".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_yields_where_it_may_and_a_panic_is_answered() {
        let nice = || rustix::process::getpriority_process(None).expect("told");
        let here = nice();
        assert_eq!(in_background(true, nice).await.expect("no panic"), NICEST);
        assert_eq!(in_background(false, nice).await.expect("no panic"), here);
        assert_eq!(nice(), here);
        let panicked = in_background(true, || panic!("no weights")).await;
        assert!(matches!(panicked, Err(Panicked(message)) if message == "no weights"));
    }
}
