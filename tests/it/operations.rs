//! Each way in which a start is refused: what an operator reads, exactly, and the page of the documents that says what to do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde::Deserialize;

use crate::harness::{corymb, root, run_command};

const TABLE: &str = "tests/fixtures/refusals.toml";
const PAGE: &str = "docs/operations.md";
/// Set to make the page anew.
const WRITE: &str = "CORYMB_WRITE_OPERATIONS";
/// The temporary folder of a case.
const FOLDER: &str = "DIR";
/// What stands for it on the page.
const SHOWN: &str = "/srv";
/// So many are tried at a time.
const AT_ONCE: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    refusal: Vec<Refusal>,
}

/// One way; in paths and texts `DIR` stands for a folder of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    /// The section of the page.
    group: String,
    title: String,
    /// Files of this repository that are copied, by where to.
    #[serde(default)]
    fixtures: BTreeMap<String, String>,
    /// Files by what is in them.
    #[serde(default)]
    texts: BTreeMap<String, String>,
    #[serde(default)]
    folders: Vec<String>,
    #[serde(default)]
    fifos: Vec<String>,
    /// Files of so many bytes, all zero.
    #[serde(default)]
    sparse: BTreeMap<String, u64>,
    /// Symbolic links and what they lead to.
    #[serde(default)]
    links: BTreeMap<String, String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
    exit: i32,
    /// On standard error.
    line: String,
    means: String,
    #[serde(rename = "do")]
    remedy: String,
}

impl Refusal {
    fn set_up(&self, folder: &Path) {
        let at = |path: &String| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("made");
            path
        };
        let filled = |text: &String| text.replace(FOLDER, &folder.to_string_lossy());
        self.folders.iter().for_each(|path| fs::create_dir_all(folder.join(path)).expect("made"));
        for (path, fixture) in &self.fixtures {
            fs::copy(root().join(fixture), at(path)).expect("copied");
        }
        for (path, text) in &self.texts {
            fs::write(at(path), filled(text)).expect("written");
        }
        for (path, length) in &self.sparse {
            fs::File::create(at(path)).and_then(|file| file.set_len(*length)).expect("made");
        }
        for (path, target) in &self.links {
            std::os::unix::fs::symlink(filled(target), at(path)).expect("linked");
        }
        for path in &self.fifos {
            assert!(Command::new("mkfifo").arg(at(path)).status().expect("mkfifo runs").success());
        }
    }

    /// What came, where it is not what was expected.
    fn check(&self) -> Result<(), String> {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().canonicalize().expect("made").to_string_lossy().into_owned();
        self.set_up(Path::new(&path));
        let output = self.run("serve", &path);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        let line = self.line.replace(FOLDER, &path);
        if output.status.code() != Some(self.exit) || lines != [line.as_str()] || text.contains("panicked") {
            return Err(format!("{}: {}, expected {line}\n{text}", self.title, output.status).replace(&path, FOLDER));
        }
        // Whoever asks before is told the same.
        let doctor = self.run("doctor", &path);
        let text = String::from_utf8_lossy(&doctor.stdout);
        let agrees = doctor.status.code() == Some(self.exit);
        if agrees { Ok(()) } else { Err(format!("{}: doctor: {}\n{text}", self.title, doctor.status)) }
    }

    fn run(&self, subcommand: &str, path: &str) -> Output {
        let mut command = corymb(&[subcommand]);
        // What a case is about is not given twice.
        let given = |flag: &str| self.arguments.iter().any(|argument| argument.split('=').next() == Some(flag));
        if !given("--host") {
            command.args(["--host", "127.0.0.1"]);
        }
        if !given("--port") && !["PORT", "CORYMB_PORT"].iter().any(|name| self.environment.contains_key(*name)) {
            command.args(["--port", "0"]);
        }
        command.args(self.arguments.iter().map(|argument| argument.replace(FOLDER, path)));
        command.envs(self.environment.iter().map(|(name, value)| (name, value.replace(FOLDER, path))));
        run_command(command)
    }
}

fn table() -> Vec<Refusal> {
    let text = fs::read_to_string(root().join(TABLE)).expect("the table");
    toml::from_str::<Table>(&text).expect("the table").refusal
}

#[test]
fn each_refusal_of_the_start_is_as_it_is_documented() {
    let all = table();
    let each = all.len().div_ceil(AT_ONCE);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let parts = all.chunks(each).map(|part| {
            scope.spawn(move || part.iter().filter_map(|refusal| refusal.check().err()).collect::<Vec<_>>())
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().expect("no panic")).collect()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

/// The page as Markdown.
fn page(refusals: &[Refusal]) -> String {
    let mut groups: Vec<&str> = Vec::new();
    for refusal in refusals {
        if groups.last() != Some(&refusal.group.as_str()) {
            assert!(!groups.contains(&refusal.group.as_str()), "{} is not together", refusal.group);
            groups.push(&refusal.group);
        }
    }
    let mut page = format!(
        "# When a start is refused\n\n`corymb serve` ends with one line on standard error, `error: …`, and exit code 1 where a model, a \
         file or the system is at fault, 2 where\nthe command line is. `corymb doctor` with the same flags finds the same without \
         serving. Each line below is one that the tests have\nseen, with `{SHOWN}` for the folder that the files were in; this page is \
         made from {TABLE}.\n"
    );
    for group in groups {
        page += &format!("\n## {group}\n");
        for refusal in refusals.iter().filter(|refusal| refusal.group == group) {
            let line = refusal.line.replace(FOLDER, SHOWN);
            page +=
                &format!("\n**{}**\n\n```text\n{line}\n```\n\n{} {}\n", refusal.title, refusal.means, refusal.remedy);
        }
    }
    page
}

#[test]
fn the_page_of_operations_is_made_from_the_table() {
    let (page, path) = (page(&table()), root().join(PAGE));
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &page).expect("written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "{PAGE} is not what {TABLE} says; `just operations` makes it anew");
}
