//! The kernel's lists of numbers: `0-3,8`.

use std::collections::BTreeSet;

/// Above what the kernel can be built for (`NR_CPUS` is at most 8192).
const MAX_NUMBER: u32 = 65_535;

/// The numbers of a list, e.g. `0-3,8`; none for a text that is no list.
///
/// The format is that of `bitmap_parselist` in the kernel, of which it prints ranges and single numbers only.
pub(crate) fn parse(text: &str) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MAX_NUMBER {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// As [`parse`] reads it.
pub(crate) fn format(numbers: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |&(first, last): &(u32, u32)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_and_single_numbers() {
        assert_eq!(parse("0-2,8\n"), Some(BTreeSet::from([0, 1, 2, 8])));
        assert_eq!(parse("3"), Some(BTreeSet::from([3])));
        assert_eq!(parse("\n"), Some(BTreeSet::new()));
        for wrong in ["x", "1-", "3-1", "0-99999999", "-1", "1;2"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_does_no_harm(text in "[0-9,\\- \n]{0,24}|.{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::btree_set(0u32..200, 1..40)) {
            let text = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            prop_assert_eq!(parse(&text), Some(numbers.clone()));
            prop_assert_eq!(parse(&format(&numbers)), Some(numbers));
        }
    }
}
