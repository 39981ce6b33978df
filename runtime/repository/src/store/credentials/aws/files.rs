//! AWS's shared files: the profiles of `~/.aws/credentials` and `~/.aws/config`.
//!
//! Their format: <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use corymb_core::files;

use crate::store::client::{Environment, set};
use crate::store::credentials::{MAX_FILE, expanded};
use crate::store::fault::Fault;

/// Settings by their names in lower case; those below another as `s3.endpoint_url`.
pub(super) type Section = BTreeMap<String, String>;

/// Both files, as far as they could be read.
pub(super) struct SharedFiles {
    credentials: File,
    config: File,
}

#[derive(Default)]
struct File {
    /// For messages, with what is wrong with it.
    shown: String,
    sections: BTreeMap<String, Section>,
}

impl SharedFiles {
    pub(super) fn read(environment: &Environment) -> Self {
        Self {
            credentials: File::read(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: File::read(environment, "AWS_CONFIG_FILE", "config"),
        }
    }

    /// Where they were looked for.
    pub(super) fn shown(&self) -> [String; 2] {
        [self.credentials.shown.clone(), self.config.shown.clone()]
    }

    /// What both say of a profile; none where neither has it.
    pub(super) fn profile(&self, name: &str) -> Option<Profile<'_>> {
        let credentials = self.credentials.sections.get(name);
        // Without the word only the default may stand there, yet tools of others take any name.
        let config = self.config.section("profile", name).or_else(|| self.config.sections.get(name));
        (credentials.is_some() || config.is_some()).then(|| Profile {
            name: name.to_owned(),
            credentials: credentials.map(|section| (section, self.credentials.shown.as_str())),
            config: config.map(|section| (section, self.config.shown.as_str())),
        })
    }

    /// The settings of a single sign-on that profiles share.
    pub(super) fn session(&self, name: &str) -> Option<&Section> {
        self.config.section("sso-session", name)
    }

    /// The settings of services that profiles share.
    pub(super) fn services(&self, name: &str) -> Option<&Section> {
        self.config.section("services", name)
    }

    /// That no file has a profile, which `by` names.
    pub(super) fn absent(&self, by: &str, name: &str) -> Fault {
        Fault::refused(format!(
            "{by} is '{name}', and no file has that profile (looked in {})",
            self.shown().join(", ")
        ))
    }
}

impl File {
    fn read(environment: &Environment, variable: &str, name: &str) -> Self {
        let named = set(environment, variable).map(|path| expanded(path, environment));
        let path = named.or_else(|| Some(PathBuf::from(set(environment, "HOME")?).join(".aws").join(name)));
        let Some(path) = path else {
            return Self { shown: format!("~/.aws/{name} (HOME is not set)"), ..Self::default() };
        };
        let shown = path.display().to_string();
        match files::read_text(&path, MAX_FILE) {
            Ok(text) => Self { shown, sections: sections(&text) },
            Err(error) if error.kind() == ErrorKind::NotFound => Self { shown, ..Self::default() },
            Err(error) => Self { shown: format!("{shown} ({error})"), ..Self::default() },
        }
    }

    fn section(&self, kind: &str, name: &str) -> Option<&Section> {
        self.sections.get(&format!("{kind} {name}"))
    }
}

/// A key, its secret, and the token of temporary ones.
pub(super) type Keys<'a> = (&'a str, &'a str, Option<&'a str>);

/// What the files say of one profile.
pub(super) struct Profile<'a> {
    pub(super) name: String,
    /// With the file's path.
    credentials: Option<(&'a Section, &'a str)>,
    config: Option<(&'a Section, &'a str)>,
}

impl<'a> Profile<'a> {
    /// What the file of credentials says, else what the other says.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.both().find_map(|(section, _)| section.get(key)).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The setting, or what it is missing for.
    pub(super) fn need(&self, key: &str, wherefore: &str) -> Result<&'a str, Fault> {
        self.get(key).ok_or_else(|| Fault::refused(format!("{} has {wherefore} and no {key}", self.shown(wherefore))))
    }

    /// The profile and the file that has `key`, for messages.
    pub(super) fn shown(&self, key: &str) -> String {
        let place = self.both().find(|(section, _)| section.contains_key(key)).or_else(|| self.both().next());
        let path = place.map_or("", |(_, path)| path);
        format!("the profile '{}' in {path}", self.name)
    }

    /// The key, its secret and the token of temporary ones, which belong together: of the file of credentials, or of the
    /// other one.
    pub(super) fn keys(&self, in_credentials: bool) -> Result<Option<Keys<'a>>, Fault> {
        let Some((section, path)) = (if in_credentials { self.credentials } else { self.config }) else {
            return Ok(None);
        };
        let get = |key: &str| section.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let incomplete = |has: &str, lacks: &str| {
            Err(Fault::refused(format!("the profile '{}' in {path} has {has} and no {lacks}", self.name)))
        };
        match (get("aws_access_key_id"), get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Ok(Some((id, secret, get("aws_session_token")))),
            (Some(_), None) => incomplete("aws_access_key_id", "aws_secret_access_key"),
            (None, Some(_)) => incomplete("aws_secret_access_key", "aws_access_key_id"),
            (None, None) => Ok(None),
        }
    }

    fn both(&self) -> impl Iterator<Item = (&'a Section, &'a str)> {
        [self.credentials, self.config].into_iter().flatten()
    }
}

/// The sections of a file, by their names with single spaces and without quotes.
fn sections(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut section = None;
    // A setting without a value, which those that are indented below it belong to.
    let mut above: Option<String> = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        let is_indented = line.starts_with([' ', '\t']);
        let line = without_comment(line).trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ").replace(['"', '\''], "");
            section = Some(sections.entry(name).or_default());
            above = None;
        } else if let (Some((key, value)), Some(section)) = (line.split_once('='), &mut section) {
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
            let key = match &above {
                Some(above) if is_indented => format!("{above}.{key}"),
                _ => {
                    above = value.is_empty().then(|| key.clone());
                    key
                }
            };
            section.insert(key, value);
        }
    }
    sections
}

/// A comment in a line stands behind a space.
fn without_comment(line: &str) -> &str {
    let at = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| line.find(mark)).min();
    at.map_or(line, |at| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::{Environment, SharedFiles, sections};

    /// Files of this content, and the folder that they are deleted with.
    fn files(credentials: &str, config: &str) -> (SharedFiles, tempfile::TempDir) {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join(".aws");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("credentials"), credentials).expect("written");
        std::fs::write(folder.join("config"), config).expect("written");
        let environment = Environment::from([("HOME".to_owned(), root.path().to_string_lossy().into_owned())]);
        (SharedFiles::read(&environment), root)
    }

    #[test]
    fn sections_settings_and_comments_are_told_apart() {
        let text = "# first\n[default]\nRegion = eu-west-1 # home\nkey=a=b\n\n[ profile  \"my team\" ]\ns3 =\n  \
                    endpoint_url = http://minio:9000\n  max_queue = 1\nservices = local\n;key = x\n";
        let found = sections(text);
        let of = |section: &str, key: &str| found[section].get(key).map(String::as_str);
        assert_eq!((of("default", "region"), of("default", "key")), (Some("eu-west-1"), Some("a=b")));
        assert_eq!(of("profile my team", "s3.endpoint_url"), Some("http://minio:9000"));
        assert_eq!((of("profile my team", "services"), of("profile my team", "key")), (Some("local"), None));
    }

    #[test]
    fn a_profile_is_of_both_files() {
        let credentials = "[work]\naws_access_key_id = A\naws_secret_access_key = S\n";
        let config = "[profile work]\nregion = r\n[default]\nregion = d\n[sso-session s]\nsso_region = e\n\
                      [services l]\ns3 =\n  endpoint_url = http://x\n";
        let (files, _root) = files(credentials, config);
        let work = files.profile("work").expect("found");
        assert_eq!(work.get("region"), Some("r"));
        assert_eq!(work.keys(true).expect("complete"), Some(("A", "S", None)));
        assert_eq!(work.keys(false).expect("none"), None);
        let [credentials, config] = files.shown();
        assert_eq!(work.shown("aws_access_key_id"), format!("the profile 'work' in {credentials}"));
        assert_eq!(work.shown("region"), format!("the profile 'work' in {config}"));
        assert_eq!(files.profile("default").expect("found").get("region"), Some("d"));
        assert_eq!(files.session("s").map(|session| session["sso_region"].as_str()), Some("e"));
        assert_eq!(files.services("l").map(|services| services["s3.endpoint_url"].as_str()), Some("http://x"));
        assert!(files.profile("absent").is_none());
    }

    #[test]
    fn what_is_missing_is_said() {
        let (files, _root) = files("[half]\naws_access_key_id = A\n", "");
        let [credentials, config] = files.shown();
        let half = files.profile("half").expect("found");
        let expected =
            format!("the profile 'half' in {credentials} has aws_access_key_id and no aws_secret_access_key");
        assert_eq!(half.keys(true).expect_err("incomplete").reason, expected);
        let expected = format!("AWS_PROFILE is 'x', and no file has that profile (looked in {credentials}, {config})");
        assert_eq!(files.absent("AWS_PROFILE", "x").reason, expected);
        let homeless = SharedFiles::read(&Environment::new());
        assert_eq!(homeless.shown()[0], "~/.aws/credentials (HOME is not set)");
    }
}
