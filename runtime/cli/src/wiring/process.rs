//! What this process is and takes, as metrics: its build, and the figures that Prometheus' client libraries show of every process.
//!
//! The names are theirs on the page (`process_cpu_seconds_total`), so the instruments are named for that and not by
//! OpenTelemetry's conventions for processes, whose names nothing that exists looks for.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// Shows the build of this process. OpenTelemetry has no instrument for what never changes: a gauge that is always 1 is what
/// Prometheus' own programs have.
pub(super) fn observe_build(meter: &Meter, backends: &[&'static str]) {
    let attributes = [
        KeyValue::new("version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("rustc", env!("CORYMB_RUSTC")),
        KeyValue::new("backends", backends.join(",")),
    ];
    meter
        .u64_observable_gauge("corymb.build.info")
        .with_description(
            "Always 1; its labels are the version of Corymb, the compiler, and the backends that are built in.",
        )
        .with_callback(move |build| build.observe(1, &attributes))
        .build();
}

/// Shows what this process takes of the machine. Elsewhere than on Linux there is nothing.
#[cfg(target_os = "linux")]
pub(super) fn observe_process(meter: &Meter) {
    meter
        .f64_observable_counter("process.cpu")
        .with_unit("s")
        .with_description("Time that the process spent on processors, its own and the system's for it.")
        .with_callback(|cpu| cpu.observe(linux::cpu_seconds(), &[]))
        .build();
    let start = linux::start_seconds();
    meter
        .f64_observable_gauge("process.start_time")
        .with_unit("s")
        .with_description("When the process started, in seconds since 1970.")
        .with_callback(move |time| start.into_iter().for_each(|start| time.observe(start, &[])))
        .build();
    let of_status =
        |name: &'static str, unit: &'static str, description: &'static str, key: &'static str, factor: u64| {
            meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |gauge| {
                    let found = linux::read("/proc/self/status").and_then(|status| linux::field(&status, key));
                    found.into_iter().for_each(|value| gauge.observe(value * factor, &[]));
                })
                .build();
        };
    of_status("process.resident_memory", "By", "Memory of the process that is in main memory.", "VmRSS:", 1024);
    of_status("process.virtual_memory", "By", "Addresses of the process that something may lie at.", "VmSize:", 1024);
    of_status("process.threads", "", "Threads of the process.", "Threads:", 1);
    meter
        .u64_observable_gauge("process.open_fds")
        .with_description("Files and connections that the process has open.")
        .with_callback(|fds| linux::open_files().into_iter().for_each(|open| fds.observe(open, &[])))
        .build();
    meter
        .u64_observable_gauge("process.max_fds")
        .with_description("Files and connections that the process may have open.")
        .with_callback(|fds| linux::most_files().into_iter().for_each(|most| fds.observe(most, &[])))
        .build();
}

#[cfg(not(target_os = "linux"))]
pub(super) fn observe_process(_: &Meter) {}

/// Where the kernel tells what a process takes (proc(5)).
#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::Read as _;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use rustix::process::{Resource, getrlimit};
    use rustix::time::{ClockId, clock_gettime};

    /// A file about a process is small.
    const MAX_FILE: u64 = 64 << 10;

    /// Ticks of a second in what the kernel tells programs, on every machine that Rust's standard library knows.
    const TICKS: f64 = 100.0;

    pub(super) fn read(path: &str) -> Option<String> {
        let mut text = String::new();
        File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The first number behind `key`, which begins a line.
    pub(super) fn field(status: &str, key: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }

    fn now(clock: ClockId) -> Duration {
        let time = clock_gettime(clock);
        let part = |number: i64| u64::try_from(number).unwrap_or_default();
        Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
    }

    pub(super) fn cpu_seconds() -> f64 {
        now(ClockId::ProcessCPUTime).as_secs_f64()
    }

    /// Field 22 of `stat`: ticks from the machine's start to this process's. Names of programs may hold anything, so fields are
    /// counted from behind the name.
    pub(super) fn ticks_at_start(stat: &str) -> Option<u64> {
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
    }

    /// In seconds since 1970.
    pub(super) fn start_seconds() -> Option<f64> {
        let ticks = ticks_at_start(&read("/proc/self/stat")?)?;
        let ran = now(ClockId::Boottime).as_secs_f64() - ticks as f64 / TICKS;
        Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64() - ran)
    }

    /// The one that lists them is not counted.
    pub(super) fn open_files() -> Option<u64> {
        let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
        Some(open.saturating_sub(1) as u64)
    }

    /// None where there is no limit.
    pub(super) fn most_files() -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::linux::*;

    #[test]
    fn the_kernel_is_understood() {
        let status = read("/proc/self/status").expect("Linux");
        let (resident, all) = (field(&status, "VmRSS:").expect("told"), field(&status, "VmSize:").expect("told"));
        assert!(0 < resident && resident <= all, "{resident} of {all} KiB");
        assert!(field(&status, "Threads:").is_some_and(|threads| threads >= 1));
        let before = cpu_seconds();
        let sum: u64 = (0..20_000_000).map(std::hint::black_box).sum();
        assert!(cpu_seconds() > before, "{sum}");
        let own = std::fs::File::open("/proc/self/status").expect("Linux");
        assert!(open_files().zip(most_files()).is_none_or(|(open, most)| (1..=most).contains(&open)));
        drop(own);
    }

    #[test]
    fn a_process_started_before_now() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let start = start_seconds().expect("told");
        // A tick is a hundredth of a second.
        assert!(start < now + 0.1 && now - start < 3600.0, "{start}, {now}");
    }

    #[test]
    fn names_of_programs_may_hold_anything() {
        let fields: Vec<String> = (3..30).map(|number| number.to_string()).collect();
        assert_eq!(ticks_at_start(&format!("7 (a) b (c)) {}", fields.join(" "))), Some(22));
        assert_eq!(ticks_at_start("7 (a) S 1"), None);
    }
}
