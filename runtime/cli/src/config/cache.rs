//! Where downloaded models and compiled plugins are kept.

use std::fs::{self, DirBuilder, File, symlink_metadata};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::geteuid;

use super::environment::Environment;

/// A folder for what is kept.
pub(crate) struct Cache {
    /// None where there is no place for it.
    pub(crate) folder: Option<PathBuf>,
    /// That it is not where it was expected.
    pub(crate) warning: Option<String>,
}

/// The folder that is named, by a flag or by a variable, whatever the command is; else the user's; where that cannot be written, as in a container whose user has no home, a temporary
/// one.
pub(crate) fn cache(named: Option<&PathBuf>, environment: &Environment) -> Cache {
    let by_variable = || environment.get("CORYMB_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = named.cloned().or_else(by_variable) {
        return Cache { folder: Some(named), warning: None };
    }
    let reason = match users(environment) {
        Some(folder) if try_to_write(&folder).is_ok() => return Cache { folder: Some(folder), warning: None },
        Some(folder) => format!("{} cannot be written", folder.display()),
        None => "neither HOME nor XDG_CACHE_HOME is set".to_owned(),
    };
    let folder = temporary(environment);
    let warning = match &folder {
        Some(folder) => format!(
            "{reason}; what is downloaded and compiled is kept in {}, which may not outlive this container; --cache names another \
             folder",
            folder.display()
        ),
        None => format!("{reason}, nor a temporary folder; --cache names a folder for what is downloaded and compiled"),
    };
    Cache { folder, warning: Some(warning) }
}

fn users(environment: &Environment) -> Option<PathBuf> {
    let home = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = home("XDG_CACHE_HOME").or_else(|| home("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("corymb"))
}

/// Makes the folder and a file in it, and takes away what was made.
pub(crate) fn try_to_write(folder: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|part| fs::symlink_metadata(part).is_err()).collect();
    let written = fs::create_dir_all(folder).and_then(|()| {
        // Others may try at the same time, in containers where all have one number.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let probe = folder.join(format!(".corymb-{}-{time}", std::process::id()));
        File::create_new(&probe)?;
        fs::remove_file(&probe)
    });
    for made in missing.into_iter().filter(|part| !part.as_os_str().is_empty()) {
        // One that was not made, or that another process has put something into, stays as it is.
        let _ = fs::remove_dir(made);
    }
    written
}

/// A folder that no other user can write to: compiled plugins are run as they are found.
fn temporary(environment: &Environment) -> Option<PathBuf> {
    let place = environment.get("TMPDIR").filter(|place| !place.is_empty()).map_or("/tmp".into(), PathBuf::from);
    let user = geteuid().as_raw();
    let names = [format!("corymb-{user}"), format!("corymb-{user}-{}", std::process::id())];
    names.into_iter().map(|name| place.join(name)).find(|folder| {
        let _ = DirBuilder::new().mode(0o700).create(folder);
        let is_own = |found: fs::Metadata| found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0;
        symlink_metadata(folder).is_ok_and(is_own)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &Path)]) -> (Option<PathBuf>, Option<String>) {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.to_string_lossy().into_owned()));
        let Cache { folder, warning } = cache(None, &variables.collect());
        (folder, warning)
    }

    #[test]
    fn a_temporary_folder_takes_the_place_of_one_that_cannot_be_written() {
        let place = tempfile::tempdir().expect("made");
        let home = place.path().join("home");
        assert_eq!(chosen(&[("HOME", &home)]), (Some(home.join(".cache/corymb")), None));
        let named = place.path().join("named");
        assert_eq!(chosen(&[("HOME", &home), ("CORYMB_CACHE", &named)]), (Some(named), None));
        fs::write(&home, "a file").expect("written");
        let own = place.path().join(format!("corymb-{}", geteuid().as_raw()));
        let variables = [("HOME", home.as_path()), ("TMPDIR", place.path())];
        let (folder, warning) = chosen(&variables);
        assert_eq!(folder.as_ref(), Some(&own));
        let warning = warning.expect("it is said");
        assert!(warning.starts_with(&format!("{}/.cache/corymb cannot be written", home.display())), "{warning}");
        assert_eq!(symlink_metadata(&own).expect("made").mode() & 0o777, 0o700);
        assert_eq!(chosen(&variables).0, Some(own.clone()), "the same again");
        // One that somebody else may have made.
        fs::remove_dir(&own).expect("removed");
        std::os::unix::fs::symlink("/", &own).expect("linked");
        let (folder, _) = chosen(&variables);
        assert!(folder.is_some_and(|folder| folder != own && folder.starts_with(place.path())));
        let (folder, warning) = chosen(&[("TMPDIR", &home)]);
        assert_eq!(folder, None);
        assert!(
            warning.is_some_and(|warning| warning.contains("neither HOME nor XDG_CACHE_HOME is set, nor a temporary"))
        );
    }

    #[test]
    fn trying_to_write_leaves_nothing() {
        let place = tempfile::tempdir().expect("made");
        let root = place.path().join("root");
        let folder = root.join("a/b");
        try_to_write(&folder).expect("written");
        assert!(!root.exists());
        fs::create_dir(&root).expect("made");
        fs::write(root.join("a"), "a file").expect("written");
        assert!(try_to_write(&folder).is_err());
        assert!(root.join("a").is_file());
    }
}
