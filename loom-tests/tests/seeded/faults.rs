//! The table of faults. Paths are below `src`.

const RACE: &str = "Causality violation";
const STUCK: &str = "deadlock; threads";

/// One fault: a passage of the core, what to put in its place, and how that is noticed.
#[derive(Debug)]
pub struct Fault {
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub scenario: &'static str,
    pub message: &'static str,
}

macro_rules! faults {
    ($($file:literal: $from:literal => $to:literal, $scenario:ident, $message:expr;)*) => {
        pub const FAULTS: &[Fault] = &[$(Fault {
            file: $file, from: $from, to: $to, scenario: stringify!($scenario), message: $message,
        }),*];
    };
}

#[rustfmt::skip]
faults! {
    // the slot: orderings
    "store/slot.rs": "slot.word.fetch_add(step, Release)" => "slot.word.fetch_add(step, Relaxed)", publish_vs_peek, RACE;
    "store/slot.rs": "let word = self.word.load(Acquire);" => "let word = self.word.load(Relaxed);", publish_vs_peek, RACE;
    // the slot: protocol
    "store/slot.rs": "let word = self.word.fetch_or(WAITERS, Relaxed);" => "self.word.fetch_or(WAITERS, Relaxed); let word = PENDING;", publish_vs_await, STUCK;
    "store/slot.rs": "let old = slot.word.fetch_add(step, Release);\n        slot.wake(old);" => "slot.word.fetch_add(step, Release);", publish_vs_await, STUCK;
    "store/slot.rs": "        slot.result.with_mut(|cell| unsafe { *cell = Some(result) });\n" => "        let _ = &result;\n", publish_vs_peek, "published without a result";
    "store/slot.rs": "PENDING if interest(w) == 0 => w | CANCELLED," => "PENDING | RUNNING if interest(w) == 0 => (w & !PHASE) | CANCELLED,", cancel_vs_run, "FAILED";
    "store/slot.rs": "PENDING if interest(w) == 0 => w | CANCELLED," => "PENDING => w | CANCELLED,", cancel_vs_share, "although somebody shares it";
    "store/slot.rs": "            PENDING if interest(old) == 1 => {\n                self.wake(old);" => "            PENDING if interest(old) == 1 => {", cancel_vs_run, STUCK;
    "store/slot.rs": "(references(w) > 0 && !given_up(w)).then_some" => "(!given_up(w)).then_some", withdraw_vs_begin, "came back";
    "store/slot.rs": "(references(w) > 0 && !given_up(w)).then_some" => "(references(w) > 0).then_some", cancel_vs_share, "they disagree";
    "store/slot.rs": "(references(w) > 0 && !given_up(w)).then_some" => "(references(w) > 0 && phase(w) == PENDING).then_some", cut_vs_forget, "neither an origin nor a slot";
    "store/slot.rs": "Some(if references(w) == 0 && phase(w) == PENDING {" => "Some(if references(w) == 0 && phase(w) == CLOSED {", withdraw_vs_begin, "withdrawn, and run all the same";
    "store/slot.rs": "        if let Ok(old) = old {\n            self.wake(old);\n        }" => "        let _ = old;", close_vs_await, STUCK;
    "store/slot.rs": "            Self::publish(&slot, Err(K::abandoned()));" => "            drop(slot);", abandoned, STUCK;
    // waiters and parking
    "store/waiters.rs": "for waker in self.0.into_iter().flatten() {" => "for waker in self.0.into_iter().flatten().take(1) {", two_waiters, STUCK;
    "store/waiters.rs": "let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));" => "waker.wake();", waker_panics, "FAILED";
    "store/waiters.rs": "return self.list[key.0].replace(waker);" => "return Some(waker);", waker_replaced, STUCK;
    "store/waiters.rs": "self.list[key.0].take()" => "None", drop_before_publish, "a waker was left behind";
    "actor/park.rs": "        state.woken = true;\n" => "", publish_vs_await, STUCK;
    "actor/park.rs": "        if asleep {\n" => "        if !asleep {\n", publish_vs_await, STUCK;
    // the store and the task
    "store/node_store.rs": "Some(slot) if slot.share() => (Alter::Keep, Ok(slot.clone()))," => "", claim_race, "computed twice";
    "store/node_store.rs": "            released = slot.release(false);\n            released != Released::Held" => "            released = slot.release(false);\n            true", withdraw_vs_fill, "is still there";
    "store/node_store.rs": "        self.removed(entry?, released)" => "        drop((entry?, released)); None", withdraw_submitted, "left == right";
    "store/node_store.rs": "            (self.call_owner)();" => "", home_vs_leave, "sent home without a call";
    "store/node_store.rs": "home.doomed.lock().take().unwrap_or_default()" => "Vec::new()", home_vs_leave, "was left on its way home";
    "store/task.rs": "if self.wanted.load(Relaxed) == 0 {" => "if false {", cancel_vs_fill, "is still there";
    "store/task.rs": "self.outputs.iter().for_each(|output| output.close());" => "", submit_vs_abort, STUCK;
    "store/slot.rs": "let old = self.word.fetch_update(AcqRel, Relaxed, |w| {" => "let old = self.word.fetch_update(Acquire, Relaxed, |w| {", read_vs_free, RACE;
    "store/slot.rs": "let old = self.word.fetch_update(AcqRel, Relaxed, |w| {" => "let old = self.word.fetch_update(Release, Relaxed, |w| {", read_vs_free, RACE;
    "store/node_store.rs": "            None if released == Released::Ended => {" => "            None if released != Released::Held => {", read_vs_free, RACE;
    // the origin
    "origin.rs": "fetch_sub(READER, AcqRel)" => "fetch_sub(READER, Relaxed)", forget_vs_readers, RACE;
    "origin.rs": "fetch_or(FORGOTTEN, AcqRel) == 0" => "fetch_or(FORGOTTEN, Relaxed) == 0", forget_vs_readers, RACE;
    "origin.rs": "fetch_or(FORGOTTEN, AcqRel) == 0" => "fetch_or(FORGOTTEN, AcqRel) != FORGOTTEN", forget_vs_readers, RACE;
    "origin.rs": "(w & FORGOTTEN == 0).then_some(w + READER)" => "Some(w + READER)", forget_vs_readers, RACE;
    "origin.rs": "== READER | FORGOTTEN {" => "== FORGOTTEN {", forget_vs_readers, "an origin was left behind";
    // parameter sets
    "versions.rs": "self.0.rcu(|old| match f(&old.value) {" => "let seen = self.snapshot();\n        self.0.rcu(|old| match f(&seen.value) {", updates_race, "an update was lost";
    "versions.rs": "number = old.number + 1;" => "number = 1;", updates_race, "no version of its own";
    "versions.rs": "                failed = None;\n" => "", refused_vs_update, "refused, and applied all the same";
    // admission
    "actor/admission.rs": "            false => w | LINE," => "            false => w,", line_vs_release, STUCK;
    "actor/admission.rs": "(w & (CLOSED | LINE) == 0 && weight.fits(w)).then(|| w - weight.units())" => "(w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())", no_overtaking, "overtaken";
    "actor/admission.rs": "(w & (CLOSED | LINE) == 0 && weight.fits(w)).then(|| w - weight.units())\n        });" => "(w & LINE == 0 && weight.fits(w)).then(|| w - weight.units())\n        });", unused_permit_vs_close, "FAILED";
    "actor/admission.rs": "granted.is_some_and(|weight| self.give(weight.units()))" => "granted.is_some_and(|_| false)", baton, STUCK;
    "actor/admission.rs": "        refused.into_iter().for_each(|w| wake_one(w.waker));\n" => "        drop(refused);\n", close_vs_line, STUCK;
    "actor/admission.rs": "self.word.fetch_add(units, Release)" => "self.word.fetch_add(units, Relaxed)", permit_means_room, "a permit, and no room";
    "actor/admission.rs": "        old & CLOSED != 0\n    }" => "        old & CLOSED == u64::MAX\n    }", last_permit_vs_close, "nobody was told";
    "store/task.rs": "let last = self.wanted.fetch_sub(1, Relaxed) == 1;" => "let last = self.wanted.fetch_sub(1, Relaxed) == 0;", cancel_vs_fill, "is still there";
    "actor/admission.rs": "(w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())\n            });" => "weight.fits(w).then(|| w - weight.units())\n            });", drained_vs_line, "let in after the owner could leave";
    "actor/admission.rs": "let taken = self.word.fetch_update(Acquire, Relaxed, |w| {\n            (w & (CLOSED" => "let taken = self.word.fetch_update(Relaxed, Relaxed, |w| {\n            (w & (CLOSED", permit_means_room, "a permit, and no room";
    "actor/admission.rs": "            .fetch_update(Acquire, Relaxed, |w| (w & CLOSED == 0).then(|| take(w)));" => "            .fetch_update(Relaxed, Relaxed, |w| (w & CLOSED == 0).then(|| take(w)));", lined_up_means_room, "a permit, and no room";
    "actor/admission.rs": "let taken = self.word.fetch_update(Acquire, Relaxed, |w| {\n                (w & CLOSED" => "let taken = self.word.fetch_update(Relaxed, Relaxed, |w| {\n                (w & CLOSED", passed_on_means_room, "a permit, and no room";
    // the turn
    "actor/turn.rs": "let old = self.word.fetch_or(set, Release);" => "let old = self.word.fetch_or(set, Relaxed);", post_vs_rest, STUCK;
    "actor/turn.rs": "let old = self.word.fetch_or(CALLED, Release);" => "let old = self.word.fetch_or(CALLED, Relaxed);", call_vs_rest, STUCK;
    "actor/turn.rs": "self.word.fetch_and(!PENDING, Acquire);" => "self.word.fetch_and(!PENDING, Relaxed);", borrow_vs_owner, RACE;
    "actor/turn.rs": "self.word.fetch_update(Release, Relaxed, |w| Some(next(w)))" => "self.word.fetch_update(Relaxed, Relaxed, |w| Some(next(w)))", lend_vs_close, RACE;
    "actor/turn.rs": "let rest = self.word.compare_exchange(HELD, 0, Release, Relaxed);" => "let rest = self.word.compare_exchange(HELD, 0, Relaxed, Relaxed);", lend_after_owner, RACE;
    "actor/turn.rs": "let rest = self.word.compare_exchange(HELD, 0, Release, Relaxed);" => "let rest: Result<usize, usize> = Ok(self.word.swap(0, Release));", post_vs_rest, STUCK;
    "actor/turn.rs": "let busy = left || w & (PENDING | CALLED) != 0;" => "let busy = w & (PENDING | CALLED) != 0 && !left;", borrow_vs_owner, STUCK;
    "actor/turn.rs": "let busy = left || w & (PENDING | CALLED) != 0;" => "let busy = left;", post_vs_hand_back, STUCK;
    "actor/turn.rs": "        if call {\n            self.owner.unpark();" => "        if call {", post_vs_rest, STUCK;
    "actor/turn.rs": "(w & (HELD | PENDING) == PENDING).then_some(w | HELD)" => "(w & PENDING == PENDING).then_some(w | HELD)", two_borrowers, "FAILED";
    "actor/turn.rs": "        if next(old) & CALLED != 0 {\n            self.owner.unpark();\n        }" => "", borrow_vs_owner, STUCK;
    // lending: who calls the owner
    "actor/core.rs": "            fence(SeqCst);\n            // A fragment" => "            // A fragment", deferred_vs_waiter, STUCK;
    "actor/core.rs": "            fence(SeqCst);\n            self.turn.call_if_unattended();" => "            self.turn.call_if_unattended();", deferred_vs_waiter, STUCK;
    "actor/core.rs": "            fence(SeqCst);\n            self.turn.call_if_unattended();" => "            fence(crate::sync::Ordering::AcqRel);\n            self.turn.call_if_unattended();", deferred_vs_waiter, STUCK;
    "actor/core.rs": "outputs.iter().any(|o| o.has_waiters()) || self.admission.queued() > 1" => "self.admission.queued() > 1", deferred_vs_waiter, STUCK;
    "actor/core.rs": "outputs.iter().any(|o| o.has_waiters()) || self.admission.queued() > 1" => "outputs.iter().any(|o| o.has_waiters())", deferred_vs_dependent, STUCK;
    "actor/core.rs": "            core.nudge(); // the queue may be full of what nobody attends to" => "", deferred_vs_line, STUCK;
    "actor/core.rs": "if wanted || self.admission.has_line() {" => "if wanted {", deferred_vs_line, STUCK;
    "actor/submission.rs": "            self.core.nudge(); // a tensor may still refer to the result" => "", deferred_then_dropped, STUCK;
    // claims, the owner's loop, closing
    "actor/claim.rs": "            self.won.iter().for_each(|(_, slot)| slot.close());\n" => "", dropped_claim, STUCK;
    "actor/claim.rs": "            self.core.call_owner(); // something may be blocked on them" => "", dropped_claim, STUCK;
    "actor/core.rs": "                    owner.recheck();\n" => "", dropped_claim, STUCK;
    "actor/core.rs": "                if left {\n                    continue;\n                }\n" => "                let _ = left;\n", flood_vs_single, STUCK;
    "actor/core.rs": "if self.admission.is_drained() && self.guarded(|owner| owner.is_empty()) {" => "if self.admission.is_closed() && self.guarded(|owner| owner.is_empty()) {", submit_vs_close, "a permit is missing";
    "actor/core.rs": "                self.lose(<E::Kind as Kind>::owner_panicked(panic));" => "                drop(panic);", owner_panics, STUCK;
    "store/task.rs": "if !payload.rest.is_empty() {" => "if false {", parts_apart, STUCK;
    "actor/owner.rs": "            .map_err(<E::Kind as Kind>::panicked)" => "            .map_err(<E::Kind as Kind>::owner_panicked)", engine_panics, "left == right";
    "actor/owner.rs": "Err(_) if several && self.engine.lost().is_none() => {" => "Err(_) if several && false => {", late_error, "FAILED";
    "actor/core.rs": "        if self.admission.release(weight) {\n            self.turn.call();" => "        if self.admission.release(weight) {", unused_permit_vs_close, STUCK;
    "actor/core.rs": "        self.done.set();" => "", submit_await_close, STUCK;
    "actor/event.rs": "        woken.wake();" => "        drop(woken);", submit_await_close, STUCK;
    // batches
    "actor/line.rs": "Look::Leave => *place += 1," => "Look::Leave => drop(queue.remove(*place)),", dependent_stays_behind, STUCK;
    "actor/owner.rs": "                    self.push_front(task);\n                }\n            }" => "                    drop(task);\n                }\n            }", parts_apart, STUCK;
    "actor/owner.rs": "                    self.run(SmallVec::from_iter([culprit]), core);" => "                    drop(culprit);", spoiler_runs_apart, "left == right";
    "actor/owner.rs": "                _ => break," => "                _ => return,", wrecked_batch, "left == right";
    "actor/owner.rs": "            drop(<E::Kind as Kind>::panicked(panic)); // with care: it is foreign" => "            std::panic::resume_unwind(panic);", wrecked_batch, "left == right";
    "actor/owner.rs": "            E::Kind::given_up(&mut payload.work, place);" => "            let _ = (&mut payload.work, place);", given_up_beside, "neither an origin nor a slot";
    // helpers
    "actor/crew.rs": "(w & OPEN != 0 && number(w) != last).then_some(w + INSIDE)" => "(number(w) != last).then_some(w + INSIDE)", share_twice, RACE;
    "actor/crew.rs": "(w & OPEN != 0 && number(w) != last).then_some(w + INSIDE)" => "(number(w) != last).then_some(w + INSIDE)", share_without_waking, RACE;
    "actor/crew.rs": "let entered = self.word.fetch_update(Acquire, Relaxed, |w| {" => "let entered = self.word.fetch_update(Relaxed, Relaxed, |w| {", share_twice, RACE;
    "actor/crew.rs": ".fetch_update(Release, Relaxed, |w| Some(w.wrapping_add(NUMBER) | OPEN));" => ".fetch_update(Relaxed, Relaxed, |w| Some(w.wrapping_add(NUMBER) | OPEN));", share_twice, RACE;
    "actor/crew.rs": "self.word.fetch_sub(INSIDE, Release)" => "self.word.fetch_sub(INSIDE, Relaxed)", share_twice, RACE;
    "actor/crew.rs": "let mut word = self.word.fetch_and(!OPEN, Acquire);" => "let mut word = self.word.fetch_and(!OPEN, Relaxed);", share_twice, RACE;
    "actor/crew.rs": "            word = self.word.load(Acquire);" => "            word = self.word.load(Relaxed);", share_twice, RACE;
    "actor/crew.rs": "            self.caller.unpark();" => "", share_twice, STUCK;
    "actor/crew.rs": "(w & STOP == 0 && !work).then_some(w | ASLEEP)" => "(!work).then_some(w | ASLEEP)", share_twice, STUCK;
    "actor/crew.rs": ".fetch_update(Acquire, Relaxed, |w| (w & HELD == 0).then_some(w | HELD));" => ".fetch_update(Relaxed, Relaxed, |w| (w & HELD == 0).then_some(w | HELD));", two_callers, RACE;
    "actor/crew.rs": "(w & HELD == 0).then_some(w | HELD)" => "Some(w | HELD)", two_callers, "FAILED";
    "actor/crew.rs": "iter::from_fn(next).for_each(&run)" => "next().into_iter().for_each(&run)", share_parts, "a part was not done once";
    "actor/crew.rs": "let unused = self.panic.lock().replace(panic);" => "let unused = Some(panic);", shared_work_panics, "FAILED";
    // turns and deadlines
    "store/slot.rs": "(w & !DUE) + INTEREST + REFERENCE" => "w + INTEREST + REFERENCE", expire_vs_share, "they disagree";
    "store/slot.rs": "        if let Ok(late) = old {\n            self.wake(late);\n        }" => "", expire_vs_await, STUCK;
    "store/slot.rs": "(phase(w) == PENDING && w & DUE != 0).then_some" => "(w & DUE != 0).then_some", expire_vs_cancel, "FAILED";
    "store/slot.rs": "matches!(phase(word), CANCELLED | EXPIRED)" => "matches!(phase(word), CANCELLED)", late_vs_submit, "FAILED";
    "actor/owner.rs": "                true => core.expired(task)," => "                true => {}", late_vs_submit, STUCK;
    "actor/owner.rs": "            self.receive(core); // whoever came" => "            // whoever came", flood_vs_single, "overtaken";
    "actor/line.rs": "            false => self.turns.push_back(at),\n        }\n        item" => "            false => self.turns.push_front(at),\n        }\n        item", flood_vs_single, "overtaken";
    // protocols again, one line each
    "store/slot.rs": "        if let Some(key) = key.take() {\n            self.deregister(key);\n        }\n        Poll::Ready(())" => "        Poll::Ready(())", poll_vs_publish, "a waker was left behind";
    "store/waiters.rs": "        if self.taken {\n            return None;" => "        if false {\n            return None;", drop_while_publishing, "index out of bounds";
    "actor/park.rs": "            state.asleep = true;\n            state = self.wake.wait(state);" => "            state = self.wake.wait(state);", publish_vs_await, STUCK;
    "store/node_store.rs": "slot.share().then(|| slot.clone())" => "Some(slot.clone())", release_vs_acquire, "is still in the store";
    "store/node_store.rs": "Released::Withdrawn => slot.task().output_gone()," => "Released::Withdrawn => None,", withdraw_vs_fill, "is still there";
    "store/task.rs": "inputs.find(|i| !i.slot().is_finished())?" => "inputs.find(|_| false)?", dependency_order, "a fragment begins when every input has ended";
    "actor/admission.rs": "        let first = line.waiting.is_empty();" => "        let first = true;", no_overtaking_in_line, "overtaken";
    "actor/admission.rs": "        let woken = self.serve(&mut line);\n        drop(line);\n        drop(waker);" => "        let woken = Vec::new();\n        drop(line);\n        drop(waker);", quitter_lets_the_next_go, STUCK;
    "actor/admission.rs": "        self.word.fetch_and(!LINE, Relaxed);\n" => "", line_vs_release, "the line is over";
    "actor/admission.rs": "word / BYTE >= self.0" => "word / BYTE >= self.0 / BYTE", bytes_vs_release, "left == right";
    "actor/turn.rs": "        if old & (HELD | CALLED) != 0 {\n            return;" => "        if old & (HELD | CALLED | PENDING) != 0 {\n            return;", call_behind_deferred, STUCK;
    "actor/turn.rs": "} else if old & PENDING != 0 {" => "} else if false {", two_deferred, STUCK;
    "actor/turn.rs": "self.word.fetch_update(Release, Relaxed, |w| Some(next(w)))" => "self.word.fetch_update(Acquire, Relaxed, |w| Some(next(w)))", borrow_after_borrow, RACE;
    "actor/turn.rs": "(w & (HELD | CALLED) == CALLED).then_some(HELD)" => "(w & CALLED == CALLED).then_some(HELD)", post_vs_hand_back, RACE;
    "actor/core.rs": "                let left = self.guarded(|owner| {\n                    owner.receive(self);\n" => "                let left = self.guarded(|owner| {\n                    owner.receive(self);\n                    self.turn.start_round();\n", round_vs_deferred, STUCK;
    "actor/core.rs": "self.turn.call_if_unattended();" => "", deferred_vs_waiter, STUCK;
    "actor/core.rs": "        self.doomed.store(1, Relaxed);\n" => "", owner_panics, "left == right";
    "actor/core.rs": "place.is_some_and(|place| self.core.admission.leave(place))" => "place.is_some_and(|place| { let _ = self.core.admission.leave(place); false })", dropped_admission, STUCK;
    "actor/core.rs": "        let place = self.place.take();\n" => "        let place = None::<Place>;\n", dropped_admission, STUCK;
    "actor/core.rs": "drop(self.store.close_home());" => "", release_vs_close, "was left on its way home";
    "actor/core.rs": "std::mem::forget(permit); // it travels with the message" => "", submit_await_close, STUCK;
    "actor/core.rs": "self.core.give_back(self.weight);" => "", unused_permit_vs_close, STUCK;
    "actor/owner.rs": "                false => core.withdrawn(task)," => "                false => {}", withdraw_submitted, STUCK;
    "actor/owner.rs": "Taken::Withdrawn => core.withdrawn(&task)," => "Taken::Withdrawn => {}", withdraw_submitted, STUCK;
    "actor/owner.rs": "        core.withdrawn(&task);\n        true" => "        true", submit_vs_abort, STUCK;
    "actor/event.rs": "        if state.happened {" => "        if false {", submit_await_close, STUCK;
    "actor/submission.rs": "let interested = self.cancelled.load(Relaxed) == 0;" => "let interested = true;", two_withdraw, "left == right";
    "actor/submission.rs": "if self.cancelled.swap(1, Relaxed) != 0 {" => "if false {", two_withdraw, "FAILED";
    "actor/submission.rs": "drop(output.task().output_gone());" => "", two_withdraw, "is still there";
}
