//! What a model costs on tract: time to load, time per row, memory held.
//!
//! With the system's allocator; another one holds more or less.
//!
//! `cargo run --release -p corymb-backend-tract --example load -- model.onnx [runs]`

use std::error::Error;
use std::time::Instant;

use corymb_backend_tract::Tract;
use corymb_core::{Backend as _, Buffer, FileSource, LoadOptions, ModelFiles, RunOptions, Signature, Tensor, Tensors};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name an ONNX file")?;
    let runs: u32 = arguments.next().map_or(Ok(100), |runs| runs.parse())?;
    let files = ModelFiles { model: FileSource::Path(path.into()) };
    println!("at start          {}", memory());

    let (info, took) = timed(|| Tract::default().inspect(&files, &LoadOptions::default()));
    let info = info?;
    println!("inspect  {took:6.1} ms  {}", memory());
    for report in &info.unsupported {
        println!("unsupported: {report}");
    }
    let (model, took) = timed(|| Tract::default().load(&files, &LoadOptions::default()));
    let model = model?;
    println!("load     {took:6.1} ms  {}", memory());
    let (mut instance, took) = timed(|| model.instance(1));
    println!("instance {took:6.1} ms  {}", memory());

    for rows in [1, 1, 2] {
        let batch = [zeros(model.signature(), rows)?];
        let instance = instance.as_mut().map_err(|error| error.to_string())?;
        let (first, took) = timed(|| instance.run(&batch, &RunOptions::default()));
        first?;
        println!("{rows} row(s), first run {took:6.1} ms  {}", memory());
        let (all, took) = timed(|| (0..runs).try_for_each(|_| instance.run(&batch, &RunOptions::default()).map(drop)));
        all?;
        let each = took / f64::from(runs) / rows as f64;
        println!("{rows} row(s), {runs} runs {each:6.2} ms per row  {}", memory());
    }
    let (again, took) = timed(|| Tract::default().load(&files, &LoadOptions::default()));
    drop(again?);
    println!("load again {took:6.1} ms  {}", memory());
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed().as_secs_f64() * 1e3)
}

/// A request of zeros; open dimensions are `rows` on axis 0, 16 elsewhere.
fn zeros(signature: &Signature, rows: usize) -> Result<Tensors, Box<dyn Error>> {
    let tensors = signature.required_inputs().map(|spec| {
        let dims = spec.shape.iter().enumerate();
        let shape: Vec<usize> =
            dims.map(|(axis, dim)| dim.fixed().unwrap_or(if axis == 0 { rows } else { 16 })).collect();
        let size = spec.dtype.size().ok_or("tract takes no text")?;
        let buffer = Buffer::zeroed(shape.iter().product::<usize>() * size);
        Ok((spec.name.clone(), Tensor::from_buffer(spec.dtype, shape, buffer)?))
    });
    tensors.collect()
}

/// Resident memory now and at its peak, where the system tells.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    match (kib("VmRSS:"), kib("VmHWM:")) {
        (Some(now), Some(peak)) => format!("{:.1} MiB resident, {:.1} at peak", now / 1024.0, peak / 1024.0),
        _ => "memory unknown".to_owned(),
    }
}
