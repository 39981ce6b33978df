//! Draws what was seen of a service while it was scaled: `tests/knative` shows its runs by it.
//!
//! Arguments are a title and files that end in .svg or .png. Standard input is CSV under one line of names: seconds,
//! requests a second, requests in flight, averages over the stable and the panic window, panic mode (0 or 1), replicas
//! wanted, replicas ready.

use std::io::BufRead as _;

use corymb_loadtest::picture::{Format, Observation, observed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let title = arguments.next().ok_or("expected TITLE FILE…")?;
    let mut seen = Vec::new();
    for line in std::io::stdin().lock().lines().skip(1) {
        let line = line?;
        let numbers: Vec<f64> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let [t, rate, in_flight, stable, panic, panicking, desired, ready] = numbers[..] else {
            return Err(format!("'{line}' has {} columns; expected 8", numbers.len()).into());
        };
        seen.push(Observation { t, rate, in_flight, stable, panic, panicking: panicking > 0.0, desired, ready });
    }
    for file in arguments {
        let format = Format::of(&file).ok_or_else(|| format!("{file}: expected a name that ends in .svg or .png"))?;
        std::fs::write(&file, observed(&title, &seen, format)?)?;
    }
    Ok(())
}
