//! The loop under a scheduler that tries many orders of events: nobody is lost, nobody is answered twice, and no
//! instance is used by two at a time.

use std::collections::BTreeMap;

use shuttle::rand::Rng as _;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use super::*;

/// A request of a client, numbered.
#[derive(Clone, Debug)]
struct Asked(usize);

impl Candidate for Asked {
    fn fits(&self, other: &Self) -> bool {
        self.0 % 2 == other.0 % 2
    }
}

/// The pool of workers as far as the loop sees it.
#[derive(Default)]
struct Pool {
    tickets: usize,
    wakes: usize,
    busy: usize,
    reserved: bool,
    closed: bool,
}

struct World {
    state: Mutex<State<usize, Asked>>,
    pool: Mutex<Pool>,
    work: Condvar,
    answers: Mutex<BTreeMap<usize, usize>>,
    /// By instance: how many use it.
    in_use: Vec<AtomicUsize>,
    /// Whether instances break now and then.
    fragile: bool,
    clock: Instant,
}

struct Reserved(Arc<World>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.pool.lock().expect("not poisoned").reserved = false;
        self.0.work.notify_all();
    }
}

impl World {
    fn answer(&self, id: usize) {
        *self.answers.lock().expect("not poisoned").entry(id).or_default() += 1;
    }

    fn use_instance(&self, instance: usize) -> Option<usize> {
        assert_eq!(self.in_use[instance].fetch_add(1, Ordering::SeqCst), 0, "two use instance {instance}");
        thread::yield_now();
        self.in_use[instance].fetch_sub(1, Ordering::SeqCst);
        let breaks = self.fragile && shuttle::rand::thread_rng().gen_bool(0.2);
        (!breaks).then_some(instance)
    }
}

impl Host for Arc<World> {
    type Instance = usize;
    type Request = Asked;
    type Reservation = Reserved;

    fn with<R>(&self, work: impl FnOnce(&mut State<usize, Asked>) -> R) -> R {
        work(&mut self.state.lock().expect("not poisoned"))
    }

    fn ticket(&self) {
        self.pool.lock().expect("not poisoned").tickets += 1;
        self.work.notify_all();
    }

    fn wake_at(&self, _: Instant) {
        self.pool.lock().expect("not poisoned").wakes += 1;
        self.work.notify_all();
    }

    fn now(&self) -> Instant {
        self.clock
    }

    fn reserve(&self) -> Option<Reserved> {
        let mut pool = self.pool.lock().expect("not poisoned");
        let free = pool.busy == 1 && !pool.reserved && pool.tickets == 0;
        pool.reserved |= free;
        free.then(|| Reserved(Arc::clone(self)))
    }

    fn run(&self, instance: usize, parts: Vec<Part<Asked>>) -> Option<usize> {
        assert!(!parts.is_empty());
        let back = self.use_instance(instance);
        for part in &parts {
            // The tests' requests of several rows are counted by row.
            let rows = part.rows.as_ref().map_or(1, std::ops::Range::len);
            (0..rows).for_each(|_| self.answer(part.request.0));
        }
        back
    }

    fn expired(&self, _: Asked) {
        unreachable!("the clock stands still");
    }

    fn lost(&self, request: Asked) {
        self.answer(request.0);
    }
}

fn worker(world: &Arc<World>) {
    loop {
        let mut pool = world.pool.lock().expect("not poisoned");
        loop {
            if pool.tickets > 0 && !pool.reserved {
                pool.tickets -= 1;
                pool.busy += 1;
                drop(pool);
                redeem(world);
                world.pool.lock().expect("not poisoned").busy -= 1;
                break;
            }
            if pool.wakes > 0 {
                pool.wakes -= 1;
                drop(pool);
                // The clock stands still, so time passes by letting runs begin as they are.
                world.with(|state| {
                    state.rows = Rows::Together { max: 3, preferred: Vec::new(), max_delay: Duration::ZERO }
                });
                wake(world);
                break;
            }
            if pool.closed && pool.tickets == 0 && pool.busy == 0 {
                return;
            }
            pool = world.work.wait(pool).expect("not poisoned");
        }
        world.work.notify_all();
    }
}

/// One client, by number: the first asks to be run at once, the last leaves. Answers its number if it left in time.
fn client(world: &Arc<World>, id: usize, rows_each: Option<usize>) -> Option<usize> {
    if id == 0
        && let Some(taken) = at_once(world, rows_each, false)
    {
        run_taken(world, taken, |instance| (world.use_instance(instance), ()));
        (0..rows_each.unwrap_or(1)).for_each(|_| world.answer(id));
        return None;
    }
    let entry = |number| Entry {
        id: number,
        priority: id as u64 % 2,
        arrived: world.clock,
        give_up: world.clock + Duration::from_secs(60),
        rows: rows_each,
        request: Asked(id),
    };
    match submit(world, 100, entry) {
        Ok(number) => (id == 3 && world.with(|state| state.leave(number))).then_some(id),
        Err(Refused::Lost) => {
            world.answer(id);
            None
        }
        Err(Refused::Full(_)) => panic!("there is room"),
    }
}

/// Clients who ask, some of whom leave; workers who serve. Answers by request, and who left.
fn play(rows: Rows, fragile: bool, wide: bool, rows_each: Option<usize>) -> (BTreeMap<usize, usize>, Vec<usize>) {
    const CLIENTS: usize = 4;
    let mut state = State::new(vec![0, 1], rows);
    if wide {
        state.set_wide(Some(2));
    }
    let world = Arc::new(World {
        state: Mutex::new(state),
        pool: Mutex::new(Pool::default()),
        work: Condvar::new(),
        answers: Mutex::new(BTreeMap::new()),
        in_use: (0..3).map(|_| AtomicUsize::new(0)).collect(),
        fragile,
        clock: Instant::now(),
    });
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || worker(&world))
        })
        .collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| {
            let world = Arc::clone(&world);
            thread::spawn(move || client(&world, id, rows_each))
        })
        .collect();
    let left: Vec<usize> = clients.into_iter().filter_map(|client| client.join().expect("no panic")).collect();
    world.pool.lock().expect("not poisoned").closed = true;
    world.work.notify_all();
    for worker in workers {
        worker.join().expect("no panic");
    }
    assert_eq!(world.with(|state| state.depth()), 0, "somebody still waits");
    let answers = world.answers.lock().expect("not poisoned").clone();
    (answers, left)
}

fn everybody_is_answered_once(rows: Rows, fragile: bool, wide: bool, rows_each: Option<usize>) {
    shuttle::check_random(
        move || {
            let (answers, left) = play(rows.clone(), fragile, wide, rows_each);
            let pieces = if rows == Rows::Apart { rows_each.unwrap_or(1) } else { 1 };
            for id in 0..4 {
                let count = answers.get(&id).copied().unwrap_or(0);
                // One that leaves may have had some of its rows run before.
                let due = if left.contains(&id) { 0..pieces } else { pieces..pieces + 1 };
                // With the last instance the rows that are left are answered at once.
                let cut_short = fragile && (1..=pieces).contains(&count);
                assert!(due.contains(&count) || cut_short, "request {id} was answered {count} times, due {due:?}");
            }
        },
        300,
    );
}

#[test]
fn whole_requests() {
    everybody_is_answered_once(Rows::Whole, false, false, None);
}

#[test]
fn rows_apart() {
    everybody_is_answered_once(Rows::Apart, false, false, Some(3));
}

#[test]
fn shared_runs_with_and_without_waiting() {
    let together = |max_delay| Rows::Together { max: 3, preferred: vec![3], max_delay };
    everybody_is_answered_once(together(Duration::ZERO), false, false, Some(1));
    everybody_is_answered_once(together(Duration::from_millis(5)), false, false, Some(1));
}

#[test]
fn runs_with_all_workers() {
    everybody_is_answered_once(Rows::Whole, false, true, None);
}

#[test]
fn instances_that_break() {
    everybody_is_answered_once(Rows::Whole, true, true, None);
    everybody_is_answered_once(
        Rows::Together { max: 3, preferred: Vec::new(), max_delay: Duration::ZERO },
        true,
        false,
        Some(1),
    );
}
