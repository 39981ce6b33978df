//! Versions come and go under a scheduler that tries many orders of events: a model that answers never stops answering while it
//! changes, and who is refused hears a reason that is so.

use std::cell::Cell;

use shuttle::sync::Mutex as Turn;
use shuttle::thread;

use super::*;

thread_local! {
    /// Whether the scheduler runs this thread.
    static SCHEDULED: Cell<bool> = const { Cell::new(false) };
}

/// Lets the scheduler have others go on.
pub(super) fn step() {
    if SCHEDULED.get() {
        thread::yield_now();
    }
}

/// What answers for a version, and tells when nobody has it any more.
struct Answer {
    version: &'static str,
    id: u64,
    gone: Arc<Mutex<Vec<u64>>>,
}

impl Answers for Answer {
    fn version(&self) -> &str {
        self.version
    }

    fn end(&self) {}
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.gone.lock().expect("not poisoned").push(self.id);
    }
}

struct World {
    entry: Entry<Answer>,
    /// One change at a time.
    updating: Turn<()>,
    gone: Arc<Mutex<Vec<u64>>>,
    /// What the latest change left to answer.
    wanted: Mutex<Vec<&'static str>>,
}

impl World {
    fn new() -> Arc<Self> {
        SCHEDULED.set(true);
        let (updating, gone, wanted) = (Turn::new(()), Arc::default(), Mutex::default());
        Arc::new(Self { entry: Entry::new("m"), updating, gone, wanted })
    }

    /// As an update does it: each version is loaded and joins, then the others go.
    fn update(&self, versions: &[&'static str]) {
        let _updating = self.updating.lock().expect("not poisoned");
        for version in versions {
            let id = self.entry.begin_load(version);
            step();
            self.entry.advance(id, State::WarmingUp);
            step();
            let answer = Answer { version, id, gone: Arc::clone(&self.gone) };
            self.entry.join(Served { id, stamp: String::new(), version: Arc::new(answer) });
        }
        self.keep(versions);
    }

    fn unload(&self) {
        let _updating = self.updating.lock().expect("not poisoned");
        self.keep(&[]);
    }

    fn keep(&self, versions: &[&'static str]) {
        self.entry.retain(|served| versions.contains(&served.version.version));
        *self.wanted.lock().expect("not poisoned") = versions.to_vec();
    }

    /// That the last request of a version has ended is heard at any time after it.
    fn bury(&self) {
        let gone = std::mem::take(&mut *self.gone.lock().expect("not poisoned"));
        for id in gone {
            self.entry.advance(id, State::Draining);
            step();
            self.entry.advance(id, State::Gone);
        }
    }

    /// What is so when all is over.
    fn check(&self) {
        self.bury();
        let wanted = self.wanted.lock().expect("not poisoned").clone();
        assert_eq!(self.entry.served().names(), wanted);
        assert!(!self.entry.is_draining());
        let states = self.entry.statuses();
        let ready = states.iter().filter(|status| status.state == State::Ready).map(|status| status.version.as_str());
        assert_eq!(ready.collect::<Vec<_>>(), wanted, "{states:?}");
    }
}

type Work = Box<dyn FnOnce(&World) + Send>;

/// Tries many orders of this work, beside one that hears of the ends of versions.
fn in_many_orders(first: &'static [&'static str], work: impl Fn() -> Vec<Work> + Send + Sync + 'static) {
    let attempt = move || {
        let world = World::new();
        world.update(first);
        let bury: Work = Box::new(|world| (0..3).for_each(|_| world.bury()));
        let threads = work().into_iter().chain([bury]).map(|work| {
            let world = Arc::clone(&world);
            thread::spawn(move || work(&world))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        world.check();
    };
    shuttle::check_random(attempt, 3_000);
}

#[test]
fn a_model_answers_while_it_changes() {
    in_many_orders(&["1"], || {
        let ask = || -> Work {
            Box::new(|world| {
                for _ in 0..4 {
                    let picked = world.entry.pick(None).expect("there is always one");
                    step();
                    assert!(!world.gone.lock().expect("not poisoned").contains(&picked.id), "it has not ended");
                }
            })
        };
        let update = |versions: &'static [&'static str]| -> Work { Box::new(|world| world.update(versions)) };
        vec![update(&["2"]), update(&["1", "3"]), update(&["2"]), ask(), ask()]
    });
}

#[test]
fn who_is_refused_hears_why() {
    in_many_orders(&[], || {
        let ask = |version: Option<&'static str>| -> Work {
            Box::new(move |world| {
                for _ in 0..4 {
                    match world.entry.pick(version) {
                        Ok(picked) => assert!(version.is_none_or(|version| picked.version == version)),
                        Err(EngineError::NotReady { state, .. }) => assert_ne!(state, "ready"),
                        Err(EngineError::UnknownVersion { version, served, .. }) => {
                            assert!(!served.contains(&version), "{version} is none of {served}");
                        }
                        Err(EngineError::Draining { .. } | EngineError::Unloaded { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    step();
                }
            })
        };
        let unload = || -> Work { Box::new(World::unload) };
        vec![
            Box::new(|world| world.update(&["1"])),
            unload(),
            Box::new(|world| world.update(&["1", "2"])),
            ask(None),
            ask(Some("1")),
            ask(Some("2")),
        ]
    });
}

#[test]
fn what_is_called_ready_answers() {
    in_many_orders(&[], || {
        let look: Work = Box::new(|world| {
            for _ in 0..6 {
                let states = world.entry.statuses();
                let ready = states.into_iter().filter(|status| status.state == State::Ready);
                step();
                for status in ready {
                    world.entry.pick(Some(&status.version)).expect("it answers");
                }
            }
        });
        vec![Box::new(|world| world.update(&["1", "2"])), Box::new(|world| world.update(&["1", "2"])), look]
    });
}
