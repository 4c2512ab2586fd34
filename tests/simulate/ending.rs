//! The end of a life: faults stop, all comes to rest, the executor closes, and nothing is left.

use crate::life::{GRANT, Life, Ongoing, TICKET_LIMIT};
use candlewick::Submit;
use candlewick::device::Script;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

impl Life<'_> {
    /// Faults stop, everything comes to rest, the executor closes, and nothing is left.
    pub(crate) fn finish(mut self) {
        let rests = self.random.chance(60);
        if rests {
            self.faults.calm(&self.script);
            self.calm = true;
            if !self.drive(10_000) && !self.is_lost() {
                let left = self.describe();
                self.wrong(format!("at rest there is no result: {left}"));
            }
            self.end_window();
            self.come_to_rest();
            self.see_it_work();
            if self.random.chance(50) && self.forgotten.is_empty() {
                self.ongoing.clear();
                self.graphs.live.clear();
                self.step();
                self.check_nothing_left("at rest");
            }
        } else {
            self.end_window();
        }
        self.closing = true;
        self.aborted = self.random.chance(40);
        let waker = Waker::noop();
        let mut cx = Context::from_waker(waker);
        let mut closed: Pin<Box<dyn Future<Output = ()>>> = match self.aborted {
            true => Box::pin(self.executor.abort()),
            false => Box::pin(self.executor.shutdown()),
        };
        let mut is_closed = false;
        for round in 0..10_000 {
            // once the owner has left it has the turn for good
            let stepped = self.executor.step();
            self.take_outbox();
            self.look_at_woken();
            is_closed = closed.as_mut().poll(&mut cx).is_ready();
            if is_closed {
                break;
            }
            if !stepped && !self.is_lost() {
                self.wrong("the turn is not to be had while it closes");
                break;
            }
            let next = self.script.next_end().filter(|end| *end > Script::now());
            let limit = if round % 8 == 7 {
                TICKET_LIMIT
            } else {
                Duration::ZERO
            };
            self.pass_until(next.unwrap_or(Script::now() + GRANT + limit));
        }
        if !is_closed {
            self.wrong("it does not close");
            self.findings.unresolved += 1;
        }
        for _ in 0..50 {
            self.look_at_woken(); // some look twice
        }
        let left = self.ongoing.len() as u64;
        if left > 0 {
            let named = self.describe();
            self.wrong(format!("not resolved: {named}"));
            self.findings.unresolved += left;
        }
        self.check_blame();
        self.check_loss();
        self.ongoing.clear();
        self.forgotten.clear();
        self.graphs.live.clear();
        self.compiled = None;
        self.take_outbox();
        self.ongoing.clear();
        self.check_nothing_left("at the end");
        self.check_counters();
        self.check_runs();
        self.check_fates();
        Script::set_now(None);
    }

    /// Who still waits.
    fn describe(&self) -> String {
        let named = self.ongoing.iter().map(Ongoing::describe);
        named.collect::<Vec<String>>().join(", ")
    }

    /// What is queued or in flight for nobody's sake ends too; and if a ticket never ends, the device is lost.
    fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            self.step();
            match self.script.next_end() {
                Some(end) => self.pass_until(end.max(Script::now())),
                None if self.executor.stats().queued == 0 || self.is_lost() => return,
                None => self.pass_until(Script::now() + TICKET_LIMIT),
            }
        }
    }

    /// After the faults, whatever is asked for is computed.
    fn see_it_work(&mut self) {
        if self.is_lost() || !self.forgotten.is_empty() {
            return;
        }
        for _ in 0..3 {
            let random = &mut *self.random;
            let leaf = self.graphs.leaf(random, false);
            let plain = Default::default();
            let made = self.graphs.grow(random, plain, &leaf, &[], None);
            let handle = self.try_submit(&[made.1], Submit::new());
            let Ok(handle) = handle else {
                let queued = self.executor.stats().queued;
                return self.wrong(format!("at rest it refuses, {queued} queued: {handle:?}"));
            };
            self.submitted_now(vec![made.0], None, Ok(handle.clone()));
            self.drive(100);
            if !matches!(handle.try_result(), Some(Ok(_))) {
                let result = handle.try_result().map(|result| result.map(drop));
                self.wrong(format!("after the faults it does not work: {result:?}"));
            }
        }
    }
}
