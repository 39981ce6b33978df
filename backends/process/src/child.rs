//! The child's side: loads one model, and runs what it is sent until the server goes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corymb_core::{
    Backend, BackendError, CancelFlag, FileSource, Instance, LoadOptions, MemoryPool, Model, ModelFiles, RunOptions,
    Shortage, Tensors,
};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, set_parent_process_death_signal, setrlimit};

use crate::limits::{Limits, Loading, bound_memory};
use crate::messages::{Order, Report};
use crate::records::{Described, Failure, Load, Missing, Source};
use crate::stream::{Sender, Stream};
use crate::tensors;

/// Who is ended first where memory runs out; the server, which is not asked, has 0.
const OOM_SCORE: &str = "500";

/// Serves the process that started this one, on standard input, until that has gone. `memory` is the number of the open file
/// that tensors lie in. `trim` gives back what was freed: a model that is loaded keeps nothing of what its loading took.
///
/// # Errors
/// When this process was not started by one of the kind.
pub fn serve(backends: &[Arc<dyn Backend>], memory: u32, limits: Limits, trim: fn()) -> io::Result<()> {
    // What ends this process is expected, and is no reason to write its memory to a disk.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    // However busy it is. The thread that has started it lives as long as the server.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{memory}"))?;
    let stream = Stream::new(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?), None)?;
    let sender = stream.sender()?;
    let (orders, received) = mpsc::channel();
    let (lent, answers) = mpsc::channel();
    let cancel = Arc::<Mutex<CancelFlag>>::default();
    let flag = Arc::clone(&cancel);
    thread::Builder::new().name("orders".to_owned()).spawn(move || listen(stream, &orders, &lent, &flag))?;
    let (asking, answers) = (sender.try_clone()?, Mutex::new(answers));
    let pool = MemoryPool::lent(move |bytes| lend(&asking, &answers, bytes));
    let mut worker = Worker { backends, limits, trim, memory, sender, cancel, pool, model: None, instance: None };
    for order in received {
        worker.obey(order)?;
        worker.pool.repay();
    }
    Ok(())
}

/// Hands orders on. Ends the process with the server's, whatever the worker is doing.
fn listen(
    mut stream: Stream,
    orders: &mpsc::Sender<Order>,
    lent: &mpsc::Sender<Result<(), Missing>>,
    cancel: &Mutex<CancelFlag>,
) {
    let cancel = || cancel.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(Some(order)) = stream.receive::<Order>() {
        let handed = match order {
            Order::Cancel => {
                cancel().cancel();
                true
            }
            Order::Lent(answer) => lent.send(answer).is_ok(),
            order => {
                *cancel() = CancelFlag::new();
                orders.send(order).is_ok()
            }
        };
        if !handed {
            break;
        }
    }
    // Not by `exit`, which would wait for what an engine does when it goes.
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Asks the server for memory.
fn lend(sender: &Sender, answers: &Mutex<mpsc::Receiver<Result<(), Missing>>>, bytes: u64) -> Result<(), Shortage> {
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    let gone = Shortage::Now { bytes, limit: 0 };
    sender.send(&Report::Lend(bytes)).map_err(|_| gone)?;
    answers.recv().map_err(|_| gone)?.map_err(Shortage::from)
}

struct Worker<'a> {
    backends: &'a [Arc<dyn Backend>],
    limits: Limits,
    trim: fn(),
    memory: File,
    sender: Sender,
    /// Of the order that was received last.
    cancel: Arc<Mutex<CancelFlag>>,
    pool: MemoryPool,
    model: Option<Box<dyn Model>>,
    instance: Option<Box<dyn Instance>>,
}

impl Worker<'_> {
    fn obey(&mut self, order: Order) -> io::Result<()> {
        let done = catch_unwind(AssertUnwindSafe(|| match order {
            Order::Load(load) => self.load(*load).map(|described| Report::Loaded(Box::new(described))),
            Order::Instance { threads } => {
                let model = self.model.as_ref().ok_or_else(|| BackendError::Failed("no model is loaded".to_owned()))?;
                self.instance = Some(model.instance(threads)?);
                (self.trim)();
                bound_memory(self.limits.run_bytes, model.device());
                Ok(Report::Ready)
            }
            Order::Run { requests, outputs, ends_in } => {
                let read = tensors::read(&self.memory, &requests).map_err(|error| failed(&error))?;
                let answers = self.run(&read, outputs, ends_in)?;
                drop(read);
                tensors::write(&self.memory, &answers).map(Report::Ran).map_err(|error| failed(&error))
            }
            Order::Cancel | Order::Lent(_) => Err(BackendError::Failed("an order out of order".to_owned())),
        }));
        let report = match done {
            Ok(report) => report.unwrap_or_else(|error| Report::Failed(Failure::from(error))),
            Err(panic) => {
                let reason = panic.downcast_ref::<String>().map(String::as_str);
                let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
                Report::Failed(Failure::Failed(format!("the model panicked: {reason}")))
            }
        };
        self.sender.send(&report)
    }

    fn load(&mut self, load: Load) -> Result<Described, BackendError> {
        let Load { backend, source, device, cache, unverified, settings } = load;
        let found = self.backends.iter().find(|known| known.name() == backend);
        let backend = found.ok_or_else(|| BackendError::Failed(format!("no backend '{backend}'")))?;
        let model = match source {
            Source::Path(path) => FileSource::Path(path),
            Source::Embedded { name, len } => {
                let mut content = vec![0; len];
                std::os::unix::fs::FileExt::read_exact_at(&self.memory, &mut content, 0)
                    .map_err(|error| failed(&error))?;
                FileSource::Embedded { name, bytes: Bytes::from(content) }
            }
        };
        let options = LoadOptions {
            model: String::new(),
            device: device.parse().map_err(|error| BackendError::Failed(format!("{error}")))?,
            cache,
            unverified,
            hazards: true,
            apart: false,
            settings: settings.into(),
            memory: self.pool.clone(),
        };
        let loading = Loading::begin(self.limits, &model, &options.device);
        let model = backend.load(&ModelFiles { model }, &options)?;
        drop(loading);
        let described =
            Described::new(model.signature(), model.device().to_string(), model.unverified(), model.profile());
        self.model = Some(model);
        Ok(described)
    }

    fn run(
        &mut self,
        requests: &[Tensors],
        outputs: Vec<String>,
        ends_in: Option<u64>,
    ) -> Result<Vec<Tensors>, BackendError> {
        let cancel = self.cancel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ends = ends_in.and_then(|time| Instant::now().checked_add(Duration::from_millis(time)));
        let instance = self.instance.as_mut().ok_or_else(|| BackendError::Failed("there is no instance".to_owned()))?;
        instance.run(requests, &RunOptions { outputs, cancel, ends })
    }
}

fn failed(error: &io::Error) -> BackendError {
    BackendError::Failed(error.to_string())
}
