//! Seeded faults, as text: each replaces one passage of the core, rebuilds it, and must make the
//! named scenario fail for the named reason. The production source holds no trace of them, and a
//! passage that has changed fails this test until its fault is rewritten.
//!
//! One process for each run: a deadlock found by loom unwinds into destructors and aborts.
#![cfg(candlewick_loom)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

const RACE: &str = "Causality violation";
const STUCK: &str = "deadlock; threads";

struct Fault {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    scenario: &'static str,
    why: &'static str,
}

macro_rules! faults {
    ($($file:literal: $from:literal => $to:literal, $scenario:ident, $why:expr;)*) => {
        const FAULTS: &[Fault] = &[$(Fault {
            file: $file, from: $from, to: $to, scenario: stringify!($scenario), why: $why,
        }),*];
    };
}

#[rustfmt::skip]
faults! {
    // the slot: orderings
    "store/slot.rs": "slot.word.fetch_add(step, Release)" => "slot.word.fetch_add(step, Relaxed)", publish_vs_peek, RACE;
    "store/slot.rs": "let word = self.word.load(Acquire);" => "let word = self.word.load(Relaxed);", publish_vs_peek, RACE;
    "store/slot.rs": "ended(self.word.load(Acquire))" => "ended(self.word.load(Relaxed))", publish_vs_is_finished, RACE;
    "store/slot.rs": "self.word.fetch_or(WAITERS, Acquire)" => "self.word.fetch_or(WAITERS, Relaxed)", publish_vs_await, RACE;
    // the slot: protocol
    "store/slot.rs": "let word = self.word.fetch_or(WAITERS, Acquire);" => "self.word.fetch_or(WAITERS, Acquire); let word = PENDING;", publish_vs_await, STUCK;
    "store/slot.rs": "let old = slot.word.fetch_add(step, Release);\n        slot.wake(old);" => "slot.word.fetch_add(step, Release);", publish_vs_await, STUCK;
    "store/slot.rs": "        slot.result.with_mut(|cell| unsafe { *cell = Some(result) });\n" => "        let _ = &result;\n", publish_vs_peek, "published without a result";
    "store/slot.rs": "PENDING if interest(w) == 0 => w | CANCELLED," => "PENDING | RUNNING if interest(w) == 0 => (w & !PHASE) | CANCELLED,", cancel_vs_run, "FAILED";
    "store/slot.rs": "PENDING if interest(w) == 0 => w | CANCELLED," => "PENDING => w | CANCELLED,", cancel_vs_share, "they disagree";
    "store/slot.rs": "            PENDING if interest(old) == 1 => {\n                self.wake(old);" => "            PENDING if interest(old) == 1 => {", cancel_vs_run, STUCK;
    "store/slot.rs": "(references(w) > 0 && phase(w) != CANCELLED).then_some" => "(phase(w) != CANCELLED).then_some", withdraw_vs_begin, "came back";
    "store/slot.rs": "(references(w) > 0 && phase(w) != CANCELLED).then_some" => "(references(w) > 0).then_some", cancel_vs_share, "they disagree";
    "store/slot.rs": "(references(w) > 0 && phase(w) != CANCELLED).then_some" => "(references(w) > 0 && phase(w) == PENDING).then_some", cut_vs_forget, "neither an origin nor a slot";
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
    "store/node_store.rs": "            released = slot.release(false);\n            released != Released::Held" => "            released = slot.release(false);\n            true", release_vs_acquire, "a node that is referred to is in the store";
    "store/node_store.rs": "        self.removed(entry?, released)" => "        drop((entry?, released)); None", withdraw_submitted, "left == right";
    "store/node_store.rs": "            (home.call_owner)();" => "", home_vs_leave, "sent home without a call";
    "store/node_store.rs": "home.doomed.lock().take().unwrap_or_default()" => "Vec::new()", home_vs_leave, "was left on its way home";
    "store/task.rs": "if self.wanted.load(Relaxed) == 0 {" => "if false {", cancel_vs_fill, "is still there";
    "store/task.rs": "let last = self.wanted.fetch_sub(1, Relaxed) == 1;" => "let last = self.wanted.fetch_sub(1, Relaxed) == 0;", cancel_vs_take, "taken twice, or by nobody";
    "store/task.rs": "self.outputs.iter().for_each(|output| output.close());" => "", submit_vs_abort, STUCK;
    // admission
    "actor/admission.rs": "            false => w | LINE," => "            false => w,", line_vs_release, STUCK;
    "actor/admission.rs": "(w & (CLOSED | LINE) == 0 && weight.fits(w)).then(|| w - weight.units())" => "(w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())", no_overtaking, "overtaken";
    "actor/admission.rs": "(w & (CLOSED | LINE) == 0 && weight.fits(w)).then(|| w - weight.units())\n        });" => "(w & LINE == 0 && weight.fits(w)).then(|| w - weight.units())\n        });", unused_permit_vs_close, "FAILED";
    "actor/admission.rs": "(w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())\n            });" => "weight.fits(w).then(|| w - weight.units())\n            });", close_vs_line, "let in after the owner could leave";
    "actor/admission.rs": "granted.is_some_and(|weight| self.give(weight.units()))" => "granted.is_some_and(|_| false)", baton, STUCK;
    "actor/admission.rs": "        refused.into_iter().for_each(|w| wake_one(w.waker));\n" => "        drop(refused);\n", close_vs_line, STUCK;
    "actor/admission.rs": "self.word.fetch_add(units, Release)" => "self.word.fetch_add(units, Relaxed)", permit_means_room, "a permit, and no room";
    "actor/admission.rs": "let taken = self.word.fetch_update(Acquire, Relaxed, |w| {\n            (w & (CLOSED" => "let taken = self.word.fetch_update(Relaxed, Relaxed, |w| {\n            (w & (CLOSED", permit_means_room, "a permit, and no room";
    "actor/admission.rs": "        old & CLOSED != 0\n    }" => "        old & CLOSED == u64::MAX\n    }", last_permit_vs_close, "nobody was told";
    // the turn
    "actor/turn.rs": "let old = self.word.fetch_or(set, AcqRel);" => "let old = self.word.fetch_or(set, Relaxed);", post_vs_rest, STUCK;
    "actor/turn.rs": "        if call {\n            self.owner.unpark();" => "        if call {", post_vs_rest, STUCK;
    "actor/turn.rs": "(w & (HELD | PENDING) == PENDING).then_some(w | HELD)" => "(w & PENDING == PENDING).then_some(w | HELD)", two_borrowers, "FAILED";
    "actor/turn.rs": "let busy = left || w & (PENDING | CALLED) != 0;" => "let busy = w & (PENDING | CALLED) != 0 && !left;", borrow_vs_owner, STUCK;
    "actor/turn.rs": "        if next(old) & CALLED != 0 {\n            self.owner.unpark();\n        }" => "", borrow_vs_owner, STUCK;
    "actor/turn.rs": "let rest = self.word.compare_exchange(HELD, 0, AcqRel, Acquire);" => "let rest: Result<usize, usize> = Ok(self.word.swap(0, AcqRel));", post_vs_rest, STUCK;
    "actor/turn.rs": "let rest = self.word.compare_exchange(HELD, 0, AcqRel, Acquire);" => "let rest = self.word.compare_exchange(HELD, 0, Relaxed, Acquire);", lend_vs_owner, RACE;
    "actor/turn.rs": "self.word.fetch_update(AcqRel, Relaxed, |w| Some(next(w)))" => "self.word.fetch_update(Relaxed, Relaxed, |w| Some(next(w)))", two_borrowers, RACE;
    "actor/turn.rs": "            .fetch_update(Acquire, Relaxed, |w| {\n                (w & (HELD | PENDING)" => "            .fetch_update(Relaxed, Relaxed, |w| {\n                (w & (HELD | PENDING)", two_borrowers, RACE;
    "actor/turn.rs": ".fetch_update(Acquire, Relaxed, |w| {\n                (w & (HELD | CALLED) == CALLED)" => ".fetch_update(Relaxed, Relaxed, |w| {\n                (w & (HELD | CALLED) == CALLED)", lend_vs_owner, RACE;
    // lending: who calls the owner
    "actor/core.rs": "            fence(SeqCst);\n            // A fragment" => "            // A fragment", deferred_vs_waiter, STUCK;
    "actor/core.rs": "            fence(SeqCst);\n            self.turn.call_if_unattended();" => "            self.turn.call_if_unattended();", deferred_vs_waiter, STUCK;
    "actor/core.rs": "            fence(SeqCst);\n            self.turn.call_if_unattended();" => "            fence(crate::sync::Ordering::AcqRel);\n            self.turn.call_if_unattended();", deferred_vs_waiter, STUCK;
    "actor/core.rs": "outputs.iter().any(|o| o.has_waiters()) || self.admission.queued() > 1" => "self.admission.queued() > 1", deferred_vs_waiter, STUCK;
    "actor/core.rs": "outputs.iter().any(|o| o.has_waiters()) || self.admission.queued() > 1" => "outputs.iter().any(|o| o.has_waiters())", deferred_vs_dependent, STUCK;
    "actor/submission.rs": "            self.core.nudge(); // a tensor may still refer to the result" => "", deferred_then_dropped, STUCK;
    "actor/core.rs": "            self.turn.call(); // the owner may be waiting for what we did, to leave" => "", lend_vs_close, STUCK;
    // claims, the owner's loop, closing
    "actor/claim.rs": "            self.won.iter().for_each(|(_, slot)| slot.close());\n" => "", dropped_claim, STUCK;
    "actor/claim.rs": "            self.core.call_owner(); // something may be blocked on them" => "", dropped_claim, STUCK;
    "actor/owner.rs": "            if let Some(unblocked) = self.blocked.remove(&id) {" => "            if let Some(unblocked) = self.blocked.remove(&(id + 99)) {", dependency_order, STUCK;
    "actor/owner.rs": "            .map_err(<E::Kind as Kind>::panicked)" => "            .map_err(<E::Kind as Kind>::owner_panicked)", engine_panics, "left == right";
    "actor/owner.rs": "Err(_) if several && self.engine.lost().is_none() => {" => "Err(_) if several && false => {", late_error, "FAILED";
    "actor/core.rs": "            self.turn.call();\n        }\n    }\n\n    /// It has ended." => "        }\n    }\n\n    /// It has ended.", unused_permit_vs_close, STUCK;
    "actor/core.rs": "if self.admission.is_drained() && self.guarded(|owner| owner.is_empty()) {" => "if self.admission.is_closed() && self.guarded(|owner| owner.is_empty()) {", submit_vs_close, STUCK;
    "actor/core.rs": "                self.lose(<E::Kind as Kind>::owner_panicked(panic));" => "                drop(panic);", owner_panics, "FAILED";
    "actor/core.rs": "        self.done.set();" => "", submit_await_close, STUCK;
    "actor/event.rs": "        woken.wake();" => "        drop(woken);", submit_await_close, STUCK;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_name() == "target" {
        } else if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A copy of the core and of the scenarios, to be broken.
struct Lab(PathBuf);

impl Lab {
    fn new() -> Self {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let lab = here.join("target/seeded");
        let _ = fs::remove_dir_all(lab.join("src"));
        copy(&here.join("../src"), &lab.join("src"));
        copy(&here, &lab.join("loom-tests"));
        fs::copy(here.join("../Cargo.toml"), lab.join("Cargo.toml")).unwrap();
        fs::copy(here.join("../Cargo.lock"), lab.join("Cargo.lock")).unwrap();
        Self(lab)
    }

    fn cargo(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO"))
            .current_dir(self.0.join("loom-tests"))
            .args(args)
            .env("RUSTFLAGS", "--cfg candlewick_core --cfg candlewick_loom")
            .env("CARGO_TARGET_DIR", self.0.join("build"))
            .env("CARGO_INCREMENTAL", "1")
            .env("CANDLEWICK_COVERAGE", "0")
            .env("CANDLEWICK_SHIM", "weak")
            .output()
            .unwrap()
    }

    fn run(&self, scenario: &str) -> Output {
        let test = format!("tests::{scenario}");
        self.cargo(&[
            "test",
            "--release",
            "--offline",
            "--lib",
            "--",
            "--exact",
            &test,
            "--nocapture",
        ])
    }

    /// What is wrong with a fault, if anything.
    fn try_fault(&self, fault: &Fault) -> Result<(), String> {
        let file = self.0.join("src").join(fault.file);
        let good = fs::read_to_string(&file).unwrap();
        let places = good.matches(fault.from).count();
        if places != 1 {
            return Err(format!("the passage occurs {places} times, not once"));
        }
        fs::write(&file, good.replace(fault.from, fault.to)).unwrap();
        let built = self.cargo(&["test", "--release", "--offline", "--lib", "--no-run"]);
        let verdict = if !built.status.success() {
            Err(format!("does not build\n{}", text(&built)))
        } else {
            let ran = self.run(fault.scenario);
            match (ran.status.success(), text(&ran).contains(fault.why)) {
                (true, _) => Err(format!("{} still passes", fault.scenario)),
                (false, false) => {
                    let tail: String = text(&ran).chars().take(3000).collect();
                    Err(format!(
                        "{} fails, but not with {:?}\n{tail}",
                        fault.scenario, fault.why
                    ))
                }
                (false, true) => Ok(()),
            }
        };
        fs::write(&file, good).unwrap();
        verdict
    }
}

#[test]
#[ignore = "some minutes: cargo test --release --test seeded -- --ignored --nocapture"]
fn every_fault_is_caught() {
    let lab = Lab::new();
    let only = env::var("CANDLEWICK_FAULT").unwrap_or_default();
    let mut bad = Vec::new();
    let mut tried = 0;
    for fault in FAULTS {
        let name = format!("{}: {:?} => {:?}", fault.file, fault.from, fault.to);
        if !name.contains(&only) && !fault.scenario.contains(&only) {
            continue;
        }
        tried += 1;
        if let Err(why) = lab.try_fault(fault) {
            println!("NOT CAUGHT {name}: {why}");
            bad.push(format!("{name}: {why}"));
        }
    }
    assert!(tried > 0, "no fault is called {only:?}");
    assert!(
        bad.is_empty(),
        "{} of {tried}:\n{}",
        bad.len(),
        bad.join("\n")
    );
    println!("{tried} faults, each caught");
}

/// The passages are looked for on every run, so that a changed one is noticed at once.
#[test]
fn every_passage_is_there() {
    let src = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut changed = Vec::new();
    for fault in FAULTS {
        let text = fs::read_to_string(src.join(fault.file)).unwrap();
        let places = text.matches(fault.from).count();
        if places != 1 {
            changed.push(format!("{}: {:?} occurs {places} times", fault.file, fault.from));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}
