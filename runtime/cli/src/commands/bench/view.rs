//! What is shown while a run goes on, and the table at its end.

use std::io::{IsTerminal as _, Write as _};

use corymb_loadtest::{Mode, Progress, Report};

use super::cpu::CpuFigures;

/// Cells of the bar.
const BAR: usize = 20;

/// One line on a terminal, drawn again and again; elsewhere a line for every other telling, which is each second.
pub(super) struct View {
    kind: Kind,
    told: u64,
}

#[derive(PartialEq)]
enum Kind {
    None,
    Lines,
    Terminal,
}

impl View {
    pub(super) fn new(shown: bool) -> Self {
        let kind = match shown {
            false => Kind::None,
            true if std::io::stderr().is_terminal() => Kind::Terminal,
            true => Kind::Lines,
        };
        Self { kind, told: 0 }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        self.told += 1;
        // A closed pipe is not worth ending the run.
        let _ = match self.kind {
            Kind::None => Ok(()),
            Kind::Lines if self.told % 2 == 1 => Ok(()),
            Kind::Lines => writeln!(std::io::stderr(), "{}", line(progress)),
            Kind::Terminal => write!(std::io::stderr(), "\r\x1b[2K{} {}", bar(progress), line(progress)),
        };
    }

    pub(super) fn end(&mut self) {
        if self.kind == Kind::Terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn bar(progress: &Progress) -> String {
    let share = progress.elapsed.as_secs_f64() / progress.total.as_secs_f64().max(1e-9);
    let full = ((share * BAR as f64) as usize).min(BAR);
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

fn line(progress: &Progress) -> String {
    let time = |time: Option<std::time::Duration>| {
        time.map_or_else(|| "-".to_owned(), |time| milliseconds(time.as_secs_f64() * 1e3))
    };
    let state = if progress.warming_up {
        "warming up".to_owned()
    } else {
        format!("answered {}, failed {}", progress.answered, progress.failed)
    };
    format!(
        "{:.1}/{:.0} s  {:.1}/s  in flight {}  p50 {}  p99 {}  {state}",
        progress.elapsed.as_secs_f64(),
        progress.total.as_secs_f64(),
        progress.rps,
        progress.in_flight,
        time(progress.p50),
        time(progress.p99),
    )
}

/// Three digits that mean something, with a unit.
pub(crate) fn milliseconds(milliseconds: f64) -> String {
    match milliseconds {
        value if value >= 10_000.0 => format!("{:.1} s", value / 1e3),
        value if value >= 100.0 => format!("{value:.0} ms"),
        value if value >= 10.0 => format!("{value:.1} ms"),
        value => format!("{value:.2} ms"),
    }
}

pub(super) fn table(mode: Mode, report: &Report, cpu: &CpuFigures) -> String {
    let how = match mode {
        Mode::Closed { concurrency } => format!("closed loop of {concurrency} callers"),
        Mode::Open { rate, .. } => format!("open loop of {rate} requests a second"),
    };
    let mut text = format!("{how}, {:.1} s\n\n", report.seconds);
    let mut row = |name: &str, value: &str| text.push_str(&format!("  {name:<12}{value}\n"));
    row("answered", &format!("{}, {:.1} a second", report.answered, report.rps));
    if let Some(offered) = report.offered_rps {
        row("offered", &format!("{offered:.1} a second"));
    }
    row("failed", &report.failures().to_string());
    for (why, count) in &report.failed {
        row("", &format!("{count} {why}"));
    }
    row("in flight", &format!("{:.2} on average", report.concurrency));
    let latency = &report.latency;
    let of = |names: &[(&str, f64)]| {
        names.iter().map(|(name, value)| format!("{name} {}", milliseconds(*value))).collect::<Vec<_>>().join("   ")
    };
    row("latency", &of(&[("mean", latency.mean_ms), ("least", latency.min_ms), ("most", latency.max_ms)]));
    row("", &of(&[("p50", latency.p50_ms), ("p75", latency.p75_ms), ("p90", latency.p90_ms)]));
    row("", &of(&[("p95", latency.p95_ms), ("p99", latency.p99_ms), ("p99.9", latency.p999_ms)]));
    if let Some(late) = &report.lateness {
        let late = of(&[("p99", late.p99_ms), ("most", late.max_ms)]);
        row("generator", &format!("late by {late}, which latency contains"));
    }
    if let (Some(each), Some(cores)) = (cpu.server_ms_per_request, cpu.server_cores) {
        row("server", &format!("{} of processor time an answer, {cores:.2} cores", milliseconds(each)));
    }
    if let Some(cores) = cpu.generator_cores {
        row("generator", &format!("{cores:.2} cores"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_digits_that_mean_something() {
        let texts = [0.1234, 9.999, 12.34, 123.4, 12_345.0].map(milliseconds);
        assert_eq!(texts, ["0.12 ms", "10.00 ms", "12.3 ms", "123 ms", "12.3 s"]);
    }
}
