//! The node store: claiming, sharing, releasing; and the task behind a slot.

use crate::core::origin::Origin;
use crate::core::panics::contain;
use crate::core::store::node_store::{Claim, NodeStore};
use crate::core::store::slot::{Cancel, Lean, Outcome, Share, Slot};
use crate::core::store::tag::Tag;
use crate::core::store::task::{Payload, Taken, Task};
use crate::core::sync::{Arc, Mutex};
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};

type Store = Arc<NodeStore<Toy>>;

fn store() -> Store {
    Arc::new(NodeStore::new(None))
}

fn task() -> Arc<Task<Toy>> {
    Arc::new(Task::new(1, Tag::default()))
}

/// Claims node 1, which nobody else has claimed.
fn won(store: &Store, task: &Arc<Task<Toy>>) -> ToySlot {
    match store.claim(1, store.draw(), task) {
        Claim::Won(slot) => slot,
        Claim::Found(_) => panic!("nobody else claims it"),
    }
}

/// The slot of node 1, which has its result, and whose submission has let go of it.
fn computed(store: &Store) -> ToySlot {
    let slot = won(store, &task());
    Slot::begin(&slot).expect("pending").finish(Ok(7));
    drop(store.release(&slot, Share::Claim));
    slot
}

/// Nothing is left of the nodes whose references are gone.
fn no_nodes(store: &Store) {
    let left = store.nodes();
    assert_eq!(left, 0, "a node without references is still in the store");
}

/// Two threads submit the same node: one computes it, both see the result.
pub fn claim_race() {
    fn submit(store: &Store) -> bool {
        let (won, slot) = match store.claim(1, store.draw(), &task()) {
            Claim::Won(slot) => {
                Slot::begin(&slot).expect("pending").finish(Ok(7));
                (true, slot)
            }
            Claim::Found(slot) => (false, slot),
        };
        let end = peek(&slot);
        assert!(matches!(end, None | Some(Outcome::Ready(7))), "{end:?}");
        drop(store.release(&slot, Share::Claim));
        won
    }
    let store = store();
    let s = store.clone();
    let t = spawn(move || submit(&s));
    let mine = submit(&store);
    assert!(mine != t.join().unwrap(), "computed twice, or by nobody");
    saw(if mine { "mine" } else { "the other's" });
    assert_eq!(store.nodes(), 1);
    store.release_node(1);
    no_nodes(&store);
}

/// The last reference goes while somebody looks the node up: it gets a live slot or none.
pub fn release_vs_acquire() {
    let store = store();
    let _slot = computed(&store);
    let s = store.clone();
    let t = spawn(move || match NodeStore::acquire(&s, 1, Lean::Any).held() {
        Some(held) => {
            assert!(
                NodeStore::acquire(&s, 1, Lean::Any).held().is_some(),
                "a node that is referred to is in the store"
            );
            assert_eq!(peek(held.slot()), Some(Outcome::Ready(7)));
            true
        }
        None => false,
    });
    store.release_node(1);
    saw(if t.join().unwrap() { "found" } else { "gone" });
    no_nodes(&store);
    assert!(NodeStore::acquire(&store, 1, Lean::Any).held().is_none());
}

/// A cancelled node is claimed again while its old submission lets go.
pub fn cancel_vs_claim() {
    let store = store();
    let slot = won(&store, &task());
    let s = store.clone();
    let t = spawn(move || match s.claim(1, s.draw(), &task()) {
        Claim::Won(slot) => {
            Slot::begin(&slot).expect("pending").finish(Ok(8));
            drop(s.release(&slot, Share::Claim));
            true
        }
        Claim::Found(slot) => {
            drop(s.release(&slot, Share::Interest));
            false
        }
    });
    let cancel = slot.cancel(true);
    drop(store.release(&slot, Share::Node));
    let again = t.join().unwrap();
    match cancel {
        Cancel::Cancelled => saw("cancelled"),
        Cancel::Shared => {
            assert!(!again, "claimed twice");
            saw("shared");
        }
        other => panic!("{other:?}"),
    }
    store.release_node(1);
    no_nodes(&store);
}

/// A payload whose work is counted.
fn counted() -> (Payload<Toy>, std::sync::Arc<StdAtomic>) {
    let (alive, count) = Alive::counted();
    let mut payload = payload(None);
    payload.work.alive = alive;
    (payload, count)
}

/// The last output is cancelled while the submitter still fills the task: the work is freed, by the one who
/// comes second.
pub fn cancel_vs_fill() {
    let task = task();
    let (mut payload, count) = counted();
    let t = task.clone();
    let destructor = OnDrop(move || _ = t.is_received()); // not under the task's lock
    payload.work.hook = Hook::holding(destructor);
    let t = task.clone();
    let canceller = spawn(move || t.output_gone().is_some());
    let filled = task.fill(payload);
    let taken = canceller.join().unwrap();
    assert_eq!(
        count.load(SeqCst),
        0,
        "the work of a cancelled fragment is still there"
    );
    assert_eq!(filled, taken, "to be sent, and nobody took it out");
    saw(if filled { "filled" } else { "cancelled" });
    assert!(matches!(task.take_if_ready(), Taken::Gone));
}

/// The last output is cancelled while the owner comes for the work: one of them gets it.
pub fn cancel_vs_take() {
    let task = task();
    let (payload, count) = counted();
    assert!(task.fill(payload));
    let t = task.clone();
    let canceller = spawn(move || t.output_gone().is_some());
    let taken = matches!(task.take_if_ready(), Taken::Ready(_));
    assert!(
        taken != canceller.join().unwrap(),
        "the work was taken twice, or by nobody"
    );
    assert_eq!(count.load(SeqCst), 0);
    saw(if taken { "owner" } else { "canceller" });
}

/// Notes what a cut meets at node 1.
fn saw_met(store: &Store, lean: Lean, origin: &Origin<u32>) {
    let read = || origin.read(|v| assert_eq!(*v, 5)).is_some();
    saw(match slot_or_origin(store, 1, lean, read) {
        Met::Slot => "slot",
        Met::Origin => "origin",
    });
}

/// A cut meets a node that is cancelled, submitted again and begins to run: it reads the origin,
/// or finds the slot, at the latest when it asks again. Never neither.
pub fn cut_vs_forget() {
    let store = store();
    let origin = Arc::new(Origin::new(5u32));
    let slot = won(&store, &task());
    let (s, o) = (store.clone(), origin.clone());
    let other = spawn(move || {
        let cancel = slot.cancel(true);
        drop(s.release(&slot, Share::Node));
        if cancel != Cancel::Cancelled {
            return; // the cutter was first: the slot is shared
        }
        let slot = won(&s, &task());
        let begun = Slot::begin(&slot).expect("nobody cancels this one");
        o.forget();
        begun.finish(Ok(7));
        drop(s.release(&slot, Share::Claim));
    });
    saw_met(&store, Lean::Any, &origin);
    other.join().unwrap();
    store.release_node(1);
}

/// A cut that leans on nothing younger meets a younger claim that begins: it reads the origin, or finds the
/// slot begun, at the latest when it asks again.
pub fn lean_vs_forget() {
    let store = store();
    let origin = Arc::new(Origin::new(5u32));
    let older = store.draw();
    let slot = won(&store, &task());
    let o = origin.clone();
    let owner = spawn(move || {
        let begun = Slot::begin(&slot).expect("pending");
        o.forget();
        begun.finish(Ok(7));
    });
    saw_met(&store, Lean::Older(older), &origin);
    owner.join().unwrap();
}

/// An origin is forgotten while others read it: it stays until they have, is dropped once, and nobody
/// comes in later.
pub fn forget_vs_readers() {
    fn read(origin: &Origin<(u32, Alive)>, count: &StdAtomic) -> bool {
        let look = |origin: &(u32, Alive)| {
            assert_eq!(origin.0, 5);
            assert_eq!(count.load(SeqCst), 1, "dropped while it is read");
        };
        origin.read(look).is_some()
    }
    let (alive, count) = Alive::counted();
    let origin = Arc::new(Origin::new((5u32, alive)));
    let (o, c) = (origin.clone(), count.clone());
    let reader = spawn(move || read(&o, &c));
    let o = origin.clone();
    let forgetter = spawn(move || o.forget());
    let mine = read(&origin, &count);
    let other = reader.join().unwrap();
    forgetter.join().unwrap();
    assert_eq!(count.load(SeqCst), 0, "an origin was left behind");
    assert!(!read(&origin, &count));
    saw(match (mine, other) {
        (true, true) => "both read",
        (false, false) => "forgotten",
        _ => "one read",
    });
}

/// An origin is forgotten whose destructor panics: neither the one who forgets it nor a reader meets that.
pub fn pinned_panics() {
    let (alive, count) = Alive::counted();
    let origin = Arc::new(Origin::new((Bomb(0), alive)));
    let o = origin.clone();
    let forgetter = spawn(move || contain(|| o.forget()).is_some());
    let pinned = origin.pin();
    let read = pinned.is_some();
    let let_go = contain(|| drop(pinned));
    assert!(let_go.is_some(), "the reader met the panic");
    assert!(forgetter.join().unwrap(), "the forgetter met the panic");
    assert_eq!(count.load(SeqCst), 0, "an origin was left behind");
    saw(if read { "read" } else { "forgotten" });
}

/// Results that only the owner may free: each goes home once, or is freed here when the owner
/// has left.
pub fn home_vs_leave() {
    let calls = std::sync::Arc::new(StdAtomic::new(0));
    let count = calls.clone();
    let store: Store = Arc::new(NodeStore::new(Some(Box::new(move || {
        count.fetch_add(1, SeqCst);
    }))));
    let freed = Arc::new(Mutex::new(0));
    drop(computed(&store));
    let (s, f) = (store.clone(), freed.clone());
    let owner = spawn(move || {
        let mut home = s.take_doomed();
        home.extend(s.close_home());
        *f.lock() += home.len();
    });
    store.release_node(1);
    owner.join().unwrap();
    assert!(
        store.take_doomed().is_empty(),
        "a result was left on its way home"
    );
    let home = *freed.lock();
    assert_eq!(
        home,
        calls.load(SeqCst),
        "sent home without a call, or called for nothing"
    );
    saw(if home == 1 {
        "freed at home"
    } else {
        "freed here"
    });
    no_nodes(&store);
}

/// Two hold a result, read it and let go, and the store frees it: after the last reading, and
/// after the writing.
pub fn read_vs_free() {
    let store = store();
    let slot = won(&store, &task());
    let begun = Slot::begin(&slot).expect("pending");
    store.release_node(1);
    let s = store.clone();
    assert!(slot.share(Lean::Any));
    let reader = {
        let slot = slot.clone();
        spawn(move || {
            saw(if peek(&slot).is_some() {
                "read"
            } else {
                "too early"
            });
            drop(s.release(&slot, Share::Interest));
        })
    };
    let owner = spawn(move || begun.finish(Ok(7)));
    drop(store.release(&slot, Share::Claim));
    reader.join().unwrap();
    owner.join().unwrap();
    no_nodes(&store);
}

/// The last one who wants a result lets go before the owner comes: the work is freed there and
/// then, not when the owner comes to it.
pub fn withdraw_vs_fill() {
    let store = store();
    let task = task();
    let slot = won(&store, &task);
    let (mut payload, count) = counted();
    let (s, k) = (store.clone(), slot.clone());
    store.release_node(1);
    let t = spawn(move || drop(s.release(&k, Share::Claim)));
    payload.outputs.push(slot);
    saw(match task.fill(payload) {
        true => "filled",
        false => "withdrawn",
    });
    t.join().unwrap();
    assert_eq!(
        count.load(SeqCst),
        0,
        "the work of a withdrawn fragment is still there"
    );
    assert!(task.take().is_none(), "it is to be run");
    no_nodes(&store);
}
