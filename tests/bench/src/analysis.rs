//! `analysis`: what the proof that rows are independent costs, beside loading the model.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use corymb_core::{Backend, FileSource, LoadOptions, ModelFiles};
use corymb_onnx::{OnnxFile, analyse_rows, declared};
use serde::Serialize;

use crate::backends;
use crate::report::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// ONNX files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The engine that loads them
    #[arg(long, default_value = "onnxruntime")]
    backend: String,
    /// How often each is loaded and analysed; the medians count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repetitions: u16,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found, a row for each model.
#[derive(Debug, Serialize)]
pub(crate) struct Analysis {
    backend: String,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    model: PathBuf,
    nodes: usize,
    analysis_ms: f64,
    /// The whole of loading: the file read, analysed, and a session made.
    load_ms: f64,
    proved: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Analysis> {
    let backend = backends::named(&arguments.backend)?;
    let measured = |file: &PathBuf| {
        measure(backend.as_ref(), file, arguments.repetitions).with_context(|| file.display().to_string())
    };
    let rows = arguments.files.iter().map(measured).collect::<anyhow::Result<_>>()?;
    Ok(Analysis { backend: arguments.backend.clone(), rows })
}

fn measure(backend: &dyn Backend, path: &Path, repetitions: u16) -> anyhow::Result<Row> {
    let files = ModelFiles { model: FileSource::Path(path.to_owned()) };
    let file = OnnxFile::read(&files)?;
    let signature = declared(&file.model).signature;
    let analysed = analyse_rows(&file.model, &signature);
    Ok(Row {
        model: path.to_owned(),
        nodes: file.graph().node.len(),
        analysis_ms: median(repetitions, || {
            black_box(analyse_rows(black_box(&file.model), &signature));
            Ok(())
        })?,
        load_ms: median(repetitions, || {
            let model = backend.load(&files, &LoadOptions::default())?;
            black_box(model.instance(1)?);
            Ok(())
        })?,
        proved: analysed.is_proved(),
    })
}

/// Milliseconds that it usually takes.
fn median(repetitions: u16, mut task: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let timed = (0..repetitions).map(|_| {
        let start = Instant::now();
        task().map(|()| start.elapsed())
    });
    let mut times = timed.collect::<anyhow::Result<Vec<Duration>>>()?;
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1000.0)
}

impl Analysis {
    pub(crate) fn print(&self) {
        println!("The proof that rows are independent beside loading on {}, in milliseconds.", self.backend);
        let mut table = Table::new(&["model", "nodes", "analysis", "load", "share %", "proved"]);
        for Row { model, nodes, analysis_ms, load_ms, proved } in &self.rows {
            table.row([
                model.display().to_string(),
                nodes.to_string(),
                format!("{analysis_ms:.3}"),
                format!("{load_ms:.1}"),
                format!("{:.2}", 100.0 * analysis_ms / load_ms),
                if *proved { "yes" } else { "no" }.to_owned(),
            ]);
        }
        table.print();
    }
}
