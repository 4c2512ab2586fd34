//! A device under load is kept busy: the owner gives it the next batch before it is done with the last.
//!
//! How long it is idle is counted in virtual time, where what the host does takes as long as the model below says:
//! exact, and the same on every machine. One thread plays all of it on the shipped executor: producers, each of
//! which asks for something, is told, and asks again; the core that they share; the owner, which has another one;
//! and the device.

use crate::common::*;
use candlewick::Handle;
use candlewick::device::Script;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const PRODUCERS: usize = 64;
const SUBMISSIONS: u64 = 20_000;
const MICROS: fn(u64) -> Duration = Duration::from_micros;

/// From being called until it looks: a thread that was parked.
const WAKING: Duration = Duration::from_micros(60);
/// What a producer does between one result and its next submission.
const SUBMITTING: Duration = Duration::from_micros(5);
/// What the owner does for each fragment that it finds in the queue.
const ISSUING: Duration = Duration::from_micros(1);

/// How many tickets the owner keeps in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    /// As many as it wants.
    Three,
    /// It is not called for work while the device has some.
    One,
}

struct Load {
    device: Stepped,
    in_flight: InFlight,
    /// For each producer, what it waits for.
    asked: Vec<Option<Handle>>,
    /// Who submits next, and when.
    next: VecDeque<(Instant, usize)>,
    /// Until then the producers' core is taken.
    core_taken: Instant,
    /// Until then the owner is busy.
    owner_taken: Instant,
    /// When the owner was called for what has been submitted since it last looked.
    called: Option<Instant>,
    done: u64,
}

impl Load {
    fn new(in_flight: InFlight, ticket: Duration) -> Self {
        let device = Stepped::new(|builder| builder);
        device.script.latency(Duration::ZERO, ticket);
        let start = Script::now();
        let mut load = Self {
            device,
            in_flight,
            asked: (0..PRODUCERS).map(|_| None).collect(),
            next: VecDeque::new(),
            core_taken: start,
            owner_taken: start,
            called: None,
            done: 0,
        };
        (0..PRODUCERS).for_each(|producer| load.will_submit(producer, start));
        load
    }

    /// The producer knows at this moment that it may submit.
    fn will_submit(&mut self, producer: usize, told: Instant) {
        self.core_taken = self.core_taken.max(told + WAKING) + SUBMITTING;
        self.next.push_back((self.core_taken, producer));
    }

    /// When the owner will have looked, if it has a reason to.
    fn owner_looks(&self) -> Option<Instant> {
        let ended = self.device.script.next_end();
        let called = match self.in_flight {
            InFlight::One if ended.is_some() => None,
            _ => self.called,
        };
        let called = called.into_iter().chain(ended).min()?;
        let queued = self.device.executor.stats().queued as u32;
        Some(self.owner_taken.max(called + WAKING) + ISSUING * queued)
    }

    /// Whatever comes first happens.
    fn go_on(&mut self) {
        let submits = self.next.front().copied();
        match (submits, self.owner_looks()) {
            (Some((time, producer)), looks) if looks.is_none_or(|looks| time <= looks) => {
                self.next.pop_front();
                Script::set_now(Some(time));
                let y = (&tensor(producer as f32) + 1.0).unwrap();
                self.asked[producer] = Some(self.device.executor.submit(&y).unwrap());
                self.called.get_or_insert(time);
            }
            (_, Some(looks)) => self.look(looks),
            _ => panic!("nothing happens any more"),
        }
    }

    fn look(&mut self, time: Instant) {
        Script::set_now(Some(time));
        let before = self.device.script.tickets();
        self.device.step();
        let issued = self.device.script.tickets() - before;
        assert!(issued <= 1 || self.in_flight != InFlight::One);
        (self.owner_taken, self.called) = (time, None);
        for producer in 0..PRODUCERS {
            let Some(result) = self.asked[producer].as_ref().and_then(Handle::try_result) else {
                continue;
            };
            assert_eq!(value(&result.unwrap()), producer as f32 + 1.0);
            self.asked[producer] = None;
            self.done += 1;
            self.will_submit(producer, time);
        }
    }

    /// The share of the device's time in which it has nothing to do.
    fn idle(mut self) -> f64 {
        while self.done < SUBMISSIONS {
            self.go_on();
        }
        let (idle, all) = self.device.script.idle();
        let share = idle.as_secs_f64() / all.as_secs_f64();
        let (in_flight, percent) = (self.in_flight, 100.0 * share);
        let tickets = self.device.script.tickets();
        println!("{in_flight:?} in flight: idle {percent:.2} % of {all:?}, {tickets} tickets");
        share
    }
}

/// With one ticket in flight the device waits while its results are told, asked upon and looked at.
#[test]
fn a_device_under_load_is_idle_for_two_percent_of_its_time_at_most() {
    const MOST: f64 = 0.02;
    for ticket in [200, 500, 2000].map(MICROS) {
        println!("tickets of {ticket:?}");
        let three = Load::new(InFlight::Three, ticket).idle();
        let one = Load::new(InFlight::One, ticket).idle();
        assert!(three <= MOST, "idle {:.1} %", 100.0 * three);
        assert!(one > 2.0 * MOST, "the model's host costs nothing: {one}");
    }
}

/// The same on real threads, for a second: everybody is answered. How long the device is idle then depends on
/// what else the machine does, and is only told.
#[test]
fn threads_under_load_are_all_answered() {
    within_limit(|| {
        let (executor, script) = simulated(1024);
        script.latency(MICROS(2000), MICROS(2000));
        script.hold();
        let asked = AtomicUsize::new(0);
        let end = Instant::now() + Duration::from_secs(1);
        std::thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (executor, asked) = (&executor, &asked);
                scope.spawn(move || {
                    loop {
                        let y = (&tensor(producer as f32) + 1.0).unwrap();
                        let handle = executor.submit(&y).unwrap();
                        asked.fetch_add(1, SeqCst);
                        assert_eq!(value(&handle.wait().unwrap()), producer as f32 + 1.0);
                        if Instant::now() >= end {
                            return;
                        }
                    }
                });
            }
            script.wait_until_held();
            eventually("all have asked", || asked.load(SeqCst) == PRODUCERS);
            script.resume();
        });
        let (idle, all) = script.idle();
        let share = idle.as_secs_f64() / all.as_secs_f64();
        println!("idle {:.2} % of {all:?}", 100.0 * share);
        assert!(executor.stats().batches > 0, "it batches");
    });
}
