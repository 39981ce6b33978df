//! Opens ONNX Runtime's library: looked at before it is loaded, its version checked, its log led into ours.

use std::error::Error as _;
use std::ffi::CStr;
use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::memory;
use crate::search::{Place, Search, USED};

/// The oldest version that is accepted. The C API that is called here came with 24, but up to that one an integer divided
/// by 0 ends the process; up to 27 some linear classifiers and forests of two classes are answered wrongly; up to 28 a
/// Range to the largest integers is empty. The zoo of models (`tests/fixtures/zoo`) finds them.
const OLDEST: u32 = 29;
const HOW_TO_GET_IT: &str = "install it with `pip install onnxruntime` into the virtual environment or the Python that \
    the PATH names, or name the library with --onnxruntime PATH";

/// The library of this process, ready for sessions.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) environment: Environment,
}

/// `ort` and the library keep global state, so a process has one library, from the first that works on.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// Looks in each place until a library works. Answers what was tried, and the library or why there is none.
pub(crate) fn find(search: &Search) -> (Vec<Place>, Result<Library, String>) {
    let mut places = Vec::new();
    if search.disabled {
        return (places, Err("it is switched off by --onnxruntime none".to_owned()));
    }
    let mut found: Option<Library> = None;
    let mut refused: Option<String> = None;
    for candidates in search.candidates() {
        let origin = candidates.origin;
        if found.is_some() || refused.is_some() {
            let path = candidates.files.into_iter().next();
            places.extend(path.map(|path| Place { origin, path, verdict: "not reached".to_owned() }));
            continue;
        }
        if candidates.files.is_empty() {
            let verdict =
                if candidates.folder.is_dir() { "holds no libonnxruntime" } else { "is not there" }.to_owned();
            if candidates.binding {
                refused = Some(format!("{origin}, {}: {verdict}", candidates.folder.display()));
            }
            places.push(Place { origin, path: candidates.folder, verdict });
            continue;
        }
        for path in candidates.files {
            if found.is_some() {
                break;
            }
            let verdict = match open(&path) {
                Ok(library) => {
                    let verdict = format!("{USED}ONNX Runtime {}", library.version);
                    found = Some(library);
                    verdict
                }
                Err(reason) => {
                    if candidates.binding {
                        refused = Some(format!("{origin}, {}: {reason}", path.display()));
                    }
                    reason
                }
            };
            places.push(Place { origin, path, verdict });
        }
    }
    let outcome = match (found, refused) {
        (Some(library), _) => Ok(library),
        (None, Some(reason)) => Err(reason),
        (None, None) => Err(nothing_found(&places)),
    };
    (places, outcome)
}

fn nothing_found(places: &[Place]) -> String {
    let broken: Vec<String> = places
        .iter()
        .filter(|place| !place.verdict.starts_with("is not there") && !place.verdict.starts_with("holds no "))
        .map(|place| format!("{} {}", place.path.display(), place.verdict))
        .collect();
    let mut origins: Vec<&str> = places.iter().map(|place| place.origin).collect();
    origins.dedup();
    let looked = if origins.is_empty() { "nowhere".to_owned() } else { origins.join(", ") };
    let broken = if broken.is_empty() { String::new() } else { format!("; {}", broken.join("; ")) };
    format!("no usable libonnxruntime was found (looked in: {looked}){broken}; {HOW_TO_GET_IT}")
}

/// Loads the library at `path`, or says what is wrong with the file.
fn open(path: &Path) -> Result<Library, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let real = path.canonicalize().map_err(|error| text_of(&error))?;
    if let Some(library) = &*loaded {
        return if library.path == real {
            Ok(library.clone())
        } else {
            Err(format!("this process already uses {}", library.path.display()))
        };
    }
    look_at(&real)?;
    let version = version(&real)?;
    // `ort` asserts rather than answers in a few places.
    let environment = catch_unwind(AssertUnwindSafe(|| environment(&real)))
        .unwrap_or_else(|_| Err("could not be initialised".to_owned()))?;
    let library = Library { path: real, version, environment };
    *loaded = Some(library.clone());
    Ok(library)
}

fn text_of(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Machines by their number in ELF's header.
const MACHINES: [(u16, &str); 6] =
    [(3, "x86"), (40, "arm"), (62, "x86_64"), (183, "aarch64"), (243, "riscv64"), (21, "powerpc64")];

/// Looks at the file's first bytes: the dynamic linker says only that it could not be opened.
pub(crate) fn look_at(path: &Path) -> Result<(), String> {
    // Opening a pipe would wait for a writer.
    if !path.metadata().map_err(|error| text_of(&error))?.is_file() {
        return Err("is not a file".to_owned());
    }
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let mut header = [0_u8; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if read.is_err() || !header.starts_with(b"\x7fELF") {
        return Err("is not a shared library".to_owned());
    }
    let number = u16::from_le_bytes([header[18], header[19]]);
    let name = MACHINES.iter().find(|(known, _)| *known == number).map_or("another machine", |(_, name)| name);
    let own = std::env::consts::ARCH;
    if name == own { Ok(()) } else { Err(format!("is made for {name}, and this program runs on {own}")) }
}

type GetApiBase = unsafe extern "system" fn() -> *const ort::sys::OrtApiBase;

/// The dynamic linker's own words, which stand behind the error.
pub(crate) fn linker_says(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The version that the library says of itself, if it is one that can be used.
#[allow(unsafe_code, reason = "a library is loaded and asked through its C interface")]
fn version(path: &Path) -> Result<String, String> {
    // SAFETY: the user installed or named this library for this purpose; its initialisers do what ONNX Runtime's do.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|error| format!("cannot be loaded: {}", linker_says(&error)))?;
    // Never unloaded: ONNX Runtime does not promise that it can be.
    let library = std::mem::ManuallyDrop::new(library);
    // SAFETY: a library that exports this name exports this function, which exists since ONNX Runtime 1.0.
    let base = unsafe { library.get::<GetApiBase>(b"OrtGetApiBase") }
        .map_err(|_| "is not ONNX Runtime: it exports no OrtGetApiBase".to_owned())?;
    // SAFETY: the function takes nothing; its answer is static, as is the text it leads to.
    let version = unsafe { base().as_ref().map(|base| CStr::from_ptr((base.GetVersionString)())) };
    let version = version.and_then(|text| text.to_str().ok()).unwrap_or_default().to_owned();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    match (numbers.next(), numbers.next()) {
        (Some(1), Some(minor)) if minor >= OLDEST => Ok(version),
        _ => Err(format!("is ONNX Runtime {version}; at least 1.{OLDEST} is needed")),
    }
}

fn environment(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    let environment = builder
        .with_name("corymb")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| format!("could not be initialised: {error}"))?;
    environment.set_log_level(LogLevel::Warning);
    memory::register(&environment).map_err(|error| format!("takes no allocator: {}", error.message()))?;
    Ok(environment)
}

/// One line of ONNX Runtime's log. What it calls errors it returns as well, for every bad request too, and its warnings
/// are for those who build models and machines: both are for whoever asks for details.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    let message = message.trim();
    match level {
        LogLevel::Fatal => tracing::error!(category, location, "onnxruntime: {message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(category, location, "onnxruntime: {message}"),
        LogLevel::Info | LogLevel::Verbose => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(search: &Search) -> String {
        find(search).1.expect_err("refused")
    }

    #[test]
    fn what_is_named_is_used_or_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let text = root.path().join("libonnxruntime.so");
        std::fs::write(&text, "not a library, but longer than a header").expect("written");
        let named = |path: PathBuf| Search { explicit: Some(path), beside: Some("/".into()), ..Search::default() };
        let error = refusal(&named(root.path().join("absent.so")));
        assert!(error.starts_with("the path that was given, ") && error.ends_with("is not there"), "{error}");
        if cfg!(target_os = "linux") {
            let error = refusal(&named(text.clone()));
            assert!(error.ends_with("libonnxruntime.so: is not a shared library"), "{error}");
            let mut other = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x15\0";
            std::fs::write(&text, other).expect("written");
            let error = refusal(&named(text.clone()));
            assert!(error.contains("is made for powerpc64, and this program runs on "), "{error}");
            other[18] = 0xFF;
            std::fs::write(&text, other).expect("written");
            assert!(refusal(&named(text)).contains("is made for another machine"));
        }
        let empty = tempfile::tempdir().expect("a folder");
        let error = refusal(&named(empty.path().to_owned()));
        assert!(error.ends_with("holds no libonnxruntime"), "{error}");
    }

    #[test]
    fn a_search_without_success_says_where_and_what_to_do() {
        let root = tempfile::tempdir().expect("a folder");
        let search = Search { beside: Some(root.path().to_owned()), ..Search::default() };
        let (places, outcome) = find(&search);
        let error = outcome.expect_err("nothing there");
        assert!(error.contains("looked in: beside the binary") && error.contains("pip install onnxruntime"), "{error}");
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].verdict, "holds no libonnxruntime");
        assert!(refusal(&Search { disabled: true, ..search }).contains("switched off"));
    }
}
