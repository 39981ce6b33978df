//! Paddings by class: their sides and signs matter, their sizes do not.

/// None where nothing is padded.
pub(super) fn pads(values: &[i64]) -> Option<&'static str> {
    let (begin, end) = values.split_at(values.len() / 2);
    if values.iter().all(|value| *value == 0) {
        None
    } else if values.iter().any(|value| *value < 0) {
        Some("negative")
    } else if begin == end {
        Some("symmetric")
    } else {
        Some("asymmetric")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_are_told_apart_by_sign_and_sides() {
        assert_eq!(pads(&[0, 0]), None);
        assert_eq!(pads(&[1, 2, 1, 2]), Some("symmetric"));
        assert_eq!(pads(&[0, 1]), Some("asymmetric"));
        assert_eq!(pads(&[-1, 1]), Some("negative"));
    }
}
