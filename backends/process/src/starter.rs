//! Starts children: this program again, with a socket as its standard input and memory that both sides have open.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};

/// This program, also when its file is gone.
const PROGRAM: &str = "/proc/self/exe";

/// A child, and what leads to it.
pub(crate) struct Started {
    pub(crate) process: Child,
    pub(crate) stream: UnixStream,
    pub(crate) memory: File,
}

/// A thread that starts children: they inherit the priority of the thread that starts them, and models are loaded at the
/// lowest.
pub(crate) struct Starter {
    orders: mpsc::Sender<mpsc::Sender<io::Result<Started>>>,
}

impl Starter {
    pub(crate) fn new(arguments: Box<dyn Fn() -> Vec<OsString> + Send + Sync>) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel::<mpsc::Sender<io::Result<Started>>>();
        thread::Builder::new().name("child-starter".to_owned()).stack_size(128 << 10).spawn(move || {
            for reply in ordered {
                // Who does not wait any more gets nothing; the child sees the end of its socket.
                let _ = reply.send(start(arguments()));
            }
        })?;
        Ok(Self { orders })
    }

    pub(crate) fn start(&self) -> io::Result<Started> {
        let gone = || io::Error::other("the thread that starts processes has ended");
        let (reply, started) = mpsc::channel();
        self.orders.send(reply).map_err(|_| gone())?;
        started.recv().map_err(|_| gone())?
    }
}

fn start(arguments: Vec<OsString>) -> io::Result<Started> {
    let (stream, theirs) = UnixStream::pair()?;
    // Inherited, so without `CLOEXEC` until the child is there: this thread alone starts such children.
    let memory = memfd_create("corymb-tensors", MemfdFlags::empty())?;
    let process = Command::new(PROGRAM)
        .arg0("corymb")
        .args(arguments)
        .arg(memory.as_raw_fd().to_string())
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // What a terminal sends its foreground is for the server, which then drains.
        .process_group(0)
        .spawn()?;
    fcntl_setfd(&memory, FdFlags::CLOEXEC)?;
    Ok(Started { process, stream, memory: File::from(memory) })
}
