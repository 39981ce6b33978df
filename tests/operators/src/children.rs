//! Runs all cases in child processes, two at a time, each within a limit.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::child::{Outcome, Report};

/// How long a case may take: more than a hundred times what the slowest does.
const LIMIT: Duration = Duration::from_secs(20);
/// Processes at once.
const CHILDREN: usize = 2;

/// What is known of a case after it was run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Result {
    pub(crate) lines: Vec<String>,
    pub(crate) rewritten: bool,
    pub(crate) outcome: Option<Outcome>,
}

/// Runs `count` cases of the file.
pub(crate) fn run(cases: &Path, count: usize) -> std::io::Result<Vec<Result>> {
    let left: Mutex<VecDeque<usize>> = Mutex::new((0..count).collect());
    let results = Mutex::new(vec![Result::default(); count]);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CHILDREN).map(|_| scope.spawn(|| work(cases, &left, &results))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn work(cases: &Path, left: &Mutex<VecDeque<usize>>, results: &Mutex<Vec<Result>>) -> std::io::Result<()> {
    let mut process: Option<Process> = None;
    let next = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
    while let Some(case) = next() {
        let mut running = match process.take() {
            Some(running) => running,
            None => Process::start(cases)?,
        };
        let (result, survives) = running.case(case);
        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[case] = result;
        process = survives.then_some(running);
    }
    Ok(())
}

struct Process {
    child: Child,
    reports: Receiver<Report>,
}

impl Process {
    fn start(cases: &Path) -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--child")
            .arg(cases)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (sender, reports) = channel();
        let stdout = child.stdout.take();
        // Ends with the child, whose end of the pipe closes then.
        std::thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
            for report in lines.map_while(std::io::Result::ok).filter_map(|line| serde_json::from_str(&line).ok()) {
                if sender.send(report).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, reports })
    }

    /// What becomes of the case, and whether the process is still there.
    fn case(&mut self, case: usize) -> (Result, bool) {
        let mut result = Result::default();
        let asked = self.child.stdin.as_mut().map(|stdin| writeln!(stdin, "{case}").and_then(|()| stdin.flush()));
        let fail = |result: &mut Result, why: &str| result.outcome = Some(Outcome::Failed(why.to_owned()));
        if !matches!(asked, Some(Ok(()))) {
            fail(&mut result, "the process does not listen");
            return (result, false);
        }
        let wait = || self.reports.recv_timeout(LIMIT);
        let mut report = wait();
        if let Ok(Report::Form { lines, rewritten, .. }) = report {
            (result.lines, result.rewritten) = (lines, rewritten);
            report = wait();
        }
        match report {
            Ok(Report::Outcome { outcome, .. }) => {
                result.outcome = Some(outcome);
                return (result, true);
            }
            Ok(Report::Form { .. }) => fail(&mut result, "the process reports two forms"),
            Err(RecvTimeoutError::Timeout) => fail(&mut result, "it hangs"),
            Err(RecvTimeoutError::Disconnected) => fail(&mut result, "it ends the process"),
        }
        (result, false)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that hangs takes no hint.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
