//! What follows from a record, without a backend.

use std::time::Duration;

use super::{Sharing, rows_by};
use crate::batch::Rows;
use crate::record::Record;

#[test]
fn the_record_decides() {
    let micros = |times: &[(usize, u64)]| Record {
        compared: Some((8, String::new())),
        times: times.to_vec(),
        complete: true,
        ..Record::default()
    };
    let decide = |record: &Record, sharing: &Sharing| rows_by(record, sharing, false, true).0;
    let max = |rows: Rows| match rows {
        Rows::Together { max, .. } => max,
        other => panic!("{other:?}"),
    };
    let pays = micros(&[(1, 1000), (2, 1100), (4, 1300), (8, 1700), (16, 3300)]);
    assert_eq!(max(decide(&pays, &Sharing::default())), 8, "16 is hardly better");
    assert_eq!(max(decide(&pays, &Sharing { max_size: Some(4), ..Sharing::default() })), 4);
    let target = Some(Duration::from_micros(2700));
    assert_eq!(max(decide(&pays, &Sharing { latency_target: target, ..Sharing::default() })), 4);
    let flat = micros(&[(1, 1000), (2, 1950), (4, 3900)]);
    assert_eq!(decide(&flat, &Sharing::default()), Rows::Apart);
    assert_eq!(max(decide(&flat, &Sharing { enabled: Some(true), max_size: Some(4), ..Sharing::default() })), 4);
    let mixed = Record { compared: Some((8, "rows mix".to_owned())), ..pays };
    assert_eq!(rows_by(&mixed, &Sharing::default(), false, true), (Rows::Whole, "off: rows mix".to_owned()));
    assert_eq!(max(rows_by(&mixed, &Sharing::default(), true, true).0), 8, "the manifest is trusted");
    assert_eq!(max(decide(&flat, &Sharing { max_size: Some(4), ..Sharing::default() })), 4, "somebody chose a size");
    assert_eq!(decide(&Record::default(), &Sharing::default()), Rows::Whole);
}
