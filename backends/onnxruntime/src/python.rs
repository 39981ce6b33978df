//! Where a Python installation keeps its packages, found without running it where that is possible.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long an interpreter may take to name its folders. Only scripts in its place are run at all.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Prints the folders of packages, one a line.
const ASK: &str = "import site;print('\\n'.join(site.getsitepackages()+[site.getusersitepackages()]))";
/// What is read of the answer.
const MAX_ANSWER: u64 = 64 << 10;

/// The folders of packages below `prefix`: of the interpreter `version` (`python3.11`), or of all.
pub(crate) fn site_packages(prefix: &Path, version: Option<&str>) -> Vec<PathBuf> {
    if cfg!(windows) {
        return Some(prefix.join("Lib/site-packages")).filter(|folder| folder.is_dir()).into_iter().collect();
    }
    let mut found = Vec::new();
    for lib in ["lib", "lib64"].map(|lib| prefix.join(lib)) {
        let Ok(entries) = lib.read_dir() else { continue };
        let mut pythons: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            // Debian keeps the packages of every Python 3 in `python3`.
            .filter(|name| {
                name.starts_with("python3") && version.is_none_or(|version| name == version || name == "python3")
            })
            .collect();
        pythons.sort();
        for name in pythons.iter().rev() {
            let folders = ["site-packages", "dist-packages"].map(|packages| lib.join(name).join(packages));
            found.extend(folders.into_iter().filter(|folder| folder.is_dir()));
        }
    }
    // `lib64` is often a link to `lib`.
    let mut seen = Vec::new();
    found.retain(|folder| {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let is_new = !seen.contains(&real);
        seen.push(real);
        is_new
    });
    found
}

/// The folders of packages of the first `python3` on the `path`.
pub(crate) fn site_packages_of_interpreter(path: &[PathBuf], home: Option<&Path>) -> Vec<PathBuf> {
    let name = if cfg!(windows) { "python.exe" } else { "python3" };
    let Some(interpreter) = path.iter().map(|folder| folder.join(name)).find(|file| file.is_file()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    // A virtual environment's interpreter is a link out of it: what lies above the link is the environment.
    if let Some(prefix) = interpreter.parent().and_then(Path::parent)
        && prefix.join("pyvenv.cfg").is_file()
    {
        found.extend(site_packages(prefix, None));
        if !sees_system_packages(&prefix.join("pyvenv.cfg")) {
            return found;
        }
    }
    let Ok(real) = interpreter.canonicalize() else { return found };
    if is_script(&real) {
        // A shim of pyenv, asdf or the like: only the interpreter behind it knows.
        found.extend(ask(&interpreter));
        return found;
    }
    let version = real.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with("python3."));
    if let Some(home) = home {
        found.extend(site_packages(&home.join(".local"), version));
    }
    if let Some(prefix) = real.parent().and_then(Path::parent) {
        found.extend(site_packages(&prefix.join("local"), version));
        found.extend(site_packages(prefix, version));
    }
    found
}

fn sees_system_packages(config: &Path) -> bool {
    let text = fs::read_to_string(config).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .any(|(key, value)| key.trim() == "include-system-site-packages" && value.trim().eq_ignore_ascii_case("true"))
}

fn is_script(file: &Path) -> bool {
    let mut start = [0; 2];
    fs::File::open(file).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"#!"
}

/// Asks the interpreter itself; nothing when it fails or takes longer than [`ASK_LIMIT`].
fn ask(interpreter: &Path) -> Vec<PathBuf> {
    let child = Command::new(interpreter)
        .args(["-c", ASK])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return Vec::new() };
    let deadline = Instant::now() + ASK_LIMIT;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    let mut text = String::new();
    if !ended || child.stdout.take().is_none_or(|out| out.take(MAX_ANSWER).read_to_string(&mut text).is_err()) {
        return Vec::new();
    }
    text.lines().map(PathBuf::from).filter(|folder| folder.is_dir()).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder(root: &Path, path: &str) -> PathBuf {
        let folder = root.join(path);
        fs::create_dir_all(&folder).expect("created");
        folder
    }

    fn script(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    #[test]
    fn an_interpreter_is_followed_to_its_packages() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("real");
        let bin = folder(&root, "usr/bin");
        fs::write(bin.join("python3.11"), "\x7fELF").expect("written");
        symlink("python3.11", bin.join("python3")).expect("linked");
        let debian = folder(&root, "usr/lib/python3/dist-packages");
        let local = folder(&root, "usr/local/lib/python3.11/dist-packages");
        folder(&root, "usr/local/lib/python3.9/dist-packages");
        let user = folder(&root, "home/.local/lib/python3.11/site-packages");
        let found = site_packages_of_interpreter(std::slice::from_ref(&bin), Some(&root.join("home")));
        assert_eq!(found, [user, local, debian]);

        // In a virtual environment the link leads away from the packages.
        let venv = folder(&root, "venv/bin");
        symlink(bin.join("python3"), venv.join("python3")).expect("linked");
        fs::write(root.join("venv/pyvenv.cfg"), "include-system-site-packages = false\n").expect("written");
        let packages = folder(&root, "venv/lib/python3.11/site-packages");
        symlink("lib", root.join("venv/lib64")).expect("linked");
        assert_eq!(site_packages_of_interpreter(&[venv, bin], None), [packages]);
    }

    #[test]
    fn a_shim_is_asked_and_given_up_when_it_hangs() {
        let root = tempfile::tempdir().expect("a folder");
        let packages = folder(root.path(), "packages");
        let shim = root.path().join("python3");
        script(&shim, &format!("#!/bin/sh\necho '{}'\necho /absent\n", packages.display()));
        assert_eq!(site_packages_of_interpreter(&[root.path().to_owned()], None), [packages]);
        script(&shim, "#!/bin/sh\nexec sleep 1000\n");
        assert_eq!(site_packages_of_interpreter(&[root.path().to_owned()], None), [] as [PathBuf; 0]);
        script(&shim, "#!/bin/sh\nexit 1\n");
        assert_eq!(site_packages_of_interpreter(&[root.path().to_owned()], None), [] as [PathBuf; 0]);
    }
}
