//! Where ONNX Runtime's library is looked for, in which order.
//!
//! Nothing here reads the environment: the places that it names are handed in.

use std::path::{Path, PathBuf};

use crate::python;

/// A library of custom operators that models may ask for, or a folder of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorLibrary {
    /// What models call it; a file is called by its own name where there is none, as are the files of a folder.
    pub name: Option<String>,
    /// The file or the folder.
    pub path: PathBuf,
}

/// Where to look for ONNX Runtime's library, and for those of custom operators.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Do not look at all.
    pub disabled: bool,
    /// The file that the user named; when it does not work, nothing else is tried.
    pub explicit: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`, which ONNX Runtime's bindings share; binding like `explicit`.
    pub dylib_path: Option<PathBuf>,
    /// The folder of the running binary.
    pub beside: Option<PathBuf>,
    /// Folders of the dynamic linker: `LD_LIBRARY_PATH`.
    pub library_path: Vec<PathBuf>,
    /// Folders that libraries are installed into.
    pub system: Vec<PathBuf>,
    /// The value of `VIRTUAL_ENV`.
    pub virtual_env: Option<PathBuf>,
    /// The value of `CONDA_PREFIX`.
    pub conda_prefix: Option<PathBuf>,
    /// The folders of `PATH`, for `python3`.
    pub path: Vec<PathBuf>,
    /// The user's folder, for what `pip install --user` installed.
    pub home: Option<PathBuf>,
    /// What models may ask for: their code runs in this process, so nothing else is loaded.
    pub custom_operators: Vec<OperatorLibrary>,
}

/// One place, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Why it is a place: `ORT_DYLIB_PATH`, `beside the binary`, …
    pub origin: &'static str,
    /// A file, or the folder in which none was found.
    pub path: PathBuf,
    /// `used: ` and its version, `not reached`, or what is wrong with it.
    pub verdict: String,
}

impl Place {
    /// Whether the library that runs models was found here.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.verdict.starts_with(USED)
    }
}

/// How the verdict on the library that runs models begins.
pub(crate) const USED: &str = "used: ";

/// Files to try in one place.
pub(crate) struct Candidates {
    pub(crate) origin: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    /// Whether the user named it, so that nothing else may take its place.
    pub(crate) binding: bool,
}

impl Search {
    /// The folders that libraries are installed into on this system.
    #[must_use]
    pub fn system_folders() -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> =
            ["/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64", "/opt/onnxruntime/lib"]
                .map(PathBuf::from)
                .to_vec();
        if cfg!(target_os = "linux") {
            folders.push(PathBuf::from(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH)));
        }
        if cfg!(target_os = "macos") {
            folders.push(PathBuf::from("/opt/homebrew/lib"));
        }
        folders
    }

    /// The places in their order. Lazy, since most searches end early.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidates> + '_ {
        let named = [("the path that was given", &self.explicit), ("ORT_DYLIB_PATH", &self.dylib_path)];
        let named = named.into_iter().filter_map(|(origin, path)| Some((origin, path.clone()?)));
        let named = named.map(|(origin, path)| {
            let files = if path.is_dir() { libraries_in(&path) } else { vec![path.clone()] };
            Candidates { origin, folder: path, files, binding: true }
        });
        let beside = self.beside.iter().map(|folder| ("beside the binary", folder.clone()));
        let linker = self.library_path.iter().map(|folder| ("LD_LIBRARY_PATH", folder.clone()));
        let system = self.system.iter().map(|folder| ("a system folder", folder.clone()));
        let virtual_env = self.virtual_env.iter().flat_map(|prefix| in_prefix("VIRTUAL_ENV", prefix));
        let conda = self.conda_prefix.iter().flat_map(|prefix| {
            // conda-forge's C++ package installs into lib/, the wheel into site-packages.
            std::iter::once(("CONDA_PREFIX", prefix.join("lib"))).chain(in_prefix("CONDA_PREFIX", prefix))
        });
        // Found only when it comes to it.
        let python = std::iter::once_with(|| python::site_packages_of_interpreter(&self.path, self.home.as_deref()))
            .flatten()
            .map(|site| ("python3 on the PATH", site.join(WHEEL)));
        let folders = beside.chain(linker).chain(system).chain(virtual_env).chain(conda).chain(python);
        let folders = folders.map(|(origin, folder)| {
            let files = libraries_in(&folder);
            Candidates { origin, folder, files, binding: false }
        });
        named.chain(folders)
    }
}

/// Inside `site-packages`: the wheels `onnxruntime` and `onnxruntime-gpu` both install here.
const WHEEL: &str = "onnxruntime/capi";

fn in_prefix(origin: &'static str, prefix: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    python::site_packages(prefix, None).into_iter().map(move |site| (origin, site.join(WHEEL)))
}

/// ONNX Runtime's libraries in a folder, the newest first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((version_of_name(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The version in a library's name; empty where it has none.
fn version_of_name(name: &str) -> Option<Vec<u32>> {
    let numbers = |text: &str| -> Option<Vec<u32>> {
        text.split('.').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
    };
    if cfg!(windows) {
        return (name == "onnxruntime.dll").then(Vec::new);
    }
    let rest = name.strip_prefix("libonnxruntime.")?;
    if cfg!(target_os = "macos") {
        return if rest == "dylib" { Some(Vec::new()) } else { numbers(rest.strip_suffix(".dylib")?) };
    }
    let version = rest.strip_prefix("so")?;
    if version.is_empty() { Some(Vec::new()) } else { numbers(version.strip_prefix('.')?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn names_carry_versions() {
        assert_eq!(version_of_name("libonnxruntime.so"), Some(vec![]));
        assert_eq!(version_of_name("libonnxruntime.so.1.32.0"), Some(vec![1, 32, 0]));
        for other in ["libonnxruntime_providers_shared.so", "libonnxruntime.sox", "libonnxruntime.so.x", "libm.so"] {
            assert_eq!(version_of_name(other), None, "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn places_come_in_their_order_and_the_newest_library_first() {
        let root = tempfile::tempdir().expect("a folder");
        let file = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("created");
            std::fs::write(&path, "").expect("written");
            path
        };
        let venv = file("venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0");
        let old = file("system/libonnxruntime.so.1.9.1");
        let new = file("system/libonnxruntime.so.1.10.0");
        file("system/libonnxruntime_providers_shared.so");
        let search = Search {
            dylib_path: Some(root.path().join("named.so")),
            beside: Some(root.path().join("bin")),
            system: vec![root.path().join("system")],
            virtual_env: Some(root.path().join("venv")),
            ..Search::default()
        };
        let all: Vec<Candidates> = search.candidates().collect();
        let origins: Vec<&str> = all.iter().map(|place| place.origin).collect();
        assert_eq!(origins, ["ORT_DYLIB_PATH", "beside the binary", "a system folder", "VIRTUAL_ENV"]);
        assert!(all[0].binding && !all[1].binding);
        assert_eq!(all[1].files, [] as [PathBuf; 0]);
        assert_eq!(all[2].files, [new, old]);
        assert_eq!(all[3].files, [venv]);
    }
}
