//! Temporary credentials, fetched anew before they expire.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use object_store::CredentialProvider;
use tokio::sync::Mutex;

use crate::store::fault::Fault;

/// Credentials are renewed this long before they expire, as a download must not outlive them; short-lived ones at half
/// of their life.
const MARGIN: Duration = Duration::from_secs(300);
/// How long to go on with valid credentials when their renewal failed.
const PAUSE: Duration = Duration::from_secs(30);

/// Credentials, and when they end.
pub(super) struct Temporary<T> {
    pub(super) credential: T,
    /// None for those that do not end.
    pub(super) expires: Option<SystemTime>,
}

/// Something that gives credentials.
#[async_trait::async_trait]
pub(super) trait Fetch: Send + Sync + 'static {
    type Credential: Send + Sync + 'static;

    async fn fetch(&self) -> Result<Temporary<Self::Credential>, Fault>;
}

/// Keeps what a [`Fetch`] gave for as long as it is good.
pub(super) struct Renewed<F: Fetch> {
    fetch: F,
    kept: Mutex<Option<Kept<F::Credential>>>,
}

struct Kept<T> {
    credential: Arc<T>,
    /// When to fetch anew, and when it is of no use any more.
    until: Option<(Instant, Instant)>,
}

impl<F: Fetch> Renewed<F> {
    pub(super) fn new(fetch: F) -> Arc<Self> {
        Arc::new(Self { fetch, kept: Mutex::default() })
    }
}

/// What it holds is secret.
impl<F: Fetch> fmt::Debug for Renewed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl<F: Fetch> CredentialProvider for Renewed<F> {
    type Credential = F::Credential;

    async fn get_credential(&self) -> object_store::Result<Arc<F::Credential>> {
        // Held while it is fetched: who else asks meanwhile needs the same.
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until.is_none_or(|(renewal, _)| now < renewal)) {
            return Ok(Arc::clone(&kept.credential));
        }
        match self.fetch.fetch().await {
            Ok(fetched) => {
                let until = fetched.expires.map(|expires| until(expires, SystemTime::now(), now));
                let credential = Arc::new(fetched.credential);
                *kept = Some(Kept { credential: Arc::clone(&credential), until });
                Ok(credential)
            }
            Err(fault) => match kept.as_mut() {
                Some(Kept { credential, until: Some((renewal, end)) }) if now < *end => {
                    tracing::debug!("credentials could not be renewed yet: {fault}");
                    *renewal = now + PAUSE;
                    Ok(Arc::clone(credential))
                }
                _ => Err(object_store::Error::Generic { store: "credentials", source: Box::new(fault) }),
            },
        }
    }
}

/// When credentials that end at `expires` are to be renewed, and when they end.
fn until(expires: SystemTime, now: SystemTime, at: Instant) -> (Instant, Instant) {
    let life = expires.duration_since(now).unwrap_or_default();
    (at + life.saturating_sub(MARGIN).max(life / 2), at + life)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant, SystemTime};

    use object_store::CredentialProvider as _;

    use super::{Fault, Fetch, MARGIN, Renewed, Temporary, until};

    struct Counted {
        life: Option<Duration>,
        /// How many fetches succeed.
        good: usize,
        fetched: AtomicUsize,
    }

    #[async_trait::async_trait]
    impl Fetch for Counted {
        type Credential = usize;

        async fn fetch(&self) -> Result<Temporary<usize>, Fault> {
            let number = self.fetched.fetch_add(1, Ordering::Relaxed);
            if number >= self.good {
                return Err(Fault::passing("not now"));
            }
            Ok(Temporary { credential: number, expires: self.life.map(|life| SystemTime::now() + life) })
        }
    }

    async fn twice(life: Option<Duration>, good: usize) -> [Option<usize>; 2] {
        let renewed = Renewed::new(Counted { life, good, fetched: AtomicUsize::new(0) });
        let first = renewed.get_credential().await.ok().map(|number| *number);
        // Past the half of 20 ms.
        tokio::time::sleep(Duration::from_millis(12)).await;
        [first, renewed.get_credential().await.ok().map(|number| *number)]
    }

    #[tokio::test]
    async fn credentials_are_kept_until_they_are_about_to_end() {
        assert_eq!(twice(None, 9).await, [Some(0), Some(0)]);
        assert_eq!(twice(Some(Duration::from_secs(3600)), 9).await, [Some(0), Some(0)]);
        assert_eq!(twice(Some(Duration::from_millis(20)), 9).await, [Some(0), Some(1)]);
        assert_eq!(twice(Some(Duration::ZERO), 1).await, [Some(0), None]);
        // Those that are still good serve on.
        let renewed = Renewed::new(Counted { life: Some(MARGIN), good: 1, fetched: AtomicUsize::new(0) });
        let _ = renewed.get_credential().await.expect("the first");
        if let Some(kept) = renewed.kept.lock().await.as_mut() {
            kept.until = kept.until.map(|(_, end)| (Instant::now(), end));
        }
        assert_eq!(*renewed.get_credential().await.expect("still good"), 0);
        assert_eq!(renewed.fetch.fetched.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn renewal_is_five_minutes_before_the_end() {
        let (now, at) = (SystemTime::now(), Instant::now());
        let after = |seconds| until(now + Duration::from_secs(seconds), now, at).0.duration_since(at).as_secs();
        assert_eq!(after(3600), 3300);
        assert_eq!(after(400), 200);
    }
}
