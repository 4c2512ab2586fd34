//! What a launch lets go of between its claims and its message: it may be the last reference to code of the
//! user's, whose destructor may want what was claimed.

use crate::core::actor::driving::is_driving;
use crate::core::actor::launch::{Ready, Start};
use crate::core::actor::shared::Core;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::Tag;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use std::sync::{Arc, Mutex, OnceLock};

/// What a destructor wants of the node that a launch wins, outside of the model.
#[derive(Default)]
struct Wanted {
    node: OnceLock<Tensor>,
    /// How the wait for it ended.
    end: Mutex<Option<End>>,
}

/// A destructor that runs node 4, which is 300 more than the node that it wants, and waits for it; unless it
/// runs in a turn.
fn wants(ex: &Ex, wanted: &Arc<Wanted>) -> OnDrop<impl FnMut() + Send + Sync + use<>> {
    let (ex, wanted) = (ex.clone(), wanted.clone());
    OnDrop(move || {
        if is_driving(ex.gate()) {
            return;
        }
        let more = node(4, 300, &[wanted.node.get().expect("made by now")]);
        let ex = ex.clone();
        // on a thread, because the stacks of a model are small
        let waiter = spawn(move || {
            let ask = Ask::new(&ex, &[&more]);
            wait(&ask_all(&ex, ask, Tag::default(), Start::Run))
        });
        *wanted.end.lock().unwrap() = Some(waiter.join().unwrap()); // a panic would be contained
    })
}

impl Wanted {
    /// Notes whether the destructor has waited, and checks what it got.
    fn saw(&self, value: u32) {
        let end = self.end.lock().unwrap().take();
        saw(match end {
            Some(Outcome::Ready(got)) if got == value => "waited",
            None => "in a turn",
            other => panic!("{other:?}"),
        });
    }
}

/// A launch loses a node to another thread, and with it its interest in what the node reads, which nobody else
/// wants by then: that is withdrawn, and its destructor waits for what the launch has won.
///
/// ```text
///   T2                           T1: submit(r, w), r = s
///                                cut: leans on s
///   submit(r), as it was cut before s was submitted
///   let go of s
///                                claim w; r is T2's: cut again for w alone
///                                send w
///                                let go of s: its destructor wants w
/// ```
fn last_interest(second_cut: fn(Ask) -> Ask) {
    let ex = idle(4, ToyEngine::cpu());
    let s = node(1, 1, &[]);
    let (r, w) = (node(2, 10, &[&s]), node(3, 100, &[]));
    let early = Ready::cut(Ask::new(&ex, &[&r])).expect("a good graph");
    let wanted = Arc::new(Wanted::default());
    wanted.node.set(w.clone()).expect("once");
    let destructor = wants(&ex, &wanted);
    let first = post_ask(&ex, Ask::new(&ex, &[&s]).holding(destructor));
    let ready = Ready::cut(second_cut(Ask::new(&ex, &[&r, &w]))).expect("a good graph");
    let e = ex.clone();
    let t = spawn(move || {
        let permit = e.try_admit(0).expect("room");
        let other = Core::launch(&e, early, permit, Tag::default(), Start::Post);
        drop(first);
        e.store().release_node(1);
        other.expect("a good graph")
    });
    let permit = ex.try_admit(0).expect("room");
    let launched = Core::launch(&ex, ready, permit, Tag::default(), Start::Post);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&other, &[11]);
    match launched {
        Ok(sub) => all_ready(&sub, &[11, 100]),
        Err(error) => {
            assert_eq!(error, ToyError::Failed);
            saw("refused");
        }
    }
    wanted.saw(400);
    drop(other);
    step_down(&ex);
    nothing_left(&ex, [1, 2, 3, 4]);
}

/// What the first cut found is let go of when the message is sent.
pub fn last_interest_goes() {
    last_interest(|ask| ask);
}

/// What the cuts found is let go of when the claims are given up, because the second cut failed.
pub fn last_interest_refused() {
    last_interest(Ask::fail_second_cut);
}

/// A launch loses a node and cuts again. A node that it has pinned runs meanwhile, so that the launch drops
/// what that is made from: a destructor which waits for what the launch has won.
///
/// ```text
///   T1                           T2: submit(a, w), w = p
///   submit(a)
///                                claim w; a is T1's: cut again, pin p
///   submit(p), run it: forget
///   p's origin
///                                send w
///                                let go of p's origin: its destructor wants w
/// ```
pub fn last_pin_goes() {
    let ex = idle(4, ToyEngine::cpu());
    let wanted = Arc::new(Wanted::default());
    let (a, p) = (node(1, 1, &[]), foreign(2, 5, wants(&ex, &wanted)));
    let w = node(3, 100, &[&p]);
    wanted.node.set(w.clone()).expect("once");
    let ready = Ready::cut(Ask::new(&ex, &[&a, &w])).expect("a good graph");
    let e = ex.clone();
    let t = spawn(move || {
        let permit = e.try_admit(0).expect("room");
        let launched = Core::launch(&e, ready, permit, Tag::default(), Start::Post);
        launched.expect("a good graph")
    });
    let (first, second) = (post(&ex, &[&a]), post(&ex, &[&p]));
    ex.step();
    let sub = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[1, 105]);
    all_ready(&first, &[1]);
    all_ready(&second, &[5]);
    wanted.saw(405);
    drop((sub, first, second));
    step_down(&ex);
    nothing_left(&ex, [1, 2, 3, 4]);
}
