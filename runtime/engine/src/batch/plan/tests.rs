//! The planner under random arrivals, and by example.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    id: u64,
    kind: u8,
}

impl Candidate for Asked {
    fn fits(&self, other: &Self) -> bool {
        self.kind == other.kind && self.kind != LONER
    }
}

/// The kind of those who fit nobody, themselves included.
const LONER: u8 = 2;

const MS: Duration = Duration::from_millis(1);

fn entry(id: u64, at: Instant, rows: Option<usize>) -> Entry<Asked> {
    Entry { id, priority: 5, arrived: at, give_up: at + 1000 * MS, rows, request: Asked { id, kind: 0 } }
}

fn together(max: usize, preferred: &[usize], max_delay: Duration) -> Rows {
    Rows::Together { max, preferred: preferred.to_vec(), max_delay }
}

/// The requests of the next run, with their rows where it is not the whole.
fn ran(decision: Decision<Asked>) -> Vec<(u64, Option<Range<usize>>)> {
    match decision {
        Decision::Run(parts) => parts.into_iter().map(|part| (part.request.id, part.rows)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_idle_instance_takes_what_is_there() {
    let now = Instant::now();
    let rows = together(4, &[], Duration::ZERO);
    let mut line = Line::default();
    assert_eq!(line.next(now, &rows), Decision::Nothing);
    for (id, count) in [(1, 1), (2, 2), (3, 2), (4, 1)] {
        line.push(entry(id, now, Some(count)));
    }
    assert_eq!(ran(line.next(now, &rows)), [(1, None), (2, None)], "5 rows would be too many");
    assert_eq!(ran(line.next(now, &rows)), [(3, None), (4, None)]);
    assert!(line.is_empty());
}

#[test]
fn what_cannot_be_divided_or_differs_runs_alone() {
    let now = Instant::now();
    let rows = together(8, &[], Duration::ZERO);
    let mut line = Line::default();
    line.push(entry(1, now, Some(1)));
    line.push(entry(2, now, None));
    line.push(entry(3, now, Some(1)));
    line.push(Entry { request: Asked { id: 4, kind: 1 }, ..entry(4, now, Some(1)) });
    for id in 1..=4 {
        assert_eq!(ran(line.next(now, &rows)), [(id, None)]);
    }
}

#[test]
fn what_fits_nobody_runs_at_once() {
    let now = Instant::now();
    let rows = together(8, &[4], 5 * MS);
    let mut line = Line::default();
    for (id, count) in [(1, 1), (2, 3), (3, 20)] {
        line.push(Entry { request: Asked { id, kind: LONER }, ..entry(id, now, Some(count)) });
    }
    assert_eq!(ran(line.next(now, &rows)), [(1, None)]);
    assert_eq!(ran(line.next(now, &rows)), [(2, None)]);
    assert_eq!(ran(line.next(now, &rows)), [(3, Some(0..8))]);
    assert_eq!(ran(line.next(now, &rows)), [(3, Some(8..16))]);
    assert_eq!(ran(line.next(now, &rows)), [(3, Some(16..20))]);
    assert!(line.is_empty());
}

#[test]
fn a_large_request_is_cut_and_its_rest_has_company() {
    let now = Instant::now();
    let rows = together(4, &[], 5 * MS);
    let mut line = Line::default();
    line.push(entry(1, now, Some(9)));
    line.push(entry(2, now, Some(3)));
    assert_eq!(ran(line.next(now, &rows)), [(1, Some(0..4))]);
    assert_eq!(ran(line.next(now, &rows)), [(1, Some(4..8))]);
    assert_eq!(ran(line.next(now, &rows)), [(1, Some(8..9)), (2, None)]);
    line.push(entry(3, now, Some(3)));
    assert_eq!(line.runs(&Rows::Apart, 9), 3);
    assert_eq!(ran(line.next(now, &Rows::Apart)), [(3, Some(0..1))]);
    assert_eq!(line.runs(&Rows::Apart, 9), 2);
    assert_eq!(ran(line.next(now, &Rows::Whole)), [(3, Some(1..3))]);
}

#[test]
fn a_run_waits_for_company_only_as_long_as_it_may() {
    let now = Instant::now();
    let rows = together(8, &[4], 10 * MS);
    let mut line = Line::default();
    line.push(entry(1, now, Some(1)));
    line.push(entry(2, now + 5 * MS, Some(1)));
    assert_eq!(line.next(now + 5 * MS, &rows), Decision::Wait(now + 10 * MS));
    assert_eq!(ran(line.next(now + 10 * MS, &rows)), [(1, None), (2, None)]);
    for id in 3..8 {
        line.push(entry(id, now, Some(1)));
    }
    let four = ran(line.next(now, &rows));
    assert_eq!(four.len(), 4, "a preferred size does not wait");
    assert_eq!(line.next(now, &rows), Decision::Wait(now + 10 * MS));
    line.push(Entry { give_up: now + 3 * MS, ..entry(8, now, Some(1)) });
    assert_eq!(ran(line.next(now, &rows)).len(), 2, "who would give up goes at once");
}

#[test]
fn the_lower_number_goes_first_and_others_may_fill_its_run() {
    let now = Instant::now();
    let rows = together(2, &[], Duration::ZERO);
    let mut line = Line::default();
    for (id, priority) in [(1, 9), (2, 9), (3, 1)] {
        line.push(Entry { priority, ..entry(id, now, Some(1)) });
    }
    assert_eq!(ran(line.next(now, &rows)), [(3, None), (1, None)]);
    assert_eq!(line.remove(2).map(|asked| asked.id), Some(2));
    assert_eq!(line.remove(2), None);
    assert!(line.is_empty());
}

#[derive(Clone, Debug)]
struct Arrival {
    at: u64,
    priority: u64,
    rows: Option<usize>,
    kind: u8,
    patience: u64,
    leaves_after: Option<u64>,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one = (
        0..200_u64,
        0..3_u64,
        prop::option::weighted(0.8, 1..7_usize),
        0..3_u8,
        1..120_u64,
        prop::option::weighted(0.2, 0..60_u64),
    );
    let one = one.prop_map(|(at, priority, rows, kind, patience, leaves_after)| Arrival {
        at,
        priority,
        rows,
        kind,
        patience,
        leaves_after,
    });
    prop::collection::vec(one, 1..60)
}

fn rules() -> impl Strategy<Value = Rows> {
    prop_oneof![
        Just(Rows::Whole),
        Just(Rows::Apart),
        (1..9_usize, prop::collection::btree_set(1..9_usize, 0..3), 0..30_u64).prop_map(|(max, preferred, delay)| {
            let preferred: Vec<usize> = preferred.into_iter().filter(|size| *size <= max).collect();
            Rows::Together { max, preferred, max_delay: Duration::from_millis(delay) }
        }),
    ]
}

#[derive(Default)]
struct Fate {
    started: Option<u64>,
    rows_run: Vec<usize>,
    whole_runs: usize,
    expired: bool,
    left: bool,
}

proptest! {
    /// Every millisecond: who leaves goes, who arrives is queued, who is due is expired, and each free instance asks.
    #[test]
    fn nobody_is_lost_answered_twice_overtaken_or_kept_too_long(
        arrivals in arrivals(), rules in rules(), instances in 1..4_usize, run_times in prop::collection::vec(1..40_u64, 1..9)
    ) {
        let begin = Instant::now();
        let clock = |ms: u64| begin + Duration::from_millis(ms);
        let mut line: Line<Asked> = Line::default();
        let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
        let mut busy_until = vec![0_u64; instances];
        let mut runs = 0;
        let mut arrived: Vec<(u64, &Arrival)> = Vec::new();
        // Those who arrive in the same millisecond are queued in the order of the list, which is their arrival.
        for ms in 0..4000_u64 {
            let now = clock(ms);
            for (id, arrival) in &arrived {
                if arrival.leaves_after.is_some_and(|after| arrival.at + after == ms) && line.remove(*id).is_some() {
                    fates.get_mut(id).expect("queued").left = true;
                }
            }
            for (index, arrival) in arrivals.iter().enumerate().filter(|(_, arrival)| arrival.at == ms) {
                let id = index as u64;
                arrived.push((id, arrival));
                fates.insert(id, Fate::default());
                let request = Asked { id, kind: arrival.kind };
                let give_up = clock(ms + arrival.patience);
                line.push(Entry { id, priority: arrival.priority, arrived: now, give_up, rows: arrival.rows, request });
            }
            for asked in line.expire(now) {
                let fate = fates.get_mut(&asked.id).expect("queued");
                prop_assert!(!fate.expired && !fate.left && fate.started.is_none());
                prop_assert!(clock(arrivals[asked.id as usize].at + arrivals[asked.id as usize].patience) <= now);
                fate.expired = true;
            }
            for until in busy_until.iter_mut().filter(|until| **until <= ms) {
                let waiting = line.len();
                let parts = match line.next(now, &rules) {
                    Decision::Nothing => { prop_assert_eq!(waiting, 0); continue }
                    Decision::Wait(later) => {
                        prop_assert!(later > now);
                        let Rows::Together { max_delay, .. } = &rules else { panic!("only batches wait") };
                        prop_assert!(later <= now + *max_delay);
                        continue
                    }
                    Decision::Run(parts) => parts,
                };
                prop_assert!(!parts.is_empty());
                let rows_of = |part: &Part<Asked>| match &part.rows {
                    Some(range) => range.len(),
                    None => arrivals[part.request.id as usize].rows.unwrap_or(1),
                };
                let sum: usize = parts.iter().map(rows_of).sum();
                let alone = parts.len() == 1 && arrivals[parts[0].request.id as usize].rows.is_none();
                prop_assert!(alone || sum <= rules.max() , "{} rows", sum);
                prop_assert!(parts.iter().all(|part| part.request.kind == parts[0].request.kind));
                prop_assert!(parts.len() == 1 || parts[0].request.kind != LONER);
                prop_assert!(parts.len() == 1 || parts.iter().all(|part| arrivals[part.request.id as usize].rows.is_some()));
                for part in &parts {
                    let arrival = &arrivals[part.request.id as usize];
                    // Nobody of the same priority who came before still waits untouched.
                    for (other, earlier) in arrived.iter().filter(|(other, earlier)| {
                        earlier.priority == arrival.priority && (earlier.at, *other) < (arrival.at, part.request.id)
                    }) {
                        let fate = &fates[other];
                        let here = parts.iter().any(|part| part.request.id == *other);
                        prop_assert!(fate.started.is_some() || fate.expired || fate.left || here, "{:?}", earlier);
                    }
                }
                for part in &parts {
                    let fate = fates.get_mut(&part.request.id).expect("queued");
                    prop_assert!(!fate.expired && !fate.left);
                    if fate.started.is_none() {
                        let arrival = &arrivals[part.request.id as usize];
                        prop_assert!(ms < arrival.at + arrival.patience, "waited too long");
                    }
                    fate.started.get_or_insert(ms);
                    match &part.rows {
                        Some(range) => fate.rows_run.extend(range.clone()),
                        None => fate.whole_runs += 1,
                    }
                }
                *until = ms + run_times[runs % run_times.len()];
                runs += 1;
            }
        }
        prop_assert!(line.is_empty());
        for (id, fate) in &fates {
            let rows = arrivals[*id as usize].rows.unwrap_or(1);
            let in_pieces = fate.rows_run == (0..rows).collect::<Vec<_>>() && fate.whole_runs == 0;
            let at_once = fate.rows_run.is_empty() && fate.whole_runs == 1;
            let never = fate.rows_run.is_empty() && fate.whole_runs == 0;
            // One that leaves while its rows are being run is nobody's loss.
            let cut_short = fate.left && fate.whole_runs == 0;
            prop_assert!(if fate.expired { never } else { in_pieces || at_once || cut_short }, "request {id}");
        }
    }
}
