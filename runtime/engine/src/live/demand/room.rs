//! Room for a model: those that were not used for longest leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

use super::Inner;
use super::item::{Item, Refusal};

/// How long one waits for the last requests of a model that makes room.
const DRAIN: Duration = Duration::from_secs(10);
/// How long one waits for a model that is in use: most requests are short.
const BUSY: Duration = Duration::from_millis(250);
/// How often one looks meanwhile.
const LOOK: Duration = Duration::from_millis(5);

impl Inner {
    /// Unloads others until a model of so many bytes fits.
    pub(super) async fn make_room(&self, model: &str, bytes: u64) -> Result<(), Refusal> {
        let (budget, until) = (self.options.budget, Instant::now() + BUSY);
        loop {
            let loaded: Vec<(String, Arc<Item>)> =
                self.all().into_iter().filter(|(name, _)| name != model && self.is_loaded(name)).collect();
            let used: u64 = loaded.iter().map(|(_, item)| item.bytes()).sum();
            if used.saturating_add(bytes) <= budget {
                return Ok(());
            }
            let may_come = loaded.iter().any(|(_, item)| !item.is_pinned());
            match self.oldest_idle(&loaded) {
                Some(oldest) => self.evict(&oldest).await,
                None if may_come && Instant::now() < until => tokio::time::sleep(LOOK).await,
                None => return Err(Refusal::NoRoom { needed: bytes, budget, used }),
            }
        }
    }

    /// Which of them was not used for longest and can leave.
    fn oldest_idle(&self, loaded: &[(String, Arc<Item>)]) -> Option<String> {
        let can_leave = |name: &str, item: &Item| !item.is_pinned() && !item.is_awaited() && self.is_idle(name);
        let idle = loaded.iter().filter(|(name, item)| can_leave(name, item));
        idle.min_by_key(|(_, item)| item.used()).map(|(name, _)| name.clone())
    }

    fn is_idle(&self, model: &str) -> bool {
        self.live.0.engine.find(model).is_ok_and(|entry| entry.concurrency.in_flight() == 0)
    }

    async fn evict(&self, model: &str) {
        let engine = &self.live.0.engine;
        tracing::info!(model, "model unloaded to make room");
        self.evictions.add(1, &[KeyValue::new("model", model.to_owned())]);
        let Ok(entry) = engine.find(model) else { return };
        let _ = engine.unload(model).await;
        let (until, mut changes) = (Instant::now() + DRAIN, entry.changes());
        while entry.is_draining() {
            if tokio::time::timeout_at(until.into(), changes.changed()).await.is_err() {
                return;
            }
        }
    }
}
