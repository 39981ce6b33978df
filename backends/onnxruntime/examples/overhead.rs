//! What a run costs: `cost bare LIBRARY MODEL` by the bindings alone, `cost instance LIBRARY MODEL` through the backend,
//! `cost threads LIBRARY MODEL N` by N instances at once. The model's first input is filled with one row of zeros.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use corymb_backend_onnxruntime::{OnnxRuntime, Search};
use corymb_core::{Backend as _, Buffer, FileSource, LoadOptions, ModelFiles, RUN_BYTES, RunOptions, Tensor, Tensors};

const TIME: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mode, library, model, rest @ ..] = arguments.as_slice() else {
        return Err("expected bare|instance|threads LIBRARY MODEL [N]".into());
    };
    match mode.as_str() {
        "bare" => bare(library, model),
        "instance" => through(library, model, 1),
        "threads" => through(library, model, rest.first().map_or(Ok(2), |text| text.parse())?),
        other => Err(format!("'{other}' is none of bare, instance, threads").into()),
    }
}

fn bare(library: &str, model: &str) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let environment = ort::init_from(library)?.build()?;
    let opened = start.elapsed();
    let start = Instant::now();
    let mut session = ort::session::Session::builder(&environment)?
        .with_intra_threads(1)?
        .with_intra_op_spinning(false)?
        .commit_from_file(model)?;
    println!("library {opened:.1?}, session {:.1?}, {} MiB", start.elapsed(), resident());
    let shape: Vec<usize> = match session.inputs()[0].dtype() {
        ort::value::ValueType::Tensor { shape, .. } => {
            shape.iter().map(|&size| usize::try_from(size).unwrap_or(1)).collect()
        }
        _ => return Err("the first input is no tensor".into()),
    };
    let zeros = vec![0.0_f32; shape.iter().product()];
    report(|| {
        let input = ort::value::TensorRef::from_array_view((shape.as_slice(), zeros.as_slice()))?;
        let outputs = session.run(ort::inputs![input])?;
        std::hint::black_box(outputs[0].try_extract_tensor::<f32>()?.1[0]);
        Ok(())
    })
}

fn through(library: &str, model: &str, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let backend = OnnxRuntime::new(Search { explicit: Some(PathBuf::from(library)), ..Search::default() }, RUN_BYTES);
    backend.check()?;
    let opened = start.elapsed();
    let start = Instant::now();
    let files = ModelFiles { model: FileSource::Path(PathBuf::from(model)) };
    let model = backend.load(&files, &LoadOptions::default())?;
    println!("library and check {opened:.1?}, load {:.1?}, {} MiB", start.elapsed(), resident());
    let spec = &model.signature().inputs[0];
    let shape: Vec<usize> = spec.shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
    let bytes = shape.iter().product::<usize>() * spec.dtype.size().ok_or("the first input is text")?;
    let request =
        [Tensors::from_iter([(spec.name.as_str(), Tensor::from_buffer(spec.dtype, shape, Buffer::zeroed(bytes))?)])];
    let options = RunOptions::default();
    let mut instances = Vec::new();
    for index in 0..count {
        let start = Instant::now();
        let mut instance = model.instance(1)?;
        instance.run(&request, &options)?;
        println!("instance {index} with its first run {:.1?}, {} MiB", start.elapsed(), resident());
        instances.push(instance);
    }
    std::thread::scope(|scope| {
        for instance in &mut instances {
            let (request, options) = (&request, &options);
            scope.spawn(move || {
                let outcome = report(|| {
                    std::hint::black_box(instance.run(request, options)?);
                    Ok(())
                });
                if let Err(error) = outcome {
                    eprintln!("{error}");
                }
            });
        }
    });
    Ok(())
}

/// Runs for some time and prints what one run takes.
fn report(mut run: impl FnMut() -> Result<(), Box<dyn std::error::Error>>) -> Result<(), Box<dyn std::error::Error>> {
    for _ in 0..10 {
        run()?;
    }
    let (start, mut runs) = (Instant::now(), 0_u32);
    let mut best = Duration::MAX;
    while start.elapsed() < TIME {
        let one = Instant::now();
        run()?;
        best = best.min(one.elapsed());
        runs += 1;
    }
    println!("{runs} runs, {:.2?} each, the fastest {best:.2?}", start.elapsed() / runs);
    Ok(())
}

/// Memory in use, in MiB; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
