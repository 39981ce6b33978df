//! Blobs that are whole and may not be on the disk yet: they are written there one after the other, a while after they came.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cache::{BlobRecord, modified, read_json, write_json};

/// How long a blob waits. Gigabytes take seconds in which a model can already be loaded, and a process that ends before leaves them to
/// the system, and waits for nothing.
const DELAY: Duration = Duration::from_secs(2);
/// Blobs that wait, at most. One more is left to the system, too: it is read again after a restart of the machine.
const WAITING: usize = 10_000;

/// Who writes them out: one thread, from the first of them on.
#[derive(Debug, Default)]
pub(crate) struct Syncer(Mutex<Option<SyncSender<Due>>>);

#[derive(Debug)]
struct Due {
    at: Instant,
    blob: PathBuf,
    record: PathBuf,
}

impl Syncer {
    /// When `blob` is on the disk, its record says so. Nothing depends on that but how soon it is believed after a restart.
    pub(crate) fn later(&self, blob: PathBuf, record: PathBuf) {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = Due { at: Instant::now() + DELAY, blob, record };
        if sender.is_none() {
            let (new, dues) = sync_channel(WAITING);
            let thread = thread::Builder::new().name("sync".to_owned()).spawn(move || write_out(&dues));
            *sender = thread.is_ok().then_some(new);
        }
        let sent = sender.as_ref().is_some_and(|sender| sender.try_send(due).is_ok());
        if !sent {
            tracing::debug!("what was downloaded is left to the system to write to the disk");
        }
    }
}

fn write_out(dues: &Receiver<Due>) {
    while let Ok(Due { at, blob, record }) = dues.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // It may have gone, or be another by now: what is said is said of the file that was written.
        let Ok(file) = File::open(&blob) else { continue };
        let written = file.sync_all().and_then(|()| file.metadata());
        let known = read_json::<BlobRecord>(&record);
        if let (Ok(meta), Some(known)) = (written, known)
            && known.modified == Some(modified(&meta))
        {
            let _ = write_json(&record, &BlobRecord { synced: true, ..known });
        }
    }
}
