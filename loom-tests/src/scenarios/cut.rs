//! The walk of a cut, over nodes of which some are known to one operand alone, while others are submitted,
//! run and freed.
//!
//! The tensors of all nodes are counted here, and the scenario keeps none of an inner node. A node is written
//! as its operands; it adds a number of its own.

use crate::core::actor::launch::{Ready, Start};
use crate::core::actor::shared::Core;
use crate::core::cut::{Cut, Pins};
use crate::core::store::node_store::NodeStore;
use crate::core::store::slot::{Lean, Outcome};
use crate::core::store::tag::Tag;
use crate::core::sync::thread::JoinHandle;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;

/// Another thread submits this node, lets go of it, and drives.
fn submits_and_runs(ex: &Ex, node: Tensor) -> JoinHandle<Sub> {
    let ex = ex.clone();
    spawn(move || {
        let sub = post_ask(&ex, Ask::new(&ex, &[&node]).hook(|| saw("the other's")));
        drop(node);
        ex.step();
        sub
    })
}

/// Two threads submit the same node, which is run meanwhile and forgets what it is made from: the inner node
/// goes with that, and whoever reads it has pinned the one above it.
///
/// ```text
///   T2: submit(p), p = m, s, m = s     T1: submit(p)
///                                      cut: pin p; m is known to p alone; pin s
///   claim p, send
///   owner: begin p, forget p's origin
///                                      read m; end of the cut: p's origin is freed, and m with it
///                                      find p
/// ```
pub fn inner_vs_run() {
    let ex = idle(2, ToyEngine::cpu());
    let s = counted(1, 1, &[]);
    let p = counted(3, 100, &[&counted(2, 10, &[&s]), &s]);
    drop(s);
    let t = submits_and_runs(&ex, p.clone());
    let sub = post_ask(&ex, Ask::new(&ex, &[&p]).hook(|| saw("mine")));
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[112]);
    all_ready(&other, &[112]);
    assert_eq!(ex.counts().run, 1, "computed twice");
    drop((sub, other));
    closed(&ex, &[&p]);
}

/// A thread submits an operand, runs it and lets go of it, so that it becomes an inner node while another
/// thread cuts: that one finds what the operand is made from, or its slot.
///
/// ```text
///   T2: submit(s), let go of s         T1: submit(p), p = l + m, m = s
///   claim s, send
///   owner: begin s, forget s's
///   origin, drop the work
///                                      cut: s is known to m alone, and has a slot
/// ```
pub fn operand_lets_go() {
    let ex = idle(2, ToyEngine::cpu());
    let s = counted(1, 1, &[]);
    let p = counted(3, 100, &[&counted(4, 7, &[]), &counted(2, 10, &[&s])]);
    let t = submits_and_runs(&ex, s);
    let ask = Ask::new(&ex, &[&p]).before_send(|work| {
        saw(match work.steps() {
            4 => "computed",
            _ => "found",
        });
    });
    let sub = post_ask(&ex, ask);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[118]);
    all_ready(&other, &[1]);
    drop((sub, other));
    step_down(&ex);
    nothing_left(&ex, [1, 3]);
}

/// Two cuts, one after the other, meet more shared nodes than they look through one by one, each of them
/// twice, while another thread submits and runs one of them: each is numbered once, by each cut.
pub fn many_shared() {
    let ex = idle(3, ToyEngine::cpu());
    let shared: Vec<Tensor> = (1..=18).map(|id| node(id, 1, &[])).collect();
    let twice: Vec<&Tensor> = shared.iter().chain(&shared).collect();
    let (all, again) = (node(100, 64, &twice), node(101, 164, &twice));
    let t = submits_and_runs(&ex, shared[0].clone());
    let ask = Ask::new(&ex, &[&all]).before_send(|work| {
        saw(match work.steps() {
            19 => "computed",
            _ => "found",
        });
    });
    let first = post_ask(&ex, ask);
    let second = post(&ex, &[&again]);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&first, &[100]);
    all_ready(&second, &[200]);
    all_ready(&other, &[1]);
    drop((first, second, other));
    step_down(&ex);
    nothing_left(&ex, [1, 100, 101]);
}

/// A function is called on an argument that is made from what the function has captured, while another
/// thread submits and runs that. The arguments are cut first, the function's result behind them: there a
/// placeholder stands for the argument, and the captured node is met anew.
///
/// ```text
///   T2: submit(s), let go of s         T1: call of x -> r, r = s, x, on a = s
///                                      cut a; forget its nodes; a stands for x
///   claim s, send
///   owner: begin s, forget s's origin
///                                      cut r: s again, which is computed or found
///                                      launch
/// ```
pub fn call_vs_run() {
    let ex = idle(2, ToyEngine::cpu());
    let s = counted(1, 1, &[]);
    let (argument, placeholder) = (counted(2, 10, &[&s]), named(9));
    let result = counted(3, 100, &[&s, &placeholder]);
    let t = submits_and_runs(&ex, s);
    let look = |node: &Node| Ok(NodeStore::acquire(ex.store(), node.id(), Lean::Any).held());
    let mut cut = Cut::new(look, Fragment::default());
    let mut pins = Pins::<Tensor>::new();
    let value = cut.visit(&argument, &mut pins).expect("a good graph");
    drop(pins);
    cut.forget();
    cut.put(placeholder.id(), value);
    cut.ask([&result], &mut Pins::new()).expect("a good graph");
    let cut = cut.into;
    let (computed, found) = (cut.computes(1), cut.finds(1));
    saw(match found {
        0 => "computed",
        _ => "found",
    });
    assert_eq!(computed + found, 2, "what was captured is met anew");
    let ready = Ready::own(Ask::new(&ex, &[&named(4)]), cut);
    let permit = ex.try_admit(0).expect("room");
    let sub = Core::launch(&ex, ready, permit, Tag::default(), Start::Post);
    let sub = sub.expect("a good graph");
    let other = t.join().unwrap();
    ex.step();
    assert_eq!(end(&sub), Outcome::Ready(112));
    assert_eq!(end(&other), Outcome::Ready(1));
    drop((sub, other, result, argument));
    step_down(&ex);
    nothing_left(&ex, [1, 4]);
}
