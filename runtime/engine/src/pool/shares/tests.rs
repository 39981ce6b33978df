//! Shares in virtual time: no clock, no threads; the work says how long it takes.

use std::collections::HashMap;

use super::*;

/// Workers that run what they are given to its end, in virtual milliseconds.
struct World {
    shares: Shares<(usize, u64)>,
    begin: Instant,
    now: u64,
    /// Turn, model and end of what runs.
    running: Vec<(Turn, usize, u64)>,
    /// By model: the time that its work took, and how long its pieces waited at most.
    took: Vec<u64>,
    waited: Vec<u64>,
    since: HashMap<u64, u64>,
    pieces: u64,
}

impl World {
    fn new(workers: usize, models: usize) -> Self {
        Self {
            shares: Shares::new(workers),
            begin: Instant::now(),
            now: 0,
            running: Vec::new(),
            took: vec![0; models],
            waited: vec![0; models],
            since: HashMap::new(),
            pieces: 0,
        }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.begin + Duration::from_millis(milliseconds)
    }

    fn push(&mut self, share: &Share, model: usize, takes: u64) {
        self.pieces += 1;
        self.since.insert(self.pieces, self.now);
        self.shares.push(share, Stage::Infer, NO_PRIORITY, (model, self.pieces << 32 | takes), self.at(self.now));
    }

    fn waiting(&self, share: &Share) -> usize {
        self.shares.lanes.iter().filter(|lane| lane.is(share)).map(|lane| lane.waiting).sum()
    }

    /// Begins all that may begin now, then goes on by a millisecond.
    fn step(&mut self) {
        while let Next::Begin(lane) = self.shares.next(self.at(self.now)) {
            let (turn, (model, piece)) = self.shares.begin(lane, self.at(self.now)).expect("something waits");
            let waited = self.now - self.since.remove(&(piece >> 32)).expect("it was pushed");
            self.waited[model] = self.waited[model].max(waited);
            self.running.push((turn, model, self.now + (piece & 0xffff_ffff)));
        }
        self.now += 1;
        for (_, model, _) in &self.running {
            self.took[*model] += 1;
        }
        let (ended, going): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|(.., end)| *end <= self.now);
        self.running = going;
        for (turn, ..) in ended {
            self.shares.end(turn, self.at(self.now));
        }
    }
}

#[test]
fn models_share_by_the_time_that_their_work_takes_and_by_weight() {
    for (weights, lengths) in [([1, 1], [1, 8]), ([1, 3], [5, 2]), ([4, 1], [3, 3])] {
        let mut world = World::new(1, 2);
        let shares = weights.map(Share::new);
        for _ in 0..2_000 {
            for model in 0..2 {
                // There is always more to do.
                while world.waiting(&shares[model]) < 4 {
                    world.push(&shares[model], model, lengths[model]);
                }
            }
            world.step();
        }
        let expected = f64::from(weights[0]) / f64::from(weights[0] + weights[1]);
        let share = world.took[0] as f64 / (world.took[0] + world.took[1]) as f64;
        assert!((share - expected).abs() < 0.05, "{weights:?} {lengths:?}: {share}");
    }
}

#[test]
fn long_work_of_one_model_keeps_another_waiting_for_no_longer_than_a_hold() {
    let mut world = World::new(2, 2);
    let (long, short) = (Share::new(1), Share::new(1));
    for turn in 0..20_000_u64 {
        if turn.is_multiple_of(2_000) {
            (0..4).for_each(|_| world.push(&long, 0, 8_000));
        }
        if turn > 100 && turn.is_multiple_of(50) {
            world.push(&short, 1, 4);
        }
        world.step();
        assert!(world.running.len() <= 4, "no more than one beside each worker");
        assert!(world.running.iter().filter(|(_, model, _)| *model == 0).count() <= 2, "no more than it had alone");
    }
    assert!(world.waited[1] <= HOLD.as_millis() as u64 + 1, "{:?}", world.waited);
    assert!(world.took[1] >= 1_500, "{:?}", world.took);
}

/// One that has a worker and wants another does not stand before one that has none.
#[test]
fn who_has_a_worker_does_not_hold_up_who_has_none() {
    let mut world = World::new(2, 3);
    let shares = [1, 1, 1].map(Share::new);
    // The last has had more than its share.
    world.push(&shares[2], 2, 500);
    (0..600).for_each(|_| world.step());
    world.push(&shares[0], 0, 50_000);
    world.push(&shares[1], 1, 50_000);
    world.step();
    world.push(&shares[0], 0, 50_000);
    world.push(&shares[2], 2, 5);
    (0..100).for_each(|_| world.step());
    assert!(world.waited[2] <= HOLD.as_millis() as u64 + 1, "{:?}", world.waited);
}

#[test]
fn nobody_saves_up_while_there_is_nothing_to_do() {
    let mut world = World::new(1, 2);
    let (busy, late) = (Share::new(1), Share::new(1));
    for turn in 0..4_000 {
        world.push(&busy, 0, 1);
        if turn == 2_000 {
            (0..2_000).for_each(|_| world.push(&late, 1, 1));
        }
        world.step();
    }
    // From the second half on each has half of it.
    assert!((900..=1_100).contains(&world.took[1]), "{:?}", world.took);
}

#[test]
fn background_work_has_what_is_left() {
    let mut world = World::new(1, 2);
    let (model, background) = (Share::new(1), Share::background());
    for turn in 0..6_000_u64 {
        if world.waiting(&background) == 0 {
            world.push(&background, 1, 3);
        }
        // Busy in the second half.
        if turn >= 3_000 && turn.is_multiple_of(2) {
            world.push(&model, 0, 3);
        }
        world.step();
    }
    let idle_half = 3_000;
    assert!(world.took[1] >= idle_half - 3, "{:?}", world.took);
    assert!(world.took[1] <= idle_half + 120, "{:?}", world.took);
}

#[test]
fn one_model_alone_is_never_set_aside() {
    let mut world = World::new(2, 1);
    let only = Share::new(1);
    (0..10).for_each(|_| world.push(&only, 0, 500));
    for _ in 0..2_500 {
        world.step();
        assert!(world.running.len() <= 2);
    }
    assert_eq!(world.took[0], 5_000);
}
