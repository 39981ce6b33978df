//! Kubernetes' quantities: a number and a suffix, as its API server reads them.
//!
//! Source: `apimachinery/pkg/api/resource`: decimal suffixes `n u m k M G T P E`, binary ones `Ki Mi Gi Ti Pi Ei`, or a decimal exponent.

/// The least memory that a pod can do anything with; less is a slip, such as `512m`, which is half a byte.
const LEAST_MEMORY: f64 = 16_777_216.0;

/// Cores, at least a thousandth of one.
pub(super) fn cores(text: &str) -> Result<String, String> {
    match amount(text) {
        Some(cores) if (0.001..=1e4).contains(&cores) => Ok(text.to_owned()),
        Some(cores) => Err(format!("that is {cores} cores; expected 1m to 10000")),
        None => Err("expected cores, e.g. 2 or 500m".to_owned()),
    }
}

/// Memory, in bytes.
pub(super) fn memory(text: &str) -> Result<String, String> {
    match amount(text) {
        Some(bytes) if (LEAST_MEMORY..1e15).contains(&bytes) => Ok(text.to_owned()),
        Some(bytes) => Err(format!("that is {bytes} bytes; expected at least 16Mi, e.g. 512Mi or 2G")),
        None => Err("expected memory, e.g. 512Mi or 2G".to_owned()),
    }
}

/// Its value; none where it is no quantity above 0.
pub(super) fn amount(text: &str) -> Option<f64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into()),
    };
    let number: f64 = number.parse().ok()?;
    let amount = number * factor;
    (amount > 0.0).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, value) in
            [("1", 1.0), ("500m", 0.5), ("0.1", 0.1), (".5", 0.5), ("2.", 2.0), ("1e3", 1000.0), ("1E-3", 0.001)]
        {
            assert_eq!(amount(text), Some(value), "{text}");
            assert!(cores(text).is_ok(), "{text}");
        }
        for (text, value) in [("512Mi", 536_870_912.0), ("2G", 2e9), ("1.5Gi", 1_610_612_736.0), ("2E9", 2e9)] {
            assert_eq!(amount(text), Some(value), "{text}");
            assert!(memory(text).is_ok(), "{text}");
        }
        for text in ["", "abc", "1 ", "-1", "+1", "1,5", "1.2.3", "1mi", "1Kb", "0", "e3", "1e", "1e999", "Mi", "."] {
            assert_eq!(amount(text), None, "{text}");
        }
        // Half a byte, and more cores than there are.
        assert!(memory("512m").expect_err("a slip").contains("0.512 bytes"));
        assert!(cores("512Mi").is_err() && cores("1u").is_err());
    }
}
