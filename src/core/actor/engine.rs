//! What the owner needs of the device side.

use super::gate::Gate;
use crate::core::store::Kind;
use crate::core::store::node_store::Held;
use crate::core::store::slot::Outcome;
use crate::core::sync::{Arc, Deadline};
use smallvec::SmallVec;
use std::task::Poll;
use std::time::Duration;

/// Results of one fragment's work, one for each output. One that failed costs the others nothing.
pub type Results<K> = SmallVec<[Result<<K as Kind>::Value, <K as Kind>::Error>; 1]>;

/// One fragment of several that run as one.
pub struct Member<'a, K: Kind> {
    /// What to do.
    pub work: &'a mut K::Work,
    /// Results of other fragments that it reads.
    pub inputs: Inputs<'a, K>,
}

/// Results of other fragments that one reads: every one has ended or been issued.
pub struct Inputs<'a, K: Kind>(&'a [Held<K>]);

impl<'a, K: Kind> Inputs<'a, K> {
    /// For the holder of the turn, which ends and issues none of these while the inputs are in use.
    pub(super) fn new(held: &'a [Held<K>]) -> Self {
        Self(held)
    }

    /// What `f` makes of one.
    pub fn read<R>(&self, index: usize, f: impl FnOnce(Outcome<&K::Value, &K::Error>) -> R) -> R {
        // SAFETY: `new` is called by the holder of the turn, in whose hand all slots are that have been
        // issued, and which lends itself to the engine meanwhile.
        match unsafe { self.0[index].slot().look(f) } {
            Some(outcome) => outcome,
            None => unreachable!("a fragment begins when every input has ended or been issued"),
        }
    }
}

impl<K: Kind> Clone for Inputs<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: Kind> Copy for Inputs<'_, K> {}

/// By which a device tells, from any thread, that a ticket may have ended.
#[derive(Clone, Debug)]
pub struct Bell(pub(super) Arc<Gate>);

impl Bell {
    /// Has the owner look. Cheap, waits for nothing.
    pub fn ring(&self) {
        self.0.turn.call();
    }
}

/// Runs the work of fragments, on whichever thread has the turn, one at a time.
pub trait Engine: Send + 'static {
    /// The types that it works with.
    type Kind: Kind;
    /// A batch that more fragments may join.
    type Batch;
    /// Something that the device has been given to do, and that ends.
    type Ticket: Send;

    /// Whether any thread may drive the device, or only the owner's own. Asked once.
    fn lendable(&self) -> bool;

    /// Whether work is done when [`Engine::issue`] returns. Then there are no tickets. Asked once.
    fn synchronous(&self) -> bool;

    /// Whether the bell rings when a ticket ends. Else the owner waits for the oldest with
    /// [`Engine::wait`] when there is nothing else to do. Asked once, with the bell.
    fn attach(&mut self, bell: Bell) -> bool;

    /// How long a ticket may take, from when the one before it has ended, before the device counts as
    /// lost; `None`: for ever.
    fn ticket_limit(&self, ticket: &Self::Ticket) -> Option<Duration>;

    /// Whether the work runs code of the user's, which may want a lock that another caller holds: only
    /// its own submitter and the owner's thread run it.
    fn is_foreign(&self, work: &<Self::Kind as Kind>::Work) -> bool;

    /// About how long the work takes.
    fn estimate(&self, work: &<Self::Kind as Kind>::Work) -> Duration;

    /// Starts one fragment's work. May be called again with the same work, after a ticket of it ended
    /// with an error.
    fn issue(
        &mut self,
        work: &mut <Self::Kind as Kind>::Work,
        inputs: Inputs<'_, Self::Kind>,
    ) -> Results<Self::Kind>;

    /// How long a batch that could be larger waits for others, if nothing else waits.
    fn max_delay(&self) -> Duration;

    /// Begins a batch with this fragment; `None` if it had better run by itself.
    fn open(&self, work: &<Self::Kind as Kind>::Work) -> Option<Self::Batch>;

    /// Whether any fragment may still join.
    fn has_room(&self, batch: &Self::Batch) -> bool;

    /// Whether a fragment is to run together with those that joined before, and then it does.
    fn joins(&self, batch: &mut Self::Batch, work: &<Self::Kind as Kind>::Work) -> bool;

    /// Starts several fragments as one. The results are in the order of the members. If something
    /// goes wrong there are none, of nobody, and the member that spoiled it is named if it is known:
    /// it is to run by itself, and the others again.
    fn issue_together(
        &mut self,
        members: &mut [Member<'_, Self::Kind>],
    ) -> Result<Vec<Results<Self::Kind>>, Option<usize>>;

    /// A ticket for all that was issued since the last one.
    fn ticket(&mut self) -> Self::Ticket;

    /// How a ticket stands. An error is one that the device reported late: some of what the ticket is
    /// for did not happen, nobody knows which.
    fn poll(&mut self, ticket: &mut Self::Ticket) -> Poll<Result<(), <Self::Kind as Kind>::Error>>;

    /// Waits until a ticket has ended, at most until the deadline, and says how it stands.
    fn wait(
        &mut self,
        ticket: &mut Self::Ticket,
        until: Option<&Deadline>,
    ) -> Poll<Result<(), <Self::Kind as Kind>::Error>>;

    /// The reason, if the device will not run anything again.
    fn lost(&mut self) -> Option<<Self::Kind as Kind>::Error>;
}
