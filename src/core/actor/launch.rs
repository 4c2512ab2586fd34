//! From a request to a queued fragment: cut, permit, number, claim, cut again, send.
//!
//! The order is what makes it sound, and fragments never wait for each other in a circle:
//!
//! 1. A request is *cut*: what no submission has claimed is its to compute, and it leans on every claim
//!    that it meets.
//! 2. It gets a *permit*, which stands for the place of its message, so that a full queue leaves nothing
//!    claimed.
//! 3. It draws a *number*, greater than those of all claims that it has seen.
//! 4. It *claims* its outputs under that number. What another launch was faster to claim is that one's.
//! 5. If it won all of them, it sends what it cut. If it won some, it is *cut again* for those alone: now
//!    it leans only on claims with a smaller number and on work that has begun; what a younger launch has
//!    claimed and not begun it computes inside, as if that claim was not there.
//! 6. It *sends* one message for all that it won; or, in a call of `run` that gets the turn, does the work
//!    at once.
//!
//! So a fragment waits only for claims with a smaller number, or for what waits for nothing any more.
//!
//! Between 4 and 6 no foreign code runs here: it may want what has been claimed, or the place that the permit
//! stands for. What a cut lets go of, which may be the last reference to an operation of the user's, goes when
//! the message has been sent or the claims have been given up.

use super::SlotOf;
use super::engine::Engine;
use super::gate::Permit;
use super::shared::{Core, ErrorOf};
use super::submission::Submission;
use crate::core::store::node_store::{Claim, Held};
use crate::core::store::slot::{Lean, Slot};
use crate::core::store::tag::Tag;
use crate::core::store::task::{Payload, Task};
use crate::core::store::{Kind, NodeId};
use crate::core::sync::Arc;
use smallvec::SmallVec;

/// What is asked for: distinct nodes of a graph.
pub trait Request<E: Engine> {
    /// A part of the graph, cut out to be computed.
    type Cut;

    /// What a second cut lets go of.
    type Left<'r>: Default
    where
        Self: 'r;

    /// How many nodes it asks for.
    fn nodes(&self) -> usize;

    /// The node at a place.
    fn node(&self, place: usize) -> NodeId;

    /// Marks the node at a place as one that was submitted here.
    fn bind(&self, place: usize) -> Result<(), ErrorOf<E>>;

    /// Cuts out what the nodes at these places need. Each node on the way is looked up with
    /// [`NodeStore::acquire`](crate::core::store::node_store::NodeStore::acquire) and [`Lean::Any`]; those at
    /// the places are outputs of the cut, in this order.
    fn cut(&self, places: &[usize]) -> Result<Self::Cut, ErrorOf<E>>;

    /// The same with another `lean`. Nothing is dropped that may run foreign code: it is put into `left`.
    fn cut_again<'r>(
        &'r self,
        places: &[usize],
        lean: Lean,
        left: &mut Self::Left<'r>,
    ) -> Result<Self::Cut, ErrorOf<E>>;

    /// The result of another fragment that is this output of a cut.
    fn found<'c>(&self, cut: &'c Self::Cut, output: usize) -> Option<&'c Held<E::Kind>>;

    /// The work of a cut for the nodes at these places, and the results of other fragments that it reads.
    fn pack(&self, cut: Self::Cut, places: &[usize]) -> Packed<E::Kind>;
}

/// Work, and the results of other fragments that it reads.
pub type Packed<K> = (<K as Kind>::Work, SmallVec<[Held<K>; 2]>);

/// A request after its first cut.
pub struct Ready<E: Engine, R: Request<E>> {
    request: R,
    /// For each place, the result of another fragment that it is.
    known: SmallVec<[Option<Held<E::Kind>>; 1]>,
    /// The other places, and what they need. `None` if there are none.
    own: Option<(SmallVec<[usize; 1]>, R::Cut)>,
}

/// Who is to run a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The owner: it is called for it.
    Post,
    /// The caller, if nobody drives; else the owner.
    Run,
    /// The caller, if nobody drives and nothing is queued; else the owner. The caller runs no other work.
    RunIfIdle,
}

impl<E: Engine, R: Request<E>> Ready<E, R> {
    /// Cuts a request.
    pub fn cut(request: R) -> Result<Self, ErrorOf<E>> {
        let mut known: SmallVec<[Option<Held<E::Kind>>; 1]> = SmallVec::new();
        known.resize_with(request.nodes(), || None);
        let mut own: SmallVec<[usize; 1]> = (0..request.nodes()).collect();
        while !own.is_empty() {
            let cut = request.cut(&own)?;
            let mut output = 0..;
            let before = own.len();
            own.retain(|place| {
                let found = output.next().and_then(|output| request.found(&cut, output));
                known[*place] = found.map(Held::share);
                found.is_none()
            });
            if own.len() == before {
                let own = Some((own, cut));
                return Ok(Self {
                    request,
                    known,
                    own,
                });
            }
            // again without them: the rest is not to wait for what it does not read
        }
        Ok(Self {
            request,
            known,
            own: None,
        })
    }

    /// A request whose nodes are all its own, and what they need.
    pub fn own(request: R, cut: R::Cut) -> Self {
        let places: SmallVec<[usize; 1]> = (0..request.nodes()).collect();
        let mut known = SmallVec::new();
        known.resize_with(places.len(), || None);
        Self {
            request,
            known,
            own: Some((places, cut)),
        }
    }

    /// What is asked for.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// What is to be computed; nothing if every node was submitted before.
    pub fn work(&self) -> Option<&R::Cut> {
        self.own.as_ref().map(|own| &own.1)
    }
}

impl<E: Engine> Core<E> {
    /// Takes up what was all submitted before: nothing is queued.
    pub fn join<R: Request<E>>(this: &Arc<Self>, ready: Ready<E, R>, tag: &Tag) -> Submission<E> {
        debug_assert!(ready.own.is_none());
        let known = ready.known.into_iter().flatten();
        let slots: SmallVec<[SlotOf<E>; 1]> = known.map(Held::into_slot).collect();
        this.hurry(&slots, tag);
        Submission::new(this.clone(), slots, 0)
    }

    /// Claims the outputs and sends the work for those that it won. With [`Start::Run`] this thread may
    /// have run it when this returns.
    pub fn launch<R: Request<E>>(
        this: &Arc<Self>,
        ready: Ready<E, R>,
        permit: Permit,
        tag: Tag,
        start: Start,
    ) -> Result<Submission<E>, ErrorOf<E>> {
        let Ready {
            request,
            mut known,
            own,
        } = ready;
        let Some((mut own, mut cut)) = own else {
            unreachable!("`join` takes up what is known")
        };
        let mut left = None;
        let permit = permit; // dropped before what is bound above, and after the claims
        for &place in &own {
            request.bind(place)?;
        }
        let number = this.store().draw();
        let mut claims = Claims::new(this, own.len(), number, tag);
        let mut slots: SmallVec<[SlotOf<E>; 1]> = SmallVec::new();
        for (place, known) in known.iter_mut().enumerate() {
            slots.push(match known.take() {
                Some(held) => held.into_slot(),
                None => claims.claim(request.node(place)),
            });
        }
        // from here on the interest is the submission's to give back
        let submission = Submission::new(this.clone(), slots, number);
        this.hurry(submission.outputs(), claims.task.tag());
        let places = own.len();
        if claims.won.len() < places {
            own.retain(|&mut place| submission.outputs()[place].number() == number);
            if own.is_empty() {
                return Ok(submission); // the permit goes back
            }
            claims.task.lose_outputs(places - own.len());
            let again = cut_again(&request, &own, Lean::Older(number), &mut cut, &mut left);
            if let Err(error) = again {
                return Err(claims.refuse(error));
            }
        }
        let (work, inputs) = request.pack(cut, &own);
        for input in &inputs {
            this.lift(input.slot().task(), claims.task.class());
        }
        claims.send(work, inputs, permit, &submission, start);
        drop(left);
        Ok(submission)
    }

    /// What others have claimed and not begun becomes as urgent as this.
    fn hurry(&self, slots: &[SlotOf<E>], tag: &Tag) {
        for slot in slots {
            self.lift(slot.task(), tag.priority);
        }
    }
}

/// What a launch lets go of with its second cut: also the first one.
type Left<'r, E, R> = (<R as Request<E>>::Left<'r>, Option<<R as Request<E>>::Cut>);

/// Cuts again. What goes with that stays in `left`.
#[cold]
fn cut_again<'r, E: Engine, R: Request<E>>(
    request: &'r R,
    own: &[usize],
    lean: Lean,
    cut: &mut R::Cut,
    left: &mut Option<Box<Left<'r, E, R>>>,
) -> Result<(), ErrorOf<E>> {
    let left = left.insert(Box::new((R::Left::default(), None)));
    let again = request.cut_again(own, lean, &mut left.0)?;
    left.1 = Some(std::mem::replace(cut, again));
    Ok(())
}

/// The outputs that one launch has claimed, until their work is on its way. Dropped before that, they are
/// given up with an error, and a later submission has them computed anew.
struct Claims<'a, E: Engine> {
    core: &'a Arc<Core<E>>,
    number: u64,
    task: Arc<Task<E::Kind>>,
    won: SmallVec<[SlotOf<E>; 1]>,
}

impl<'a, E: Engine> Claims<'a, E> {
    fn new(core: &'a Arc<Core<E>>, outputs: usize, number: u64, tag: Tag) -> Self {
        Self {
            core,
            number,
            task: Arc::new(Task::new(outputs, tag)),
            won: SmallVec::new(),
        }
    }

    /// Claims a node, or shares the claim of another launch.
    fn claim(&mut self, node: NodeId) -> SlotOf<E> {
        match self.core.store().claim(node, self.number, &self.task) {
            Claim::Found(slot) => slot,
            Claim::Won(slot) => {
                self.won.push(slot.clone());
                slot
            }
        }
    }

    fn send(
        mut self,
        work: <E::Kind as Kind>::Work,
        inputs: SmallVec<[Held<E::Kind>; 2]>,
        permit: Permit,
        submission: &Submission<E>,
        start: Start,
    ) {
        let payload = Payload {
            work,
            inputs,
            outputs: std::mem::take(&mut self.won), // the payload answers for them now
            permit: Some(permit),
        };
        let payload = match start {
            Start::Post => Some(payload),
            _ => self.core.run(&self.task, payload, submission, start),
        };
        let Some(payload) = payload else { return };
        if self.task.fill(payload) {
            self.core.post(&self.task);
        } // else every output was cancelled by now
    }

    /// Gives up what was claimed, because of this error.
    fn refuse(mut self, error: ErrorOf<E>) -> ErrorOf<E> {
        self.give_up(&error);
        error
    }

    fn give_up(&mut self, error: &ErrorOf<E>) {
        for slot in self.won.drain(..) {
            Slot::refuse(&slot, error.clone());
        }
        self.core.gate().turn.call(); // something may be blocked on them
    }
}

impl<E: Engine> Drop for Claims<'_, E> {
    fn drop(&mut self) {
        if !self.won.is_empty() {
            self.give_up(&E::Kind::never_sent());
        }
    }
}
