//! Compiles components in a process for each: what a component that was made to trouble a compiler takes is bounded by nothing
//! else. The process is this program again; what it reads, writes and says lies in memory that both have open, as its
//! standard input, output and error.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use corymb_core::{Holder, MemoryPool, Shortage};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use crate::compile::{CompileLimits, MAX_COMPONENT, compile, unchecked};
use crate::engine;
use crate::limits::cut;

/// This program, also when its file is gone.
const PROGRAM: &str = "/proc/self/exe";
/// Who is ended first where memory runs out; the server has 0, a model's process 500.
const OOM_SCORE: &str = "1000";
/// How often a process is looked after.
const TICK: Duration = Duration::from_millis(2);
/// On a machine whose processors are busy with requests, the time that is allowed takes longer, but not for ever.
const SLOWER: u32 = 20;
/// How long memory that others hold is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of what a process says so much is told.
const MAX_WORDS: usize = 1 << 10;
/// A small plugin takes no less, in bytes. Where requests have left less, it is taken beside what they may hold.
const LEAST_MEMORY: u64 = 64 << 20;
/// More threads are not worth their stacks.
const MOST_THREADS: usize = 4;
/// Words of a process that could not have the memory that it asked for.
const OUT_OF_MEMORY: [&str; 4] =
    ["memory allocation of", "out of memory", "thread creation failed", "failed to allocate"];

/// What the first byte of an output says of the rest: a text.
const REFUSED: u8 = 0;
/// A compiled form.
const COMPILED: u8 = 1;

type Arguments = Box<dyn Fn(CompileLimits) -> Vec<OsString> + Send + Sync>;

/// Starts this program to compile.
pub(crate) struct Compiler(pub(crate) Arguments);

impl Compiler {
    /// The compiled form of a component, for this machine; what it takes to make it is held of `pool`.
    pub(crate) fn compile(&self, component: &[u8], pool: &MemoryPool) -> Result<Vec<u8>, String> {
        let mut limits = CompileLimits::of_size(component.len());
        let mut holder = pool.holder();
        limits.memory = hold(&mut holder, limits.memory)?.max(LEAST_MEMORY);
        let failed = |error: io::Error| format!("the process that compiles it cannot be started: {error}");
        let mut output = self.run(component, limits).map_err(failed)??;
        if output.is_empty() {
            return Err("the process that compiled it ended without a result".to_owned());
        }
        match output.remove(0) {
            COMPILED => Ok(output),
            _ => {
                let reason = String::from_utf8_lossy(&output).into_owned();
                Err(if is_want_of_memory(&reason) { too_much_memory(limits.memory) } else { reason })
            }
        }
    }

    fn run(&self, component: &[u8], limits: CompileLimits) -> io::Result<Result<Vec<u8>, String>> {
        let memory = |name| memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
        let (input, output, words) = (memory("component")?, memory("compiled")?, memory("words")?);
        input.write_all_at(component, 0)?;
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let mut process = Ended(
            Command::new(PROGRAM)
                .arg0("corymb")
                .args((self.0)(limits))
                .env("RAYON_NUM_THREADS", threads.min(MOST_THREADS).to_string())
                .env("RUST_BACKTRACE", "0")
                .stdin(input)
                .stdout(output.try_clone()?)
                .stderr(words.try_clone()?)
                // What a terminal sends its foreground is for the server.
                .process_group(0)
                .spawn()?,
        );
        let until = Instant::now() + limits.time * SLOWER;
        let status = loop {
            if let Some(status) = process.0.try_wait()? {
                break status;
            }
            if Instant::now() >= until {
                let tried = limits.time * SLOWER;
                return Ok(Err(format!("compiling it has not come to an end in {} s", tried.as_secs())));
            }
            thread::sleep(TICK);
        };
        if status.success() {
            content(&output).map(Ok)
        } else {
            content(&words).map(|words| Err(why(status, &words, limits)))
        }
    }
}

/// Holds `bytes`, or what there is where that is less than `bytes` in all; returns how many.
fn hold(holder: &mut Holder, bytes: u64) -> Result<u64, String> {
    let until = Instant::now() + PATIENCE;
    let mut asked = bytes;
    loop {
        match holder.grow(asked) {
            Ok(()) => return Ok(asked),
            Err(Shortage::Never { limit, .. }) if limit < asked => asked = limit,
            Err(shortage) if Instant::now() >= until => {
                return Err(format!("there is no memory to compile it: {shortage}"));
            }
            Err(_) => thread::sleep(TICK),
        }
    }
}

/// A process that ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn content(memory: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(memory.metadata()?.len()).unwrap_or(usize::MAX)];
    memory.read_exact_at(&mut content, 0)?;
    Ok(content)
}

fn is_want_of_memory(words: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|cause| words.contains(cause))
}

fn too_much_memory(bytes: u64) -> String {
    format!("compiling it takes more than the {} MiB of memory that a component of its size may take", bytes >> 20)
}

/// Why a compilation has no result.
fn why(status: ExitStatus, words: &[u8], limits: CompileLimits) -> String {
    let CompileLimits { memory, time } = limits;
    let words = String::from_utf8_lossy(words);
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let seconds = time.as_secs();
    // What could not be allocated ends a process by its own hand.
    if is_want_of_memory(&words) {
        return too_much_memory(memory);
    }
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => {
            format!(
                "compiling it takes more than the {seconds} s of processors' time that a component of its size may take"
            )
        }
        Some(Signal::KILL) => {
            "the process that compiled it was ended from outside, as the kernel does where memory runs out".to_owned()
        }
        _ => format!("the process that compiled it ended with {status}: {}", cut(words, MAX_WORDS)),
    }
}

/// Compiles the component that is this process's standard input, for the server that started it: writes the compiled form, or
/// what is wrong with it, to standard output. What takes more than `limits` ends this process.
///
/// # Errors
/// When input or output fail, or when no limit can be set.
pub fn compile_apart(limits: CompileLimits) -> io::Result<()> {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let limit = |resource, value: u64| {
        // Whoever started the server may have allowed less.
        let value = getrlimit(resource).maximum.map_or(value, |most| most.min(value));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    // What ends this process is expected, and is no reason to write its memory to a disk.
    limit(Resource::Core, 0)?;
    limit(Resource::Data, limits.memory)?;
    limit(Resource::Fsize, limits.memory)?;
    let seconds = limits.time.as_secs();
    // Where the two are the same, the kernel sends the signal that tells nothing.
    let most = getrlimit(Resource::Cpu).maximum.map_or(seconds + 1, |most| most.min(seconds + 1));
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds.min(most.saturating_sub(1))), maximum: Some(most) })?;
    let mut component = Vec::new();
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    input.take(MAX_COMPONENT as u64 + 1).read_to_end(&mut component)?;
    let compiled = engine::compiling().map_err(|error| format!("cannot start the compiler: {error:#}"));
    let (kind, rest) = match compiled.and_then(|engine| compile(&engine, &component, unchecked)) {
        Ok(compiled) => (COMPILED, compiled),
        Err(refused) => (REFUSED, refused.into_bytes()),
    };
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    output.write_all(&[kind])?;
    output.write_all(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_compilation_ended_is_said_in_words_of_the_component() {
        let limits = CompileLimits::of_size(1);
        assert_eq!((limits.memory, limits.time), (144 << 20, Duration::from_secs(24)));
        let why = |status, words: &str| super::why(ExitStatus::from_raw(status), words.as_bytes(), limits);
        let memory = why(6, "memory allocation of 67108864 bytes failed\nnote: …");
        assert!(memory.starts_with("compiling it takes more than the 144 MiB of memory"), "{memory}");
        let time = why(24, "");
        assert!(time.starts_with("compiling it takes more than the 24 s of processors' time"), "{time}");
        assert!(why(9, "").contains("ended from outside"));
        let panic = why(101 << 8, "thread 'main' panicked:\n  bad  luck");
        assert!(panic.ends_with("exit status: 101: thread 'main' panicked: bad luck"), "{panic}");
    }

    #[test]
    fn what_is_there_is_held_and_what_never_will_be_is_not_waited_for() {
        let pool = MemoryPool::fixed(160 << 20);
        let mut holder = pool.holder();
        assert_eq!(hold(&mut holder, 96 << 20), Ok(96 << 20));
        drop(holder);
        let mut holder = pool.holder();
        assert_eq!(hold(&mut holder, 1 << 30), Ok(140 << 20));
        assert_eq!(pool.held(), 140 << 20);
    }
}
