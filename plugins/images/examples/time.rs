//! Times one picture on one thread: `cargo run --release -p corymb-images --example time FILE [SIZE] [ROUNDS]`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use corymb_core::DType;
use corymb_images::{Color, Fit, Kernel, Layout, Limits, Plan, Resize, Size, probe, to_tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: time FILE [SIZE] [ROUNDS]")?;
    let size: u32 = arguments.next().map_or(Ok(160), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(300), |text| text.parse())?;

    let picture = Bytes::from(std::fs::read(&file)?);
    let plan = Plan {
        orient: true,
        fit: Fit::Stretch(Size::new(size, size)),
        resize: Resize { kernel: Kernel::Bilinear, antialias: true },
        color: Color::Rgb,
        layout: Layout::Nchw,
        dtype: DType::Fp32,
        scale: 1.0,
        mean: vec![127.0; 3],
        std: vec![128.0; 3],
    };
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        std::hint::black_box(to_tensor(std::slice::from_ref(&picture), &[], &plan, &Limits::default())?);
        times.push(start.elapsed());
    }
    times.sort();
    let mean = times.iter().sum::<Duration>() / u32::try_from(rounds)?;
    let Size { width, height } = probe(&picture)?;
    println!("{width}x{height} to {size}x{size}: median {:?}, least {:?}, mean {mean:?}", times[rounds / 2], times[0]);
    Ok(())
}
