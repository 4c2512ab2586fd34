//! What the owner needs of the device side.

use crate::store::Kind;
use crate::store::node_store::Held;
use smallvec::SmallVec;
use std::time::Duration;

/// Results of one fragment's work, one for each output. One that failed costs the others nothing.
pub type Results<K> = SmallVec<[Result<<K as Kind>::Value, <K as Kind>::Error>; 1]>;

/// One fragment of several that run as one.
pub struct Member<'a, K: Kind> {
    /// What to do.
    pub work: &'a mut K::Work,
    /// Results of other fragments that it reads.
    pub inputs: &'a [Held<K>],
}

/// Runs the work of fragments, on whichever thread has the turn, one at a time.
pub trait Engine: Send + 'static {
    /// The types that it works with.
    type Kind: Kind;

    /// Whether any thread may drive the device, or only the owner's own. Asked once.
    fn lendable(&self) -> bool;

    /// Whether [`Engine::issue`] returns only when the work is done. Then results are published
    /// one by one, and [`Engine::finish`] is not called. Asked once.
    fn synchronous(&self) -> bool;

    /// Starts one fragment's work. Every input has ended, not all of them well. May be called
    /// again with the same work, after `finish` reported that something in a batch failed.
    fn issue(
        &mut self,
        work: &mut <Self::Kind as Kind>::Work,
        inputs: &[Held<Self::Kind>],
    ) -> Results<Self::Kind>;

    /// How long a batch that could be larger waits for others, if nothing else waits.
    fn max_delay(&self) -> Duration;

    /// A batch that more fragments may join.
    type Batch;

    /// Begins a batch with this fragment; `None` if it had better run by itself. Only asked where
    /// [`Engine::synchronous`].
    fn open(&self, work: &<Self::Kind as Kind>::Work) -> Option<Self::Batch>;

    /// Whether any fragment may still join.
    fn has_room(&self, batch: &Self::Batch) -> bool;

    /// Whether a fragment is to run together with those that joined before, and then it does.
    fn joins(&self, batch: &mut Self::Batch, work: &<Self::Kind as Kind>::Work) -> bool;

    /// Runs several fragments as one; every input has ended. The results are in the order of the
    /// members. If something goes wrong there are none, of nobody, and the member that spoiled it
    /// is named if it is known: it is to run by itself, and the others again.
    fn issue_together(
        &mut self,
        members: &mut [Member<'_, Self::Kind>],
    ) -> Result<Vec<Results<Self::Kind>>, Option<usize>>;

    /// Waits until all that was issued is done. An error is one that the device reported late:
    /// some of what was issued since the last call did not happen, nobody knows which.
    fn finish(&mut self) -> Result<(), <Self::Kind as Kind>::Error>;

    /// The reason, if the device will not run anything again.
    fn lost(&mut self) -> Option<<Self::Kind as Kind>::Error>;
}
