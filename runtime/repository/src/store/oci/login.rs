//! Who asks a registry: what `docker login` and `podman login` have written down, and the programs that these name.
//!
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>,
//! <https://github.com/docker/docker-credential-helpers#development>

use std::collections::BTreeMap;
use std::io::{ErrorKind, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use corymb_core::files;
use serde::{Deserialize, Deserializer};

use crate::store::client::{Environment, set};
use crate::store::credentials::{Absent, Identity, run};
use crate::store::fault::Fault;

/// The largest file that is read.
const MAX: u64 = 1 << 20;
/// A helper may ask others over the network.
const PATIENCE: Duration = Duration::from_secs(30);
/// Docker's registry has been called so, and keys of files still are.
const DOCKER: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// In the place of a name: what stands for a password is a token.
const TOKEN: &str = "<token>";
const HELP: &str = "run `docker login` or `podman login`, or set DOCKER_CONFIG or REGISTRY_AUTH_FILE";

/// What is sent to a registry, or to the token server that it names.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    User {
        name: String,
        password: String,
    },
    /// What a token is given for.
    Identity(String),
    Nobody,
}

/// A file of Docker's, as far as it is needed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    #[serde(deserialize_with = "or_default")]
    auths: BTreeMap<String, Entry>,
    #[serde(deserialize_with = "or_default")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(deserialize_with = "or_default")]
    auth: String,
    #[serde(deserialize_with = "or_default")]
    username: String,
    #[serde(deserialize_with = "or_default")]
    password: String,
    #[serde(deserialize_with = "or_default")]
    identitytoken: String,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    username: String,
    secret: String,
}

fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The first that is found, and whose it is.
pub(super) async fn find(host: &str, repository: &str, environment: &Environment) -> (Login, Identity) {
    let mut looked = Vec::new();
    for path in places(environment) {
        let shown = path.display();
        let text = match files::read(&path, MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                looked.push(shown.to_string());
                continue;
            }
            Err(error) => {
                looked.push(format!("{shown} ({error})"));
                continue;
            }
        };
        // The reader's own words might quote it.
        let Ok(config) = serde_json::from_slice::<Config>(&text) else {
            looked.push(format!("{shown} (which is not as Docker writes it)"));
            continue;
        };
        looked.push(shown.to_string());
        match config.login(host, repository, &path, environment).await {
            Ok(Some((login, words))) => return (login, Identity::Found(format!("asked with {words}"))),
            Ok(None) => {}
            Err(reason) => looked.push(reason),
        }
    }
    if looked.is_empty() {
        looked.push("REGISTRY_AUTH_FILE, DOCKER_CONFIG, HOME and XDG_RUNTIME_DIR, which are not set".to_owned());
    }
    (Login::Nobody, Identity::Absent(Absent { looked, missing: ("no credentials were found", ""), help: HELP }))
}

/// The files that are read. One that is named is the only one of its kind, as Docker and Podman have it.
fn places(environment: &Environment) -> Vec<PathBuf> {
    let of = |variable: &str, inside: &str| set(environment, variable).map(|folder| Path::new(folder).join(inside));
    if let Some(file) = set(environment, "REGISTRY_AUTH_FILE") {
        return vec![file.into()];
    }
    let docker = of("DOCKER_CONFIG", "config.json").or_else(|| of("HOME", ".docker/config.json"));
    let podman = of("XDG_RUNTIME_DIR", "containers/auth.json");
    let kept = of("XDG_CONFIG_HOME", "containers/auth.json").or_else(|| of("HOME", ".config/containers/auth.json"));
    docker.into_iter().chain(podman).chain(kept).collect()
}

/// What keys of a repository may be, the most exact first: `HOST/A/B`, `HOST/A`, `HOST`; of Docker's with each of its names.
fn names(host: &str, repository: &str) -> Vec<String> {
    let hosts = if DOCKER.contains(&host) { DOCKER.to_vec() } else { vec![host] };
    let mut ends: Vec<usize> = repository.match_indices('/').map(|(at, _)| at).collect();
    ends.push(repository.len());
    let below = ends.iter().rev().flat_map(|end| hosts.iter().map(|host| format!("{host}/{}", &repository[..*end])));
    below.chain(hosts.iter().map(|host| (*host).to_owned())).collect()
}

/// A key without what older versions of Docker write around it.
fn normal(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

/// The value of the most exact key.
fn matching<'a, T>(all: &'a BTreeMap<String, T>, names: &[String]) -> Option<(&'a str, &'a T)> {
    names
        .iter()
        .find_map(|name| all.iter().find(|(key, _)| normal(key) == name))
        .map(|(key, value)| (key.as_str(), value))
}

impl Config {
    /// What this file says of a repository, with words for where; none where it says nothing.
    async fn login(
        &self,
        host: &str,
        repository: &str,
        path: &Path,
        environment: &Environment,
    ) -> Result<Option<(Login, String)>, String> {
        let names = names(host, repository);
        let shown = path.display();
        if let Some((key, helper)) = matching(&self.cred_helpers, &names) {
            return helped(helper, normal(key), environment).await;
        }
        // Of a store of passwords Docker keeps empty entries.
        if let Some((key, entry)) = matching(&self.auths, &names).filter(|(_, entry)| !entry.is_empty()) {
            let place = format!("'{}' in {shown}", normal(key));
            let login = entry.login().ok_or_else(|| format!("{place}, whose auth is not USER:PASSWORD in base64"))?;
            return Ok(Some((login, format!("the credentials for {place}"))));
        }
        match self.creds_store.as_str() {
            "" => Ok(None),
            store => helped(store, host, environment).await,
        }
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        [&self.auth, &self.username, &self.identitytoken].into_iter().all(String::is_empty)
    }

    fn login(&self) -> Option<Login> {
        if !self.identitytoken.is_empty() {
            return Some(Login::Identity(self.identitytoken.clone()));
        }
        if !self.username.is_empty() {
            return Some(Login::User { name: self.username.clone(), password: self.password.clone() });
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        Some(Login::User { name: name.to_owned(), password: password.trim_end_matches('\0').to_owned() })
    }
}

/// What the program `docker-credential-HELPER` gives for `key`.
async fn helped(helper: &str, key: &str, environment: &Environment) -> Result<Option<(Login, String)>, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if !helper.chars().all(is_plain) {
        return Err("a credential helper whose name is that of no program".to_owned());
    }
    let program = format!("docker-credential-{helper}");
    let key = if DOCKER.contains(&key) { DOCKER_KEY } else { key };
    let printed = print(&program, key, environment).await;
    let read = |printed: Vec<u8>| {
        serde_json::from_slice::<Printed>(&printed).map_err(|_| Fault::refused("what it printed is no login"))
    };
    let Printed { username, secret } =
        printed.and_then(read).map_err(|fault| format!("{program} ({})", fault.reason))?;
    let login = match username.as_str() {
        TOKEN => Login::Identity(secret),
        _ => Login::User { name: username, password: secret },
    };
    Ok(Some((login, format!("the credentials that {program} gave for '{key}'"))))
}

async fn print(program: &str, key: &str, environment: &Environment) -> Result<Vec<u8>, Fault> {
    let mut command = Command::new(program);
    // What it says beside its answer may be secret, too.
    command.arg("get").env_clear().envs(environment).stdout(Stdio::piped()).stderr(Stdio::null());
    let asked = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(key.as_bytes())?;
        file.rewind()?;
        Ok::<_, std::io::Error>(file)
    };
    command.stdin(asked().map_err(|error| Fault::refused(error.to_string()))?);
    let printed = tokio::task::spawn_blocking(move || run(command, PATIENCE)).await;
    printed.unwrap_or_else(|error| Err(Fault::refused(error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{Environment, Identity, Login, find};
    use crate::store::fault::Fault;

    const AUTH: &str = "bWU6aHVudGVyMg==";

    fn user(name: &str, password: &str) -> Login {
        Login::User { name: name.to_owned(), password: password.to_owned() }
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    async fn found(text: &str, host: &str, repository: &str) -> (Login, String) {
        let root = tempfile::tempdir().expect("a temporary folder");
        write(&root.path().join("config.json"), text);
        let environment = Environment::from([("DOCKER_CONFIG".to_owned(), root.path().display().to_string())]);
        let (login, identity) = find(host, repository, &environment).await;
        let said = identity.explain(Fault::refused("the server answered 401")).reason;
        (login, said.replace(&root.path().display().to_string(), "/c"))
    }

    #[tokio::test]
    async fn the_most_exact_key_counts() {
        let text = format!(
            "{{\"auths\": {{\"h.io\": {{\"username\": \"a\", \"password\": \"1\"}},
                \"h.io/team\": {{\"auth\": \"{AUTH}\"}},
                \"h.io/team/net\": {{\"identitytoken\": \"token\", \"auth\": \"{AUTH}\"}},
                \"https://index.docker.io/v1/\": {{\"auth\": \"{AUTH}\"}},
                \"https://old.io/v2/\": {{\"auth\": \"{AUTH}\"}},
                \"broken.io\": {{\"auth\": \"hunter2\"}}, \"empty.io\": {{}}}}, \"credHelpers\": null}}"
        );
        let of = async |host, repository| found(&text, host, repository).await;
        let with =
            |key: &str| format!("the server answered 401; asked with the credentials for '{key}' in /c/config.json");
        assert_eq!(of("h.io", "team/net").await.1, with("h.io/team/net"));
        assert!(of("h.io", "team/net").await.0 == Login::Identity("token".to_owned()));
        assert_eq!(of("h.io", "team/other").await.1, with("h.io/team"));
        assert!(of("h.io", "team/other").await.0 == user("me", "hunter2"));
        assert!(of("h.io", "teams").await.0 == user("a", "1"));
        assert_eq!(of("docker.io", "library/x").await.1, with("index.docker.io"));
        assert!(of("old.io", "x").await.0 == user("me", "hunter2"));
        for host in ["h.io:5000", "other.io", "empty.io"] {
            assert!(of(host, "x").await.0 == Login::Nobody, "{host}");
        }
        let (login, said) = of("broken.io", "x").await;
        assert!(login == Login::Nobody);
        let looked = "/c/config.json, 'broken.io' in /c/config.json, whose auth is not USER:PASSWORD in base64";
        assert_eq!(
            said,
            format!("the server answered 401; no credentials were found (looked at {looked}): {}", super::HELP)
        );
    }

    #[tokio::test]
    async fn files_are_looked_for_where_docker_and_podman_have_them() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let at = |path: &str| root.path().join(path).display().to_string();
        let mut environment = Environment::new();
        // From the last place to the first.
        for (variable, folder, file) in [
            ("HOME", "home", "home/.config/containers/auth.json"),
            ("XDG_CONFIG_HOME", "config", "config/containers/auth.json"),
            ("XDG_RUNTIME_DIR", "run", "run/containers/auth.json"),
            ("HOME", "home", "home/.docker/config.json"),
            ("DOCKER_CONFIG", "docker", "docker/config.json"),
            ("REGISTRY_AUTH_FILE", "own.json", "own.json"),
        ] {
            environment.insert(variable.to_owned(), at(folder));
            write(&root.path().join(file), &format!("{{\"auths\": {{\"h.io\": {{\"auth\": \"{AUTH}\"}}}}}}"));
            let identity = find("h.io", "x", &environment).await.1;
            assert_eq!(identity, Identity::Found(format!("asked with the credentials for 'h.io' in {}", at(file))));
        }
        environment.insert("REGISTRY_AUTH_FILE".to_owned(), at("absent"));
        let said = find("h.io", "x", &environment).await.1.explain(Fault::refused("the server answered 403")).reason;
        assert!(said.contains(&format!("(looked at {})", at("absent"))), "{said}");
    }

    #[tokio::test]
    async fn programs_are_asked_without_a_shell() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let helper = |name: &str, script: &str| {
            let path = root.path().join(format!("bin/docker-credential-{name}"));
            write(&path, &format!("#!/bin/sh\n{script}\n"));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        };
        helper("good", "read key; echo \"{\\\"Username\\\": \\\"$1-$key\\\", \\\"Secret\\\": \\\"hunter2\\\"}\"");
        helper("token", "echo '{\"ServerURL\": \"x\", \"Username\": \"<token>\", \"Secret\": \"hunter2\"}'");
        helper("lost", "echo 'credentials not found in native keychain'; exit 1");
        helper("odd", "echo hunter2");
        let text = "{\"credHelpers\": {\"h.io\": \"good\", \"t.io\": \"token\", \"l.io\": \"lost\", \"o.io\": \"odd\",
                    \"n.io\": \"absent\", \"p.io\": \"../x\"}, \"credsStore\": \"good\", \"auths\": {\"h.io\": {}}}";
        write(&root.path().join("config.json"), text);
        let path = format!("{}:/usr/bin:/bin", root.path().join("bin").display());
        let environment = Environment::from([
            ("DOCKER_CONFIG".to_owned(), root.path().display().to_string()),
            ("PATH".to_owned(), path),
        ]);
        let of = async |host| {
            let (login, identity) = find(host, "a/b", &environment).await;
            (login, identity.explain(Fault::refused("the server answered 401")).reason)
        };
        let (login, said) = of("h.io").await;
        assert!(login == user("get-h.io", "hunter2"));
        assert!(said.ends_with("; asked with the credentials that docker-credential-good gave for 'h.io'"), "{said}");
        assert!(of("t.io").await.0 == Login::Identity("hunter2".to_owned()));
        assert!(of("docker.io").await.0 == user("get-https://index.docker.io/v1/", "hunter2"));
        for (host, expected) in [
            ("l.io", "docker-credential-lost (it failed with exit status: 1)"),
            ("o.io", "docker-credential-odd (what it printed is no login)"),
            ("n.io", "docker-credential-absent (No such file or directory (os error 2))"),
            ("p.io", "a credential helper whose name is that of no program"),
        ] {
            let (login, said) = of(host).await;
            assert!(login == Login::Nobody && said.contains(expected) && !said.contains("hunter2"), "{said}");
        }
    }
}
