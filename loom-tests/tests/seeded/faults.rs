//! The table of faults. Paths are below `src`.

use super::copy::STUCK;

/// What loom says of accesses that nothing orders.
const RACE: &str = "Causality violation";
/// More was taken, or given back, than there was.
const OVERFLOW: &str = "subtract with overflow";
/// What loom says of threads that go round for ever.
const ENDLESS: &str = "exceeded maximum number of branches";

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
    "core/store/begun.rs": "let old = slot.word.fetch_add(to - from, Release);" => "let old = slot.word.fetch_add(to - from, crate::core::sync::Ordering::Relaxed);", publish_vs_peek, RACE;
    "core/store/slot.rs": "        let word = self.word.load(Acquire);\n        ended(word)" => "        let word = self.word.load(Relaxed);\n        ended(word)", publish_vs_peek, RACE;
    "core/store/slot.rs": "        let word = self.word.load(Acquire);\n        (phase(word) >= ISSUED)" => "        let word = self.word.load(Relaxed);\n        (phase(word) >= ISSUED)", dropped_claim, RACE;
    "core/store/slot.rs": "let old = self.word.fetch_update(AcqRel, Relaxed, |w| {" => "let old = self.word.fetch_update(Acquire, Relaxed, |w| {", read_vs_free, RACE;
    "core/store/slot.rs": "let old = self.word.fetch_update(AcqRel, Relaxed, |w| {" => "let old = self.word.fetch_update(crate::core::sync::Ordering::Release, Relaxed, |w| {", read_vs_free, RACE;
    // the slot: publishing and waiting
    "core/store/slot.rs": "let word = self.word.fetch_or(WAITERS, Relaxed);" => "self.word.fetch_or(WAITERS, Relaxed); let word = PENDING;", publish_vs_await, STUCK;
    "core/store/begun.rs": "        slot.wake(old);" => "        let _ = old;", publish_vs_await, STUCK;
    "core/store/begun.rs": "        slot.wake(old);" => "        if !self.issued { slot.wake(old) }", issue_vs_await, STUCK;
    "core/store/begun.rs": "            Self::write(&slot, result);" => "            drop(result);", publish_vs_peek, "published without a result";
    "core/store/begun.rs": "slot.word.fetch_add(ISSUED - RUNNING, Release);" => "slot.word.fetch_add(READY - RUNNING, Release);", issue_vs_await, "assertion failed: s.is_issued()";
    "core/store/begun.rs": "            self.end(Some(Err(K::abandoned())), if_ok);" => "            drop(self.slot.take());", abandoned, STUCK;
    "core/store/slot.rs": "        if let Some(key) = key.take() {\n            self.deregister(key);\n        }\n        Poll::Ready(())" => "        Poll::Ready(())", poll_vs_publish, "a waker was left behind";
    // the slot: given up, closed, refused
    "core/store/slot.rs": "PENDING if interest(w) == 0 => w + CANCELLED," => "PENDING | RUNNING if interest(w) == 0 => (w & !PHASE) + CANCELLED,", cancel_vs_run, "they disagree: (Running, Expired)";
    "core/store/slot.rs": "PENDING if interest(w) == 0 => w + CANCELLED," => "PENDING => w + CANCELLED,", cancel_vs_share, "although somebody shares it";
    "core/store/slot.rs": "return (Cancel::Cancelled, self.take_waiters(old))," => "return (Cancel::Cancelled, Woken::default()),", cancel_vs_run, STUCK;
    "core/store/slot.rs": "Some(if references(w) == 0 && phase(w) == PENDING {" => "Some(if references(w) == 0 && phase(w) == CLOSED {", withdraw_vs_begin, "withdrawn, and run all the same";
    "core/store/slot.rs": "        if let Ok(old) = old {\n            self.wake(old);\n        }" => "        let _ = old;", close_vs_await, STUCK;
    "core/store/slot.rs": "            begun.refuse(error);" => "            drop(error); std::mem::forget(begun);", refuse_vs_await, STUCK;
    "core/store/begun.rs": "        self.end(Some(Err(error)), |_| REFUSED);" => "        self.end(Some(Err(error)), if_ok);", refuse_vs_await, "a refused slot is shared";
    "core/store/slot.rs": "(phase(w) == PENDING).then_some(w + RUNNING)" => "(phase(w) <= PENDING || phase(w) == CANCELLED).then_some((w & !PHASE) + RUNNING)", withdraw_vs_begin, "withdrawn, and run all the same";
    "core/store/word.rs": "matches!(phase(word), CANCELLED | EXPIRED | REFUSED)" => "matches!(phase(word), CANCELLED | EXPIRED)", refuse_vs_await, "a refused slot is shared";
    "core/store/word.rs": "matches!(phase(word), CANCELLED | EXPIRED | REFUSED)" => "matches!(phase(word), CANCELLED | REFUSED)", expire_vs_share, "they disagree";
    "core/store/word.rs": "    if interest(before) > MOST_REFERENCES {" => "    if references(before) == 0 {", too_many_references, "a count can wrap";
    "core/store/slot.rs": "        old.is_ok_and(check)" => "        old.is_ok()", too_many_references, "a count can wrap";
    // the slot: sharing, and on what a cut may lean
    "core/store/slot.rs": "(references(w) > 0 && !given_up(w) && may(w))" => "(!given_up(w) && may(w))", withdraw_vs_begin, "came back";
    "core/store/slot.rs": "(references(w) > 0 && !given_up(w) && may(w))" => "(references(w) > 0 && may(w))", cancel_vs_share, "they disagree";
    "core/store/slot.rs": "(references(w) > 0 && !given_up(w) && may(w))" => "(references(w) > 0 && phase(w) == PENDING && may(w))", cut_vs_forget, "neither an origin nor a slot";
    "core/store/slot.rs": "(references(w) > 0 && !given_up(w) && may(w))" => "(references(w) > 0 && !given_up(w) && (may(w) || true))", lean_vs_begin, "leaned on what may wait";
    "core/store/slot.rs": "self.number < than || begun(w)" => "self.number <= than || begun(w)", lean_vs_begin, "leaned on what may wait";
    "core/store/slot.rs": "self.number < than || begun(w)" => "self.number < than", lean_vs_forget, "neither an origin nor a slot";
    "core/store/word.rs": "matches!(phase(word), RUNNING | ISSUED | READY | FAILED)" => "matches!(phase(word), READY | FAILED)", lean_vs_forget, "neither an origin nor a slot";
    // the slot: deadlines
    "core/store/slot.rs": "        if let Ok(late) = old {\n            self.wake(late);\n        }" => "        let _ = old;", expire_vs_await, STUCK;
    "core/store/slot.rs": "(phase(w) == PENDING && w & DUE != 0 && interest(w) <= 1)" => "(w & DUE != 0 && interest(w) <= 1)", expire_vs_close, "published without a result";
    "core/store/slot.rs": "(phase(w) == PENDING && w & DUE != 0 && interest(w) <= 1)" => "(phase(w) == PENDING && w & DUE != 0)", expire_vs_share, "they disagree";
    "core/store/slot.rs": "(phase(w) == PENDING && w & DUE != 0 && interest(w) <= 1)" => "(phase(w) == PENDING && interest(w) <= 1)", claimant_lets_go, "another's result was given up";
    "core/store/slot.rs": "let clear = if claimed { DUE } else { 0 };" => "let clear = if claimed { 0 } else { DUE };", claimant_lets_go, "another's result was given up";
    "core/store/slot.rs": "Share::Claim if interest(w) > 0 => DUE," => "Share::Claim if interest(w) > 0 => 0,", claimant_is_dropped, "another's result was given up";
    "core/store/slot.rs": "Share::Claim if interest(w) > 0 => DUE," => "Share::Claim | Share::Interest if interest(w) > 0 => DUE,", interest_comes_and_goes, "a deadline was lifted for good";
    "core/store/slot.rs": "Share::Claim if interest(w) > 0 => DUE," => "Share::Claim => DUE,", dropped_late, "ran after its deadline";
    "core/store/slot.rs": "interest(w) <= 1).then_some(w + EXPIRED)" => "interest(w) == 1).then_some(w + EXPIRED)", dropped_late, "ran after its deadline";
    "core/store/slot.rs": "if interest(w) == 0 { DUE } else { 0 }" => "if interest(w) == 0 { 0 } else { 0 }", dropped_late_vs_submit, "another's result was given up";
    "core/store/slot.rs": "if interest(w) == 0 { DUE } else { 0 }" => "DUE", interest_comes_and_goes, "a deadline was lifted for good";
    // waiters, parking and foreign code
    "core/store/waiters.rs": "for waker in self.0.into_iter().flatten() {" => "for waker in self.0.into_iter().flatten().take(1) {", two_waiters, STUCK;
    "core/store/waiters.rs": "contain(|| waker.wake());" => "waker.wake(); contain(|| ());", waker_panics, "the scenario panicked: a waker";
    "core/store/waiters.rs": "return self.list[key.0].replace(waker);" => "return Some(waker);", waker_replaced, STUCK;
    "core/store/waiters.rs": "self.list[key.0].take()" => "None", drop_before_publish, "a waker was left behind";
    "core/store/waiters.rs": "        if self.taken {\n            return None;" => "        if false {\n            return None;", drop_while_publishing, "index out of bounds";
    "core/actor/park.rs": "        state.woken = true;\n" => "", publish_vs_await, STUCK;
    "core/actor/park.rs": "        if asleep {\n" => "        if !asleep {\n", publish_vs_await, STUCK;
    "core/actor/park.rs": "            state.asleep = true;\n            state = self.wake.wait(state);" => "            state = self.wake.wait(state);", publish_vs_await, STUCK;
    "core/panics.rs": "    if let Err(again) = catch(|| drop(payload)) {\n        std::mem::forget(again);\n    }" => "    drop(payload);", panics_twice, "the scenario panicked: a destructor";
    "core/panics.rs": "    if let Err(again) = catch(|| drop(payload)) {\n        std::mem::forget(again);\n    }" => "    drop(catch(|| drop(payload)));", panics_twice, "left: Failed(OwnerLost)\n right: Failed(Panicked)";
    "core/panics.rs": "    catch(run).map_err(discard).ok()" => "    Some(run())", dropped_work_panics, "left: Failed(OwnerLost)\n right: Ready(2)";
    // the store
    "core/store/node_store.rs": "Some(slot) if slot.share(Lean::Any) => (Alter::Keep, Ok(slot.clone()))," => "", claim_race, "computed twice";
    "core/store/node_store.rs": "            released = slot.release(Share::Node);\n            released != Released::Held" => "            released = slot.release(Share::Node);\n            true", withdraw_vs_fill, "is still there";
    "core/store/node_store.rs": "        self.removed(entry?, released)" => "        drop((entry?, released)); None", withdraw_vs_fill, "is still there";
    "core/store/node_store.rs": "            (self.call_owner)();" => "", home_vs_leave, "sent home without a call";
    "core/store/node_store.rs": "home.doomed.lock().take().unwrap_or_default()" => "Vec::new()", home_vs_leave, "was left on its way home";
    "core/store/node_store.rs": "            None if released == Released::Ended => {" => "            None if released != Released::Held => {", read_vs_free, RACE;
    "core/store/node_store.rs": "        let look = |slot: &Arc<Slot<K>>| match slot.share(lean) {" => "        let look = |slot: &Arc<Slot<K>>| match true {", release_vs_acquire, OVERFLOW;
    "core/store/node_store.rs": "Released::Withdrawn => slot.task().output_gone()," => "Released::Withdrawn => None,", withdraw_vs_fill, "is still there";
    "core/store/node_store.rs": "        if !self.released {\n            drop(" => "        if false {\n            drop(", late_vs_dependent, "a node without references";
    "core/store/node_store.rs": "        self.released = true;\n        self.slot.clone()" => "        self.slot.clone()", same_node, OVERFLOW;
    // the task and its payload
    "core/store/task.rs": "if self.wanted.load(Relaxed) > 0 {" => "if self.wanted.load(Relaxed) < usize::MAX {", cancel_vs_fill, "is still there";
    "core/store/task.rs": "let last = self.wanted.fetch_sub(1, Relaxed) == 1;" => "let last = self.wanted.fetch_sub(1, Relaxed) == 0;", cancel_vs_fill, "is still there";
    "core/store/task.rs": "self.outputs.iter().for_each(|output| output.close());" => "", submit_vs_abort, STUCK;
    "core/store/task.rs": "inputs.find(|slot| !slot.is_issued())" => "inputs.find(|slot| slot.id() == NodeId::MAX)", dependency_order, "a fragment begins when every input has ended";
    "core/store/task.rs": "            permit.withdraw();" => "            std::mem::forget(permit);", two_withdraw, "it still takes a place";
    "core/store/task.rs": "            permit.withdraw();" => "            std::mem::forget(permit);", withdraw_vs_close, STUCK;
    // husks: messages whose work was withdrawn
    "core/actor/gate.rs": "self.gate.husks.fetch_update(Acquire, Relaxed, |husks| {" => "self.gate.husks.fetch_update(Relaxed, Relaxed, |husks| {", husk_means_room, "has a place for every permit";
    "core/actor/gate.rs": "self.husks.fetch_sub(1, Release);" => "self.husks.fetch_sub(1, Relaxed);", husk_means_room, "has a place for every permit";
    "core/actor/gate.rs": "(husks < most).then_some(husks + 1)" => "(husks <= most).then_some(husks + 1)", husk_means_room, "has a place for every permit";
    "core/actor/gate.rs": "(husks < most).then_some(husks + 1)" => "(husks < most).then_some(husks)", husk_means_room, "has a place for every permit";
    "core/actor/gate.rs": "        self.husks.fetch_sub(1, Release);" => "", husks_are_counted, "a husk is still counted";
    "core/actor/owner.rs": "Received::Husk { permit: None } => core.gate().husk_received()," => "Received::Husk { permit: None } => {}", husks_are_counted, "a husk is still counted";
    "core/actor/owner.rs": "Received::Husk { permit } => drop(permit)," => "Received::Husk { permit } => std::mem::forget(permit),", kept_permit_comes_back, STUCK;
    "core/store/task.rs": "        if !cell.received {\n            let permit" => "        {\n            let permit", husks_are_counted, "a husk is still counted";
    "core/store/task.rs": "        if !cell.received {\n            let permit" => "        if cell.received {\n            let permit", husk_means_room, "has a place for every permit";
    "core/store/task.rs": "        cell.received = true;\n" => "", husks_are_counted, "a husk is still counted";
    "core/store/task.rs": "Some(permit) if permit.leave_husk() => (Some(permit), None)," => "Some(permit) if false => (Some(permit), None),", two_withdraw, "it still takes a place";
    "core/store/task.rs": "                other => (None, other)," => "                other => (other, None),", husk_means_room, "has a place for every permit";
    // the origin
    "core/origin.rs": "fetch_sub(READER, AcqRel)" => "fetch_sub(READER, Relaxed)", forget_vs_readers, RACE;
    "core/origin.rs": "fetch_or(FORGOTTEN, AcqRel) == 0" => "fetch_or(FORGOTTEN, Relaxed) == 0", forget_vs_readers, RACE;
    "core/origin.rs": "fetch_or(FORGOTTEN, AcqRel) == 0" => "fetch_or(FORGOTTEN, AcqRel) != FORGOTTEN", forget_vs_readers, RACE;
    "core/origin.rs": "fetch_or(FORGOTTEN, AcqRel) == 0" => "fetch_or(FORGOTTEN, Acquire) == 0", lean_vs_forget, "neither an origin nor a slot";
    "core/origin.rs": "self.word.fetch_update(Relaxed, Acquire, |w| {" => "self.word.fetch_update(Relaxed, Relaxed, |w| {", lean_vs_forget, "neither an origin nor a slot";
    "core/origin.rs": "(w & FORGOTTEN == 0).then_some(w + READER)" => "Some(w + READER)", forget_vs_readers, RACE;
    "core/origin.rs": "contain(|| drop(forgotten));" => "drop(forgotten);", pinned_panics, "the forgetter met the panic";
    "core/origin.rs": "contain(|| drop(value));" => "drop(value);", pinned_panics, "the reader met the panic";
    "core/origin.rs": "== READER | FORGOTTEN {" => "== FORGOTTEN {", forget_vs_readers, "an origin was left behind";
    // the walk of a cut
    "core/cut.rs": "        while self.0.pop().is_some() {}\n" => "", inner_vs_run, RACE;
    "core/cut.rs": "operand.is_shared()" => "false", operand_lets_go, RACE;
    "core/cut.rs": "self.enter(root, true, &mut open, pins)?" => "self.enter(root, false, &mut open, pins)?", inner_vs_run, RACE;
    "core/cut.rs": "Some(pinned) => pins.0.push(pinned)," => "Some(pinned) => drop(pinned),", inner_vs_run, RACE;
    "core/cut.rs": "None => continue," => "None => return self.source::<T>(node, shared).map(Some),", operand_lets_go, "is no leaf";
    "core/cut.rs": "if shared && let Some(value) = self.numbering.get(T::id(node))" => "if false && let Some(value) = self.numbering.get(T::id(node))", inner_vs_run, "a node is computed twice";
    "core/cut.rs": "        if open.shared {" => "        if false {", inner_vs_run, "a node is computed twice";
    "core/cut.rs": "        self.numbering = Numbering::default();" => "", call_vs_run, "what was captured is met anew";
    "core/cut.rs": "        self.numbering.put(placeholder, value);" => "", call_vs_run, "node 9 was not submitted";
    "core/cut.rs": "            self.many.extend(self.few.iter().copied());" => "", many_shared, "a node is computed twice";
    "core/cut.rs": "            self.many.clear();" => "", many_shared, "left: [Failed(OwnerLost)]\n right: [Ready(200)]";
    "core/cut.rs": "        self.many.insert(id, value);" => "let _ = (id, value);", many_shared, "a node is computed twice";
    // parameter sets
    "core/versions.rs": "self.0.rcu(|old| match f(&old.value) {" => "let seen = self.snapshot();\n        self.0.rcu(|old| match f(&seen.value) {", updates_race, "an update was lost";
    "core/versions.rs": "number = old.number + 1;" => "number = 1;", updates_race, "no version of its own";
    "core/versions.rs": "                failed = None;\n" => "", refused_vs_update, "refused, and applied all the same";
    // admission: orderings
    "core/actor/admission.rs": "let old = self.word.fetch_add(units, Release);" => "let old = self.word.fetch_add(units, Relaxed);", permit_means_room, "a permit, and no room";
    "core/actor/admission.rs": "let taken = self.word.fetch_update(Acquire, Relaxed, |w| {\n            (w & (CLOSED" => "let taken = self.word.fetch_update(Relaxed, Relaxed, |w| {\n            (w & (CLOSED", permit_means_room, "a permit, and no room";
    "core/actor/admission.rs": "            .fetch_update(Acquire, Relaxed, |w| (w & CLOSED == 0).then(|| take(w)));" => "            .fetch_update(Relaxed, Relaxed, |w| (w & CLOSED == 0).then(|| take(w)));", lined_up_means_room, "a permit, and no room";
    "core/actor/admission.rs": "let taken = self.word.fetch_update(Acquire, Relaxed, |w| {\n                (w & CLOSED" => "let taken = self.word.fetch_update(Relaxed, Relaxed, |w| {\n                (w & CLOSED", passed_on_means_room, "a permit, and no room";
    // admission: the line
    "core/actor/admission.rs": "            false => w | LINE," => "            false => w,", line_vs_release, STUCK;
    "core/actor/admission.rs": "(w & (CLOSED | LINE) == 0 && weight.fits(w)).then(|| w - weight.units())" => "(w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())", no_overtaking, "overtaken";
    "core/actor/admission.rs": "(w & (CLOSED | LINE) == 0 && weight.fits(w)).then(|| w - weight.units())" => "(w & LINE == 0 && weight.fits(w)).then(|| w - weight.units())", unused_permit_vs_close, "a permit is missing";
    "core/actor/admission.rs": "        let first = queue.waiting.is_empty();" => "        let first = true;", no_overtaking_in_line, "overtaken";
    "core/actor/admission.rs": "        // whoever stood behind may fit now\n        let woken = self.serve(&mut queue);" => "        let woken: Vec<Waker> = Vec::new();", quitter_lets_the_next_go, STUCK;
    "core/actor/admission.rs": "behind | granted.is_some_and(|granted| self.give(granted.weight.units()))" => "behind | granted.is_some_and(|_| false)", baton, STUCK;
    "core/actor/admission.rs": "        self.word.fetch_and(!LINE, Relaxed);\n" => "", line_vs_release, "the line is over";
    "core/actor/admission.rs": "word / BYTE >= self.0" => "word / BYTE >= self.0 / BYTE", bytes_vs_release, OVERFLOW;
    "core/actor/admission.rs": "queue.line.push(tag.producer, tag.priority, key);" => "queue.line.push(tag.producer, crate::core::store::tag::Priority::Normal, key);", class_in_line, "the less urgent was first";
    "core/actor/admission.rs": "queue.line.push(tag.producer, tag.priority, key);" => "queue.line.push(0, tag.priority, key);", turns_in_line, "no turns";
    // admission: grants
    "core/actor/admission.rs": "        if queue.granted.remove(&key).is_some() {" => "        if queue.granted.contains_key(&key) {", lapse_vs_taker, "not one permit";
    "core/actor/admission.rs": "            !lapsed\n" => "            true\n", lapse_vs_taker, "not one permit";
    "core/actor/admission.rs": "(units > 0).then(|| self.give(units))" => "(units > 0).then(|| { self.word.fetch_add(units, Release); false })", lapse_vs_next, "it lapsed, and the next was not served";
    "core/actor/admission.rs": "(units > 0).then(|| self.give(units))" => "(units > 0).then_some(false)", lapse_vs_taker, "there is room";
    "core/actor/admission.rs": "        old & CLOSED != 0 || behind\n" => "        old & CLOSED != 0 && !behind\n", lapse_vs_next, "the owner is to see it lapse";
    "core/actor/admission.rs": "        if self.word.load(Relaxed) & LINE == 0 {" => "        if self.word.load(Relaxed) & LINE != 0 {", forgotten_grant, STUCK;
    "core/actor/shared.rs": "        self.gate.lapse();\n" => "", forgotten_grant, ENDLESS;
    "core/actor/shared.rs": "let mut next = self.gate.admission.next_lapse();" => "let mut next: Option<Deadline> = None;", forgotten_grant, STUCK;
    "core/actor/shared.rs": "next = Deadline::earlier(owner.next_limit(), next.take());" => "next = owner.next_limit();", forgotten_grant, STUCK;
    "core/actor/gate.rs": "Err(Refused::Full) if this.lapse() =>" => "Err(Refused::Full) if false =>", forgotten_grant_vs_try, "a forgotten grant does not lapse";
    "core/actor/admit.rs": "            gate.turn.call(); // the owner is to look when that grant has lapsed" => "", forgotten_grant, STUCK;
    "core/actor/admit.rs": "if *place != before && " => "if before.is_none() && ", lapsed_lines_up_anew, STUCK;
    "core/actor/admit.rs": "        let place = self.place.take();\n" => "        let place = None::<Place>;\n", dropped_grant_goes_on, STUCK;
    "core/actor/admit.rs": "place.is_some_and(|place| self.gate.admission.leave(place))" => "place.is_some_and(|place| { let _ = self.gate.admission.leave(place); false })", close_vs_dropped_grant, STUCK;
    // admission: closing
    "core/actor/admission.rs": "        refused.into_values().for_each(|w| wake_one(w.waker));\n" => "        drop(refused);\n", close_vs_line, STUCK;
    "core/actor/admission.rs": "        old & CLOSED != 0 || behind\n" => "        old & CLOSED == u64::MAX || behind\n", last_permit_vs_close, "nobody was told";
    "core/actor/admission.rs": "(w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())\n            });" => "weight.fits(w).then(|| w - weight.units())\n            });", drained_vs_line, "let in after the owner could leave";
    "core/actor/admission.rs": "let granted = std::mem::take(&mut queue.granted);" => "let granted = FxHashMap::<u64, Granted>::default();", close_vs_grant, STUCK;
    "core/actor/admission.rs": "        self.word.fetch_add(units, Relaxed);\n" => "        let _ = units;\n", close_vs_taker, "a permit is missing";
    "core/actor/admission.rs": "let granted = std::mem::take(&mut queue.granted);" => "let granted: FxHashMap<u64, Granted> = queue.granted.iter().map(|(key, granted)| (*key, Granted { weight: granted.weight, until: None })).collect();", close_vs_taker, "drained, and a permit is out";
    "core/actor/gate.rs": "        if self.gate.admission.release(self.weight) {\n            self.gate.turn.call();" => "        if self.gate.admission.release(self.weight) {", unused_permit_vs_close, STUCK;
    "core/actor/shared.rs": "if self.gate.admission.is_drained() && self.guarded(|owner| owner.is_empty()) {" => "if self.gate.admission.is_closed() && self.guarded(|owner| owner.is_empty()) {", submit_vs_close, "a permit is missing";
    "core/actor/shared.rs": "if self.gate.admission.is_drained() && self.guarded(|owner| owner.is_empty()) {" => "if self.gate.admission.is_drained() {", submit_vs_close, "left: Failed(OwnerLost)\n right: Ready(2)";
    // the turn: orderings
    "core/actor/turn.rs": "let old = self.word.fetch_or(flag, Release);" => "let old = self.word.fetch_or(flag, Relaxed);", post_vs_rest, STUCK;
    "core/actor/turn.rs": "let old = self.word.fetch_or(flag, Release);" => "let old = self.word.fetch_or(flag, if flag == CALLED { Relaxed } else { Release });", call_vs_rest, STUCK;
    "core/actor/turn.rs": "self.word.fetch_and(!PENDING, Acquire);" => "self.word.fetch_and(!PENDING, Relaxed);", borrow_vs_owner, RACE;
    "core/actor/turn.rs": "self.word.fetch_update(Release, Relaxed, |w| Some(next(w)))" => "self.word.fetch_update(Relaxed, Relaxed, |w| Some(next(w)))", run_vs_close, RACE;
    "core/actor/turn.rs": "self.word.fetch_update(Release, Relaxed, |w| Some(next(w)))" => "self.word.fetch_update(Acquire, Relaxed, |w| Some(next(w)))", borrow_after_borrow, RACE;
    "core/actor/turn.rs": "let rest = self.word.compare_exchange(HELD, 0, Release, Relaxed);" => "let rest = self.word.compare_exchange(HELD, 0, Relaxed, Relaxed);", lend_after_owner, RACE;
    // the turn: who has it, and who is woken
    "core/actor/turn.rs": "let rest = self.word.compare_exchange(HELD, 0, Release, Relaxed);" => "let rest: Result<usize, usize> = Ok(self.word.swap(0, Release));", post_vs_rest, STUCK;
    "core/actor/turn.rs": "            self.word.fetch_and(!CALLED, Relaxed);\n" => "", call_is_over, "called for nothing";
    "core/actor/turn.rs": "        if old == 0 {\n            self.owner.unpark();" => "        if old == 0 {", post_vs_rest, STUCK;
    "core/actor/turn.rs": "| if left { CALLED } else { 0 };" => "| if left { 0 } else { 0 };", borrow_vs_owner, STUCK;
    "core/actor/turn.rs": "        if next(old) != 0 {\n            self.owner.unpark();\n        }" => "", borrow_vs_owner, STUCK;
    "core/actor/turn.rs": "        if next(old) != 0 {\n" => "        if left {\n", post_vs_hand_back, STUCK;
    "core/actor/turn.rs": "        if next(old) != 0 {\n" => "        if left {\n", run_vs_post, STUCK;
    "core/actor/turn.rs": "(w & (HELD | need) == need).then_some((w | HELD) & !PENDING)" => "(w & need == need).then_some((w | HELD) & !PENDING)", borrow_after_borrow, RACE;
    "core/actor/turn.rs": "(w & (HELD | need) == need).then_some((w | HELD) & !PENDING)" => "(w & (HELD | need) == need).then_some(HELD)", call_vs_borrow, STUCK;
    "core/actor/turn.rs": "(w & (HELD | need) == need).then_some((w | HELD) & !PENDING)" => "(w & (HELD | need) == need).then_some(w | HELD)", two_borrowers, "both, or neither";
    "core/actor/turn.rs": ".fetch_update(Acquire, Relaxed, |w| {\n                (w & (HELD" => ".fetch_update(Relaxed, Relaxed, |w| {\n                (w & (HELD", borrow_after_borrow, RACE;
    "core/actor/turn.rs": "(w != 0 && w & HELD == 0).then_some(HELD | (w & PENDING))" => "(w != 0).then_some(HELD | (w & PENDING))", post_vs_hand_back, RACE;
    "core/actor/turn.rs": "            (w & HELD == 0).then_some(HELD | (w & PENDING))" => "            Some(HELD | (w & PENDING))", limit_vs_borrow, RACE;
    "core/actor/turn.rs": "                    self.call();\n" => "", limit_vs_borrow, STUCK;
    "core/actor/turn.rs": "let idle = self.word.compare_exchange(0, HELD, Acquire, Relaxed);" => "let idle = self.word.fetch_update(Acquire, Relaxed, |w| (w & PENDING == 0).then_some(w | HELD));", poll_vs_submit, RACE;
    "core/actor/turn.rs": "let idle = self.word.compare_exchange(0, HELD, Acquire, Relaxed);" => "let idle = self.word.compare_exchange(0, HELD, Relaxed, Relaxed);", poll_vs_submit, RACE;
    "core/actor/turn.rs": "let need = if queued { PENDING } else { 0 };" => "let need = if queued { 0 } else { 0 };", two_borrowers, "both, or neither";
    // running one's own, and lending
    "core/actor/shared.rs": "owner.run_now(task, payload, lender, core)" => "drop((owner, payload))", run_alone, "left: Closed\n right: Ready(2)";
    "core/actor/owner.rs": "            self.ready.lead(task.class());\n" => "", run_one_class, "two classes in one batch";
    "core/actor/owner.rs": "        if free && payload.is_ready() {" => "        if free {", run_blocked, "a fragment begins when every input has ended";
    "core/actor/owner.rs": "        } else if task.fill(payload) {\n            self.accept(task.clone(), core);" => "        } else if task.fill(payload) {", run_blocked, STUCK;
    "core/actor/shared.rs": "            owner.has_ready()\n" => "            false\n", lend_behind_foreign, STUCK;
    "core/actor/shared.rs": "        self.gate.turn.hand_back(left);" => "        let _ = left;", run_alone, STUCK;
    "core/actor/owner.rs": "(self.engine.is_foreign(work), self.engine.estimate(work))" => "(false, self.engine.estimate(work))", lend_behind_foreign, "the caller ran another's foreign work";
    "core/actor/gather.rs": "(engine.is_foreign(work), engine.estimate(work))" => "(false, engine.estimate(work))", foreign_stays_apart, "the caller ran another's foreign work";
    "core/actor/lender.rs": "(!foreign && !self.alone || own())" => "(!foreign || own())", poll_vs_submit, "it ran another's work";
    "core/actor/owner.rs": "        made.into_iter().for_each(|node| self.unblock(node));\n    }\n\n    // ---- on a device that goes on" => "        drop(made);\n    }\n\n    // ---- on a device that goes on", run_blocked, STUCK;
    "core/actor/driving.rs": "            waiter.waits_for.lock().push(gate.clone());" => "            let _ = waiter;", drivers_in_a_circle, "they wait for each other";
    "core/actor/driving.rs": "            next.extend(gate.waits_for.lock().iter().cloned());\n" => "", drivers_in_a_circle, "they wait for each other";
    "core/actor/driving.rs": "            next.extend(gate.waits_for.lock().iter().cloned());" => "            next.extend(gate.waits_for.lock().last().cloned());", outer_polls_count, "it would close a circle";
    "core/actor/driving.rs": "            let one = place.map(|place| waits_for.swap_remove(place));" => "            let one: Option<Arc<Gate>> = place.and(None);", waiting_ends, "its driver waits no more";
    "core/actor/driving.rs": "        Some(std::mem::take(&mut innermost.polled))" => "        std::mem::forget(std::mem::take(&mut innermost.polled));\n        None", waiting_ends, "its driver waits no more";
    "core/actor/driving.rs": "        Some((driven(&frames), said))" => "        Some((driven(&frames[frames.len() - 1..]), said))", polls_in_a_nested_circle, "they wait for each other";
    // launching
    "core/actor/launch.rs": "            Slot::refuse(&slot, error.clone());" => "            drop((slot, error));", dropped_claim, STUCK;
    "core/actor/launch.rs": "        self.core.gate().turn.call(); // something may be blocked on them" => "", dropped_claim, STUCK;
    "core/actor/launch.rs": "        if !self.won.is_empty() {" => "        if self.won.len() == usize::MAX {", dropped_claim, STUCK;
    "core/actor/launch.rs": "outputs: std::mem::take(&mut self.won)," => "outputs: self.won.clone(),", submit_await_close, "left: Failed(NeverSent)\n right: Ready(2)";
    // launches that overlap
    "core/actor/launch.rs": "    left.1 = Some(std::mem::replace(cut, again));" => "    *cut = again;", last_interest_goes, STUCK;
    "core/actor/launch.rs": "                return Err(claims.refuse(error));" => "                drop((cut, left)); return Err(claims.refuse(error));", last_interest_refused, STUCK;
    "core/actor/launch.rs": "request.cut_again(own, lean, &mut left.0)?" => "request.cut_again(own, lean, &mut R::Left::default())?", last_pin_goes, STUCK;
    "core/actor/launch.rs": "cut_again(&request, &own, Lean::Older(number), " => "cut_again(&request, &own, Lean::Any, ", overlap_cpu, "none waits in a circle";
    "core/actor/launch.rs": "cut_again(&request, &own, Lean::Older(number), " => "cut_again(&request, &own, Lean::Any, ", intermediate_gpu, "none waits in a circle";
    "core/store/node_store.rs": "self.number.fetch_add(1, Relaxed) + 1" => "self.number.load(Relaxed) + 1", overlap_cpu, "left: [Failed(OwnerLost), Ready(1)]\n right: [Ready(11), Ready(1)]";
    "core/actor/launch.rs": "            claims.task.lose_outputs(places - own.len());\n" => "", withdraw_after_losing, "the work is still there";
    "core/actor/launch.rs": "            own.retain(|&mut place| submission.outputs()[place].number() == number);\n" => "", overlap_cpu, "left: [Failed(OwnerLost), Ready(1)]\n right: [Ready(11), Ready(1)]";
    // urgency
    "core/actor/launch.rs": "        this.hurry(submission.outputs(), claims.task.tag());\n" => "", lift_vs_message, "lifted before the owner chose";
    "core/actor/launch.rs": "        this.hurry(&slots, tag);\n" => "", lift_received, "not lifted";
    "core/actor/shared.rs": "            self.lifted.lock().push(task.clone());\n" => "", lift_received, "not lifted";
    "core/actor/shared.rs": "            self.has_lifted.store(1, Relaxed);\n" => "", lift_received, "not lifted";
    "core/actor/owner.rs": "        if task.is_received() {\n            self.push(task);" => "        if !task.is_received() {\n            self.push(task);", lift_received, "not lifted";
    "core/actor/owner.rs": "        if before.raise(task.class()) {" => "        if false {", lift_reaches_down, "not lifted with what waits for it";
    // tickets
    "core/actor/engine.rs": "        self.0.turn.call();" => "", ring_vs_rest, STUCK;
    "core/actor/owner.rs": "self.flights.len() >= IN_FLIGHT" => "self.flights.len() > IN_FLIGHT", three_in_flight, "more than three in flight";
    "core/actor/owner.rs": "self.ready.pop_same()" => "self.ready.pop()", one_class_per_ticket, "two classes under one ticket";
    "core/actor/flight.rs": "if !flawed && !reads {" => "if !flawed {", late_error_gpu, "left: [Ready(10)]\n right: [Failed(Failed)]";
    "core/actor/flight.rs": "                affected.extend(running.makes());\n" => "", late_error_gpu, "left: [Ready(10)]\n right: [Failed(Failed)]";
    "core/actor/flight.rs": "        self.start_limit();\n    }\n" => "    }\n", never_ends_ringing, STUCK;
    "core/actor/flight.rs": "                self.start_limit();\n                let members" => "                let members", second_never_ends, STUCK;
    "core/actor/flight.rs": "                    core.lose(E::Kind::overdue());\n                }\n                return;" => "                }\n                return;", never_ends_ringing, ENDLESS;
    "core/actor/shared.rs": "next = Deadline::earlier(owner.next_limit(), next.take());" => "let _ = owner.next_limit();", never_ends_ringing, STUCK;
    "core/actor/flight.rs": "self.outputs.into_iter().flatten().for_each(Begun::confirm);" => "drop(self.outputs);", read_before_told, "left: [Failed(OwnerLost)]\n right: [Ready(1)]";
    // the owner's loop
    "core/actor/shared.rs": "        self.gate.turn.posted();\n    }\n\n    /// Makes a task" => "    }\n\n    /// Makes a task", submit_await_close, STUCK;
    "core/actor/shared.rs": "            owner.recheck();\n" => "", dropped_claim, STUCK;
    "core/actor/shared.rs": "        if left {\n            return Round::Busy;\n        }\n" => "        let _ = left;\n", flood_vs_single, "it has ended";
    "core/actor/shared.rs": "        if !self.notified && self.guarded(|owner| owner.is_in_flight()) {" => "        if false {", submit_await_close, STUCK;
    "core/actor/shared.rs": "                self.lose(<E::Kind as Kind>::owner_panicked(panic));" => "                discard(panic);", owner_panics, "left: Ready(0)\n right: Failed(OwnerLost)";
    "core/actor/shared.rs": "        self.doomed.store(1, Relaxed);\n" => "", owner_panics, "left: Ready(0)\n right: Failed(OwnerLost)";
    "core/actor/shared.rs": "        contain(|| drop(self.store.close_home()));\n" => "", release_vs_close, "was left on its way home";
    "core/actor/shared.rs": "        self.done.set();" => "", submit_await_close, STUCK;
    "core/actor/event.rs": "        woken.wake();" => "        drop(woken);", submit_await_close, STUCK;
    "core/actor/event.rs": "        if state.happened {" => "        if false {", submit_await_close, STUCK;
    "core/actor/owner.rs": "Taken::Blocked(input) => self.set_aside(task, &input)," => "Taken::Blocked(input) => drop(input),", dependency_order, STUCK;
    "core/actor/owner.rs": "        self.blocked.entry(input.id()).or_default().push(task);" => "", dependency_order, STUCK;
    "core/actor/owner.rs": "        drop(payload.permit.take()); // it leaves the queue" => "        std::mem::forget(payload.permit.take());", submit_await_close, STUCK;
    "core/actor/owner.rs": "            E::Kind::given_up(&mut payload.work, place);" => "            let _ = (&mut payload.work, place);", given_up_beside, "neither an origin nor a slot";
    "core/actor/owner.rs": "                (Some(permit), true) => permit.expire()," => "                (Some(permit), true) => std::mem::forget(permit),", late_vs_submit, STUCK;
    "core/actor/owner.rs": "        self.receive(core); // who came meanwhile takes turns with those who were here\n" => "", flood_vs_single, "overtaken";
    "core/actor/line.rs": "            false => self.turns.push_back(at),\n        }\n        item" => "            false => self.turns.push_front(at),\n        }\n        item", flood_vs_single, "overtaken";
    "core/actor/owner.rs": "            self.crash(error, core);" => "            let _ = error;", owner_panics, "left: Ready(0)\n right: Failed(OwnerLost)";
    "core/actor/owner.rs": "                    output.finish(Err(error.clone()));" => "                    drop((output, error));", never_ends_gpu, "left: Failed(OwnerLost)\n right: Failed(Overdue)";
    "core/actor/owner.rs": "            discard(payload); // closes what has not ended" => "            drop(payload);", refused_work_panics, "the owner was lost";
    "core/actor/owner.rs": "        self.take_off(core);\n" => "", submit_await_close, ENDLESS;
    "core/actor/flight.rs": ".map_err(<E::Kind as Kind>::panicked)" => ".map_err(<E::Kind as Kind>::owner_panicked)", engine_panics, "left: Failed(OwnerLost)\n right: Failed(Panicked)";
    "core/actor/flight.rs": "        discard(self.payload); // as in `finish`" => "        drop(self.payload);", dropped_work_panics, "left: Failed(OwnerLost)\n right: Ready(2)";
    "core/actor/flight.rs": "            Poll::Ready(Err(error)) => running.finish(Err(error), core)," => "            Poll::Ready(Err(error)) => { drop(error); running.finish(issued, core) }", late_error, "left: Ready(0)\n right: Failed(Late)";
    "core/actor/flight.rs": "if !flawed && !reads {" => "if !reads {", late_error, "left: Ready(0)\n right: Failed(Late)";
    // those who wait for their turn
    "core/actor/line.rs": "            class.end_empty_lanes();" => "", many_leave, "forgotten";
    // batches
    "core/actor/line.rs": "Look::Leave => *place += 1," => "Look::Leave => drop(queue.remove(*place)),", dependent_stays_behind, STUCK;
    "core/actor/owner.rs": "                    self.run_each(SmallVec::from_iter([culprit]), core);" => "                    drop(culprit);", spoiler_runs_apart, "left: Failed(OwnerLost)\n right: Ready(1)";
    "core/actor/owner.rs": "                Err(_) => break,\n            }\n        }\n        self.run_each(batch, core);" => "                Err(_) => return,\n            }\n        }\n        self.run_each(batch, core);", wrecked_batch, "left: Failed(OwnerLost)\n right: Failed(Panicked)";
    "core/actor/owner.rs": "                drop(<E::Kind as Kind>::panicked(panic)); // with care: it is foreign" => "                std::panic::resume_unwind(panic);", wrecked_batch, "left: Failed(OwnerLost)\n right: Failed(Panicked)";
    // helpers
    "core/actor/crew.rs": "        self.work.0.with_mut(|cell| unsafe { *cell = Some(work) });" => "        self.work.0.with_mut(|cell| unsafe { cell.as_mut().unwrap().get_or_insert(work); });", share_twice, "done after its end";
    "core/actor/crew.rs": "(w & OPEN != 0 && number(w) != last).then_some(w + INSIDE)" => "(number(w) != last).then_some(w + INSIDE)", share_twice, RACE;
    "core/actor/crew.rs": "(w & OPEN != 0 && number(w) != last).then_some(w + INSIDE)" => "(number(w) != last).then_some(w + INSIDE)", share_without_waking, RACE;
    "core/actor/crew.rs": "let entered = self.word.fetch_update(Acquire, Relaxed, |w| {" => "let entered = self.word.fetch_update(Relaxed, Relaxed, |w| {", share_twice, RACE;
    "core/actor/crew.rs": ".fetch_update(Release, Relaxed, |w| Some(w.wrapping_add(NUMBER) | OPEN));" => ".fetch_update(Relaxed, Relaxed, |w| Some(w.wrapping_add(NUMBER) | OPEN));", share_twice, RACE;
    "core/actor/crew.rs": "self.word.fetch_sub(INSIDE, Release)" => "self.word.fetch_sub(INSIDE, Relaxed)", share_twice, RACE;
    "core/actor/crew.rs": "let mut word = self.word.fetch_and(!OPEN, Acquire);" => "let mut word = self.word.fetch_and(!OPEN, Relaxed);", share_twice, RACE;
    "core/actor/crew.rs": "            word = self.word.load(Acquire);" => "            word = self.word.load(Relaxed);", share_twice, RACE;
    "core/actor/crew.rs": "            self.caller.unpark();" => "", share_twice, STUCK;
    "core/actor/crew.rs": "(w & STOP == 0 && !work).then_some(w | ASLEEP)" => "(!work).then_some(w | ASLEEP)", share_twice, STUCK;
    "core/actor/crew.rs": ".fetch_update(Acquire, Relaxed, |w| (w & HELD == 0).then_some(w | HELD));" => ".fetch_update(Relaxed, Relaxed, |w| (w & HELD == 0).then_some(w | HELD));", two_callers, RACE;
    "core/actor/crew.rs": "(w & HELD == 0).then_some(w | HELD)" => "Some(w | HELD)", two_callers, RACE;
    "core/actor/crew.rs": "iter::from_fn(next).for_each(&run)" => "next().into_iter().for_each(&run)", share_parts, "a part was not done once";
    "core/actor/crew.rs": "let unused = self.panic.lock().replace(panic);" => "let unused = Some(panic);", shared_work_panics, "a panic was lost";
    // submissions
    "core/actor/submission.rs": "let interested = self.cancelled.load(Relaxed) == 0;" => "let interested = self.cancelled.load(Relaxed) < 2;", two_withdraw, "the last of them did not withdraw it";
    "core/actor/submission.rs": "if self.cancelled.swap(1, Relaxed) != 0 {" => "if self.cancelled.swap(1, Relaxed) > 1 {", two_withdraw, "withdrawn twice";
    "core/actor/submission.rs": "unwanted.extend(output.task().output_gone());" => "let gone = if true { None } else { output.task().output_gone() };\n                unwanted.extend(gone);", two_withdraw, "is still there";
    "core/actor/submission.rs": "        woken.into_iter().for_each(Woken::wake);\n        drop_all(unwanted);" => "        drop_all(unwanted);\n        woken.into_iter().for_each(Woken::wake);", withdraw_two_vs_await, STUCK;
    "core/actor/submission.rs": "            unwanted.extend(self.core.store().release(output, share));" => "            drop(self.core.store().release(output, share));\n            unwanted.extend(None::<crate::core::store::task::Payload<E::Kind>>);", drop_two_vs_owner, "a node without references";
    "core/panics.rs": "        resume_unwind(panic);" => "        discard(panic);", withdraw_vs_await, "the panic is the canceller's";
    "core/actor/shared.rs": "        match self.fate.lock().clone() {" => "        match self.fate() {", device_lost, "refused, and not told why";
    "core/actor/owner.rs": "            return lender.is_none() && self.refuse(&fate, core);" => "            return self.refuse(&fate, core);", lend_vs_abort_foreign, "dropped another's work";
    "core/actor/gate.rs": "        if lapsed == Some(true) {\n            self.turn.call();\n        }\n" => "", close_vs_lapse_for_try, STUCK;
    "core/actor/admission.rs": "        woken.into_iter().for_each(wake_one);\n        contain(|| drop(waiting));" => "        drop(waiting);\n        woken.into_iter().for_each(wake_one);", leaver_panics, STUCK;
}
