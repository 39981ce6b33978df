//! Libraries of custom operators: found by name among those that the server's operator allows, loaded once, and kept.
//!
//! Such a library is code that runs in this process. A model's folder may come from anywhere, so it can only name one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::library::{linker_says, look_at};
use crate::search::OperatorLibrary;

/// What ONNX Runtime calls in a library of operators.
const ENTRY: &[u8] = b"RegisterCustomOps";

/// Each library that was loaded, or why it could not be. ONNX Runtime would unload them with the last session: C++
/// libraries with state of their threads do not bear that.
static KEPT: Mutex<BTreeMap<PathBuf, Result<(), String>>> = Mutex::new(BTreeMap::new());

/// The files of the libraries that a model names, loaded.
///
/// # Errors
/// Which is not allowed or does not load, and what to do.
pub(crate) fn libraries(names: &[String], allowed: &[OperatorLibrary]) -> Result<Vec<PathBuf>, String> {
    names.iter().map(|name| library(name, allowed)).collect()
}

fn library(name: &str, allowed: &[OperatorLibrary]) -> Result<PathBuf, String> {
    let Some(file) = allowed.iter().find_map(|library| library.file(name)) else {
        let places: Vec<String> = allowed.iter().map(OperatorLibrary::shown).collect();
        let known = match places.as_slice() {
            [] => "none is allowed".to_owned(),
            places => format!("allowed are {}", places.join(", ")),
        };
        return Err(format!(
            "it needs the library of custom operators '{name}', and {known}; start the server with \
             --custom-operators and the library's folder, its file, or {name}=FILE"
        ));
    };
    let reason = |reason: String| format!("the library of custom operators {}: {reason}", file.display());
    let real = file.canonicalize().map_err(|error| reason(error.to_string()))?;
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = match kept.get(&real) {
        Some(Ok(())) => Ok(()),
        // A file that did not load may have been replaced.
        Some(Err(_)) | None => load(&real),
    };
    kept.insert(real.clone(), outcome.clone());
    outcome.map_err(reason)?;
    Ok(real)
}

impl OperatorLibrary {
    /// The file that is called `name`.
    fn file(&self, name: &str) -> Option<PathBuf> {
        if let Some(own) = &self.name {
            return (own == name).then(|| self.path.clone());
        }
        if self.path.is_dir() {
            return Some(self.path.join(name)).filter(|file| file.is_file());
        }
        (self.path.file_name()?.to_str()? == name).then(|| self.path.clone())
    }

    fn shown(&self) -> String {
        let path = self.path.display();
        let absent = if self.path.exists() { "" } else { " (which is not there)" };
        self.name.as_ref().map_or_else(|| format!("{path}{absent}"), |name| format!("{name}={path}{absent}"))
    }
}

fn load(file: &Path) -> Result<(), String> {
    look_at(file)?;
    let first = keep(file, false);
    // The package onnxruntime-extensions is built as a module of Python, whose functions it never calls here. They have
    // to be there all the same.
    let needs_python = |reason: &String| reason.contains("undefined symbol: Py") || reason.contains("symbol: _Py");
    match first {
        Err(reason) if needs_python(&reason) => {
            let Some(version) = python_version(file) else { return Err(reason) };
            python(file, &version)?;
            keep(file, false)
        }
        outcome => outcome,
    }
}

/// The version of Python that a module was built for: in its name, or in that of a folder above it.
fn python_version(file: &Path) -> Option<String> {
    let digits = |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
    let name = file.file_name()?.to_str()?;
    if let Some((_, rest)) = name.split_once("cpython-3") {
        return Some(format!("3.{}", digits(rest)));
    }
    let folders = file.ancestors().filter_map(|folder| folder.file_name()?.to_str()?.strip_prefix("python3."));
    folders.map(|rest| format!("3.{}", digits(rest))).next()
}

/// Loads Python's own library, so that its symbols are there for the module `file`.
fn python(file: &Path, version: &str) -> Result<(), String> {
    let name = if cfg!(target_os = "macos") {
        format!("libpython{version}.dylib")
    } else {
        format!("libpython{version}.so.1.0")
    };
    // Above the packages of the installation; below the one that a virtual environment was made of.
    let above = file.ancestors().map(Path::to_path_buf);
    let made_of = file.ancestors().filter_map(|folder| {
        let text = fs::read_to_string(folder.join("pyvenv.cfg")).ok()?;
        let home = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "home")?.1;
        Some(Path::new(home.trim()).parent()?.join("lib"))
    });
    let found = above.chain(made_of).map(|folder| folder.join(&name)).filter(|path| path.is_file());
    // Last the dynamic linker's own places.
    let mut last = String::new();
    for path in found.chain([PathBuf::from(&name)]) {
        match keep(&path, true) {
            Ok(()) => return Ok(()),
            Err(reason) => last = reason,
        }
    }
    Err(format!(
        "it was built for Python {version} and needs {name}, which was not found beside it ({last}); install it, on \
         Debian by `apt-get install libpython{version}`, or name its folder by LD_LIBRARY_PATH"
    ))
}

/// Loads a library for good; its symbols are seen by all that come later where it is a `helper` of another.
#[cfg(unix)]
#[allow(unsafe_code, reason = "a library is loaded")]
fn keep(path: &Path, helper: bool) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};
    let flags = RTLD_NOW | if helper { RTLD_GLOBAL } else { RTLD_LOCAL };
    // SAFETY: the server's operator named the library, or where it lies, in order that it is run.
    let library = unsafe { Library::open(Some(path), flags) }.map_err(|error| linker_says(&error))?;
    let library = std::mem::ManuallyDrop::new(library);
    // SAFETY: the symbol is looked for and not used.
    if !helper && unsafe { library.get::<unsafe extern "C" fn()>(ENTRY) }.is_err() {
        return Err("it exports no RegisterCustomOps".to_owned());
    }
    Ok(())
}

#[cfg(not(unix))]
#[allow(unsafe_code, reason = "a library is loaded")]
fn keep(path: &Path, _: bool) -> Result<(), String> {
    // SAFETY: the server's operator named the library in order that it is run.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| linker_says(&error))?;
    std::mem::forget(library);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("liba.so");
        fs::write(&file, "not a library, but longer than a header").expect("written");
        let at =
            |name: Option<&str>, path: &Path| OperatorLibrary { name: name.map(str::to_owned), path: path.to_owned() };
        let found = |name: &str, allowed: &[OperatorLibrary]| allowed.iter().find_map(|library| library.file(name));
        for allowed in [at(None, root.path()), at(None, &file)] {
            assert_eq!(found("liba.so", std::slice::from_ref(&allowed)), Some(file.clone()));
            assert_eq!(found("libb.so", &[allowed]), None);
        }
        let named = at(Some("ops"), &file);
        assert_eq!(found("ops", std::slice::from_ref(&named)), Some(file.clone()));
        assert_eq!(found("liba.so", std::slice::from_ref(&named)), None);

        let refused = |name: &str, allowed: &[OperatorLibrary]| library(name, allowed).expect_err("refused");
        let error = refused("liba.so", &[]);
        assert!(error.contains("'liba.so', and none is allowed; start the server with --custom-operators"), "{error}");
        let error = refused("liba.so", &[named, at(None, Path::new("/nowhere"))]);
        assert!(error.contains("allowed are ops=") && error.contains("/nowhere (which is not there)"), "{error}");
        if cfg!(target_os = "linux") {
            let error = refused("liba.so", &[at(None, root.path())]);
            assert!(error.ends_with("liba.so: is not a shared library"), "{error}");
        }
    }

    #[test]
    fn the_python_of_a_module_is_known() {
        let version = |path: &str| python_version(Path::new(path));
        assert_eq!(version("/v/x.cpython-311-x86_64-linux-gnu.so").as_deref(), Some("3.11"));
        assert_eq!(version("/v/lib/python3.12/site-packages/x/x.abi3.so").as_deref(), Some("3.12"));
        assert_eq!(version("/v/lib/x.so"), None);
    }
}
