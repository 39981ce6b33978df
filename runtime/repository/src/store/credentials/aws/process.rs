//! `credential_process`: a program of the user's that prints credentials.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use object_store::aws::AwsCredential;
use serde_json::Value;

use crate::store::client::Environment;
use crate::store::credentials::aws::credential;
use crate::store::credentials::exchange::{given, text, time, within};
use crate::store::credentials::renewed::{Fetch, Temporary};
use crate::store::fault::Fault;

/// A program may ask others over the network.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that it may print.
const MAX: u64 = 1 << 20;

/// A program that prints credentials, run without a shell.
pub(super) struct Process {
    program: String,
    arguments: Vec<String>,
    environment: Environment,
    /// Of the program.
    patience: Duration,
    /// The profile that names it, for messages, which do not show arguments: they may be secret.
    of: String,
}

impl Process {
    pub(super) fn new(command: &str, environment: &Environment, of: &str) -> Result<Self, Fault> {
        let mut words = shlex::split(command).unwrap_or_default().into_iter();
        let Some(program) = words.next() else {
            return Err(Fault::refused(format!("the credential_process of {of} is no command: a quote is not closed")));
        };
        let (environment, of) = (environment.clone(), of.to_owned());
        Ok(Self { program, arguments: words.collect(), environment, patience: PATIENCE, of })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(&self.environment);
        // What it says beside its answer may be secret, too.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}

/// What a program prints; it is stopped when its time is over.
pub(crate) fn run(mut command: Command, patience: Duration) -> Result<Vec<u8>, Fault> {
    let failed = |error: std::io::Error| Fault::refused(error.to_string());
    let until = Instant::now() + patience;
    let mut child = command.spawn().map_err(failed)?;
    // On a thread of its own, since whatever the program started may keep the pipe open when it has ended.
    let (sender, printed) = sync_channel(1);
    if let Some(output) = child.stdout.take() {
        let read = move || {
            let mut printed = Vec::new();
            let _ = sender.send(output.take(MAX + 1).read_to_end(&mut printed).map(|_| printed));
        };
        std::thread::Builder::new().name("credentials".to_owned()).spawn(read).map_err(failed)?;
    }
    let left = || until.saturating_duration_since(Instant::now());
    let printed = printed.recv_timeout(left());
    let ended = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break Some(status),
            None if left().is_zero() || printed.is_err() => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let (Ok(printed), Some(status)) = (printed, ended) else {
        let _ = child.kill().and_then(|()| child.wait());
        return Err(Fault::refused(format!("it was stopped after {} s", patience.as_secs_f32())));
    };
    let printed = printed.map_err(failed)?;
    if printed.len() as u64 > MAX {
        return Err(Fault::refused(format!("it printed more than {MAX} bytes")));
    }
    if status.success() { Ok(printed) } else { Err(Fault::refused(format!("it failed with {status}"))) }
}

#[async_trait::async_trait]
impl Fetch for Process {
    type Credential = AwsCredential;

    async fn fetch(&self) -> Result<Temporary<AwsCredential>, Fault> {
        let (command, patience) = (self.command(), self.patience);
        let printed = tokio::task::spawn_blocking(move || run(command, patience)).await;
        let printed = printed.unwrap_or_else(|error| Err(Fault::refused(error.to_string())));
        let read = printed.and_then(|printed| read(&printed));
        read.map_err(within(format!("the credential_process '{}' of {}", self.program, self.of)))
    }
}

fn read(printed: &[u8]) -> Result<Temporary<AwsCredential>, Fault> {
    let json: Value = serde_json::from_slice(printed).map_err(|_| Fault::refused("what it printed is not JSON"))?;
    if json["Version"].as_u64() != Some(1) {
        return Err(Fault::refused("what it printed is not of the Version 1"));
    }
    let (id, secret) = (text(&json, "AccessKeyId")?, text(&json, "SecretAccessKey")?);
    let credential = credential("what it printed", id, secret, given(&json, "SessionToken"))?;
    Ok(Temporary { credential, expires: given(&json, "Expiration").map(time).transpose()? })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Environment, Fetch as _, Process};

    async fn fetched(command: &str) -> Result<(String, Option<String>, bool), String> {
        let environment = Environment::from([("GREETING".to_owned(), "hunter2".to_owned())]);
        let mut process = Process::new(command, &environment, "the profile 'p' in /c").map_err(|fault| fault.reason)?;
        process.patience = Duration::from_millis(500);
        let fetched = process.fetch().await.map_err(|fault| fault.reason)?;
        let (credential, expires) = (fetched.credential, fetched.expires);
        Ok((credential.secret_key, credential.token, expires.is_some_and(|end| end > SystemTime::now())))
    }

    #[tokio::test]
    async fn a_program_prints_credentials() {
        let json = r#"{\"Version\": 1, \"AccessKeyId\": \"id\", \"SecretAccessKey\": \"$GREETING\""#;
        let lasting = fetched(&format!("/bin/sh -c 'echo \"{json}}}\"'")).await;
        assert_eq!(lasting, Ok(("hunter2".to_owned(), None, false)));
        let temporary = r#", \"SessionToken\": \"t\", \"Expiration\": \"2999-01-01T00:00:00Z\"}"#;
        let temporary = fetched(&format!("/bin/sh -c 'echo \"{json}{temporary}\"'")).await;
        assert_eq!(temporary, Ok(("hunter2".to_owned(), Some("t".to_owned()), true)));
    }

    #[tokio::test]
    async fn what_goes_wrong_names_the_program_alone() {
        let shell = "the credential_process '/bin/sh' of the profile 'p' in /c: ";
        for (command, expected) in [
            ("/bin/sh -c 'echo hunter2; exit 3'", format!("{shell}it failed with exit status: 3")),
            ("/bin/sh -c 'echo hunter2'", format!("{shell}what it printed is not JSON")),
            ("/bin/sh -c 'echo {}'", format!("{shell}what it printed is not of the Version 1")),
            ("/bin/sh -c 'echo \"{\\\"Version\\\": 1}\"'", format!("{shell}it has no 'AccessKeyId'")),
            ("/bin/sh -c 'exec sleep 9'", format!("{shell}it was stopped after 0.5 s")),
            ("/bin/sh -c 'cat /dev/zero'", format!("{shell}it printed more than 1048576 bytes")),
        ] {
            assert_eq!(fetched(command).await, Err(expected));
        }
        let absent = fetched("/nowhere/tool --secret hunter2").await.expect_err("not there");
        assert!(absent.starts_with("the credential_process '/nowhere/tool' of the profile 'p' in /c: No such file"));
        let open = fetched("tool 'hunter2").await.expect_err("a quote");
        assert_eq!(open, "the credential_process of the profile 'p' in /c is no command: a quote is not closed");
    }

    #[tokio::test]
    async fn no_shell_reads_the_command() {
        // A shell would run the second command.
        let reason = fetched("/bin/echo a; exit 0").await.expect_err("not JSON");
        assert!(reason.ends_with("what it printed is not JSON"), "{reason}");
    }
}
