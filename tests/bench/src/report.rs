//! What is printed: the machine, tables of aligned columns, and the tables of `flowers`.

use anyhow::Context as _;
use serde::Serialize;

use crate::flowers::{BareLoop, Flowers, Row, Served};
use crate::sample::Sample;

/// Stages in the order in which a request meets them.
const STAGES: [&str; 6] = ["decode", "preprocess", "queue", "infer", "postprocess", "encode"];

/// Where it was measured, and what else ran there.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    load_average_before: f64,
    load_average_after: f64,
}

impl Machine {
    pub(crate) fn before() -> anyhow::Result<Self> {
        let about = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let model = about.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
        Ok(Self {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            load_average_before: load_average()?,
            load_average_after: 0.0,
        })
    }

    pub(crate) fn after(&mut self) -> anyhow::Result<()> {
        self.load_average_after = load_average()?;
        Ok(())
    }

    pub(crate) fn print(&self) {
        let Self { processor, cores, load_average_before, load_average_after } = self;
        println!("{processor}, {cores} cores; load average {load_average_before} before, {load_average_after} after");
    }
}

/// Of the last minute.
fn load_average() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    text.split(' ').next().and_then(|first| first.parse().ok()).context("/proc/loadavg is not as expected")
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

/// Columns: words to the left, numbers to the right.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|&word| word.to_owned()).collect()])
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    pub(crate) fn print(&self) {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let column = |index: usize| self.0.iter().skip(1).filter_map(move |row| row.get(index));
        let layout: Vec<(usize, bool)> = (0..columns)
            .map(|index| {
                let cells = self.0.iter().filter_map(|row| row.get(index));
                let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                (
                    width,
                    column(index).all(|cell| cell.starts_with(|first: char| first == '-' || first.is_ascii_digit())),
                )
            })
            .collect();
        for row in &self.0 {
            let cells =
                row.iter().zip(&layout).map(
                    |(cell, &(width, number))| {
                        if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                    },
                );
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

impl Flowers {
    pub(crate) fn print(&self, sample: &Sample) {
        let Self { turns, seconds, pictures_per_request, .. } = self;
        let bytes: usize = sample.pictures.iter().map(|picture| picture.len()).sum();
        println!(
            "V1 JSON of {} bytes, {pictures_per_request} picture(s) of {bytes} bytes; {seconds} s a row, in {turns} turns \
             with the bare loop. Milliseconds are per request.",
            sample.body
        );
        self.print_served();
        self.print_bare();
        self.print_ratios();
        self.print_stages();
    }

    fn print_served(&self) {
        println!("\nServed (closed loop; the load shares the cores, its CPU is the client's)");
        let head = [
            "in flight",
            "requests/s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "max ms",
            "server CPU ms",
            "client CPU ms",
            "failed",
        ];
        let mut table = Table::new(&head);
        for Row { concurrency, served, .. } in &self.rows {
            let Served { rate, latency, server_cpu_ms, client_cpu_ms, failed, .. } = served;
            let latencies =
                [latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms].map(|ms| format!("{ms:.1}"));
            let cpu = [server_cpu_ms, client_cpu_ms].map(|ms| format!("{ms:.2}"));
            let cells = [concurrency.to_string(), format!("{rate:.1}")].into_iter().chain(latencies).chain(cpu);
            table.row(cells.chain([failed.to_string()]));
        }
        table.print();
        for Row { concurrency, served, .. } in &self.rows {
            if let Some(failure) = &served.failure {
                println!("  failed at {concurrency} in flight, for one: {failure}");
            }
        }
    }

    fn print_bare(&self) {
        println!(
            "\nBare loop in one process (decode + resize + tract, batch 1), measured between the turns of that row"
        );
        let mut table =
            Table::new(&["in flight", "threads", "rounds/s", "CPU ms", "picture ms", "model ms", "CPU/core"]);
        for row in &self.rows {
            for bare in [&row.bare_one_thread, &row.bare_all_cores] {
                let BareLoop { threads, rate, cpu_ms, picture_ms, model_ms, busy, .. } = bare;
                let times = [cpu_ms, picture_ms, model_ms, busy].map(|ms| format!("{ms:.2}"));
                let cells = [row.concurrency.to_string(), threads.to_string(), format!("{rate:.1}")];
                table.row(cells.into_iter().chain(times));
            }
        }
        table.print();

        for row in self.rows.iter().filter(|row| row.disturbed()) {
            let concurrency = row.concurrency;
            println!("  other processes took cores at {concurrency} in flight: compare CPU there, not rates or times");
        }
    }

    fn print_ratios(&self) {
        println!("\nServed / bare. Fair is the bare loop with as many threads as the load can keep busy");
        let against_all = format!("rate / {} threads", self.cores);
        let head = ["in flight", "rate / 1 thread", &against_all, "fair", "fair rate", "bare CPU / server CPU"];
        let mut table = Table::new(&head);
        for row in &self.rows {
            let fair = row.fair();
            let ratios = [row.ratio_to_one_thread, row.ratio_to_all_cores].map(|ratio| format!("{ratio:.3}"));
            let words = if fair.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", fair.threads) };
            let last = [words, format!("{:.3}", row.served.rate / fair.rate), format!("{:.3}", row.ratio_of_cpu)];
            table.row([row.concurrency.to_string()].into_iter().chain(ratios).chain(last));
        }
        table.print();
    }

    fn print_stages(&self) {
        println!(
            "\nStages, by the server's own clock (wall time: longer than CPU time where threads outnumber cores). \
             Plugin is\npreprocess + postprocess; added is plugin less the bare loop's picture time; rest is the \
             server's CPU outside of all\nstages but the queue: HTTP, counting, logs."
        );
        let head = ["in flight"].into_iter().chain(STAGES).chain(["plugin", "added", "rest"]);
        let mut table = Table::new(&head.collect::<Vec<_>>());
        for row in &self.rows {
            let stages = STAGES.map(|stage| row.stage(stage));
            let plugin = row.stage("preprocess") + row.stage("postprocess");
            let busy = stages.iter().sum::<f64>() - row.stage("queue");
            let last = [plugin, plugin - row.fair().picture_ms, row.served.server_cpu_ms - busy];
            let times = stages.into_iter().chain(last).map(|ms| format!("{ms:.3}"));
            table.row([row.concurrency.to_string()].into_iter().chain(times));
        }
        table.print();
    }
}
