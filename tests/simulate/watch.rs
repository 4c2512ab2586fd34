//! What must hold: each result is right or its error explained, who is done was woken, nothing is left.

use crate::deeds::TheHandle;
use crate::faults::Why;
use crate::graphs::numbers;
use crate::life::{Life, Wait};
use candlewick::device::Script;
use candlewick::{Cancel, LazyTensor, Submit, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

impl Life<'_> {
    /// A handle's result, or what a future came to.
    pub(crate) fn check_result(
        &mut self,
        submission: usize,
        result: &candlewick::Result<Vec<Tensor>>,
    ) {
        let digest = match result {
            Ok(tensors) => {
                self.submissions[submission].fine = true;
                self.check_values(submission, tensors)
            }
            Err(error) => {
                let why = Why::of(error);
                self.submissions[submission].faulted = matches!(why, Why::Fault(_));
                self.check_error(submission, why);
                if why == Why::Other {
                    self.wrong(format!("submission {submission}: {error}"));
                }
                why.word()
            }
        };
        self.mix(digest);
        if let Some(before) = self.submissions[submission].result.replace(digest)
            && before != digest
        {
            self.wrong(format!(
                "submission {submission} has another result the second time"
            ));
        }
    }

    fn check_values(&mut self, submission: usize, tensors: &[Tensor]) -> u64 {
        let outputs = self.submissions[submission].outputs.clone();
        let mut digest = crate::random::Hash::default();
        if outputs.len() != tensors.len() {
            self.wrong(format!(
                "submission {submission} has {} results",
                tensors.len()
            ));
        }
        for (&node, tensor) in outputs.iter().zip(tensors) {
            let known = &self.graphs.nodes[node];
            let got = numbers(tensor).unwrap_or_default();
            got.iter()
                .for_each(|x| digest.mix(u64::from((x + 0.0).to_bits())));
            let same = known.value.len() == got.len()
                && known.value.iter().zip(&got).all(|(a, b)| *a as f32 == *b);
            if !same {
                let expected = known.value.clone();
                self.wrong(format!("node {node} is {got:?}, not {expected:?}"));
            } else if known.spoiled {
                self.wrong(format!(
                    "node {node} has a value above an operation that fails"
                ));
            }
        }
        digest.0
    }

    fn check_error(&mut self, submission: usize, why: Why) {
        let sub = &self.submissions[submission];
        let explained = match why {
            Why::Operation(node) => {
                let own = self.graphs.nodes.get(node).is_some_and(|node| node.fails);
                let mut outputs = sub.outputs.iter();
                own && outputs.any(|&output| self.graphs.is_above(output, |below| below == node))
            }
            Why::Fault(fault) => {
                let outputs = sub.outputs.len();
                if outputs == 1 {
                    self.blamed.push((fault, sub.outputs[0]));
                }
                self.faults.is_met(&self.script, fault)
            }
            Why::Cancelled => sub.cancelled,
            // one that has withdrawn does not hold another's deadline off any more
            Why::Expired => {
                let late = |deadline| deadline <= Script::now();
                sub.cancelled || sub.deadline.is_some_and(late)
            }
            Why::Closed => self.closing,
            Why::Lost => self.faults.explain_loss(&self.script),
            Why::TooLarge => self.features.bytes.is_some(), // of a call that is both
            Why::Full | Why::Other => false,
        };
        if !explained && why != Why::Other {
            self.wrong(format!(
                "submission {submission} ended with {why:?}, unexplained"
            ));
        }
    }

    /// A submission was refused while `queued` fragments were in the queue.
    pub(crate) fn check_refusal(&mut self, submission: usize, why: Why, queued: usize) {
        self.mix(why.word());
        let explained = match why {
            // with nothing queued there is room
            Why::Full => queued > 0 || self.features.bytes.is_some(),
            Why::TooLarge => self.features.bytes.is_some(),
            Why::Closed => self.closing,
            Why::Lost => self.faults.explain_loss(&self.script),
            Why::Expired => {
                let deadline = self.submissions[submission].deadline;
                deadline.is_some_and(|deadline| deadline <= Script::now())
            }
            _ => false,
        };
        if !explained {
            self.wrong(format!(
                "submission {submission} is refused with {why:?}, {queued} queued"
            ));
        }
    }

    /// The waiter of a result that is there has been woken.
    pub(crate) fn check_wake(&mut self, place: usize) {
        let ongoing = &self.ongoing[place];
        let (Wait::Handle(handle), Some(waker)) = (&ongoing.wait, &ongoing.waker) else {
            return;
        };
        if handle.is_finished() && !waker.is_woken() {
            let submission = ongoing.submission;
            self.wrong(format!(
                "submission {submission} has ended and its waiter sleeps"
            ));
        }
    }

    /// Whether a future may wait for room.
    fn has_line(&self) -> bool {
        let in_line = |wait: &Wait| !matches!(wait, Wait::Handle(_));
        self.ongoing.iter().any(|o| in_line(&o.wait)) || !self.forgotten.is_empty()
    }

    pub(crate) fn cancel(&mut self, submission: usize, handle: &TheHandle) -> Cancel {
        let finished = handle.is_finished();
        let before = self.executor.stats();
        let first = !std::mem::replace(&mut self.submissions[submission].cancelled, true);
        let said = handle.cancel();
        let after = self.executor.stats();
        self.mix(said as u64);
        let resolved = handle.try_result();
        let right = match said {
            Cancel::Cancelled => !finished && matches!(resolved, Some(Err(_))),
            Cancel::Finished => resolved.is_some(),
            // a waker that it wakes may drive the executor until that has ended
            Cancel::Running => !handle.is_finished() || self.features.deeds,
            Cancel::Shared => !finished || !first,
        };
        if !right {
            self.wrong(format!("cancelling submission {submission} says {said:?}"));
        }
        // what was withdrawn frees its place at once, unless others take it or the channel is full
        let withdrawn = after.fragments_cancelled > before.fragments_cancelled;
        if withdrawn
            && !self.has_line()
            && self.husks < self.features.capacity
            && !self.features.deeds
        {
            let gone = after.fragments_cancelled - before.fragments_cancelled;
            if before.queued != after.queued + gone as usize {
                self.wrong(format!(
                    "cancelling submission {submission} does not free its place"
                ));
            }
        }
        self.husks += (after.fragments_cancelled - before.fragments_cancelled) as usize;
        said
    }

    /// Between `least` and `most` more fragments have been queued.
    pub(crate) fn count_launch(&mut self, least: u64, most: u64) {
        self.launched.0 += least;
        self.launched.1 += most;
    }

    /// Submits, and sees by the queue whether there is a fragment more.
    pub(crate) fn try_submit(
        &mut self,
        tensors: &[LazyTensor],
        how: Submit,
    ) -> candlewick::Result<TheHandle> {
        let before = self.executor.stats().queued;
        let submitted = self.executor.try_submit_with(tensors, how);
        let launched = self.executor.stats().queued > before;
        // a place that another one did not come for may have been taken
        let may = submitted.is_ok() && self.has_line();
        self.count_launch(launched.into(), (launched || may).into());
        submitted
    }

    /// What was asked for by itself is computed once, if nothing goes wrong.
    pub(crate) fn check_runs(&mut self) {
        if self.features.repeats() {
            return;
        }
        for &(node, submission) in &self.firsts {
            let runs = self.graphs.nodes[node].runs.as_ref();
            let runs = runs.map_or(0, |runs| runs.load(Relaxed));
            // what was given up is computed inside of each fragment that needs it
            if runs > 1 && self.submissions[submission].fine {
                let what = format!("node {node} was submitted and computed {runs} times");
                return self.wrong(what);
            }
        }
    }

    /// Who has read from a result that a fault took away has none.
    pub(crate) fn check_fates(&mut self) {
        let firsts: BTreeMap<usize, usize> = self.firsts.iter().copied().collect();
        for &(node, submission) in &self.firsts {
            for below in &self.graphs.nodes[node].below {
                let Some(&before) = firsts.get(below).filter(|&&before| before < submission) else {
                    continue;
                };
                if self.submissions[before].faulted && self.submissions[submission].fine {
                    return self.wrong(format!("node {node} is fine, and node {below} failed"));
                }
            }
        }
    }

    /// No ticket has ended in this step: nothing is there that was not there before.
    pub(crate) fn check_nothing_ended(&mut self, done: u64) {
        let now = self.executor.stats().fragments_run;
        let slow = self.features.tickets && !self.features.ticket_latency.is_zero();
        if slow && now != done && !self.is_lost() {
            self.wrong(format!(
                "{} fragments were published before their ticket ended",
                now - done
            ));
        }
    }

    /// The owner rests when there is nothing left to do: woken again, it does nothing.
    pub(crate) fn check_rest(&mut self) {
        let done = |life: &Self| {
            let stats = life.executor.stats();
            (life.script.steps(), life.script.tickets(), stats)
        };
        let before = done(self);
        self.executor.step();
        let after = done(self);
        if before != after && !self.is_lost() {
            self.wrong(format!(
                "the owner rested too soon: {before:?}, then {after:?}"
            ));
        }
    }

    /// One fault reaches one fragment and what depends on it.
    pub(crate) fn check_blame(&mut self) {
        let mut by_fault: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (fault, node) in std::mem::take(&mut self.blamed) {
            by_fault.entry(fault).or_default().insert(node);
        }
        for (fault, nodes) in by_fault {
            let explains = |outputs: &[usize]| {
                let is_output = |node| outputs.contains(&node);
                nodes
                    .iter()
                    .all(|&node| self.graphs.is_above(node, is_output))
            };
            let mut submissions = self.submissions.iter();
            if !submissions.any(|submission| explains(&submission.outputs)) {
                self.wrong(format!(
                    "fault {fault} reached nodes of several fragments: {nodes:?}"
                ));
            }
        }
    }

    pub(crate) fn check_loss(&mut self) {
        let lost = self.is_lost();
        if lost && !self.faults.explain_loss(&self.script) {
            let health = self.executor.health();
            self.wrong(format!("lost for no reason: {health:?}"));
        }
        if !lost && self.faults.demand_loss(&self.script) {
            self.wrong("the device was lost, and nothing is known of it");
        }
        let reissued = self.executor.stats().fragments_reissued;
        if !lost && !self.calm && reissued == 0 && self.faults.demand_reissue(&self.script) {
            self.wrong("a ticket ended with an error, and nothing was issued again");
        }
    }

    pub(crate) fn check_nothing_left(&mut self, when: &str) {
        let stats = self.executor.stats();
        if (
            stats.live_nodes,
            stats.live_bytes,
            stats.queued,
            stats.queued_bytes,
        ) != (0, 0, 0, 0)
        {
            self.wrong(format!("{when} there is something left: {stats:?}"));
        }
    }

    /// Every fragment that was queued has been run, withdrawn or found late.
    pub(crate) fn check_counters(&mut self) {
        let stats = self.executor.stats();
        let steps = [self.script.steps(), self.script.tickets()];
        let counters = [
            stats.fragments_run,
            stats.fragments_failed,
            stats.fragments_cancelled,
            stats.fragments_expired,
            stats.tickets,
            stats.fragments_reissued,
            stats.nodes_recomputed,
            stats.batches,
            stats.fragments_batched,
            stats.batch_bytes_moved,
            stats.plans_made,
        ];
        counters
            .into_iter()
            .chain(steps)
            .for_each(|word| self.mix(word));
        let ended = stats.fragments_run + stats.fragments_cancelled + stats.fragments_expired;
        let (least, most) = self.launched;
        if !self.is_lost() && !(least..=most).contains(&ended) {
            self.wrong(format!(
                "{least} to {most} fragments were queued, and not {ended}: {stats:?}"
            ));
        }
        if stats.fragments_failed > stats.fragments_run {
            self.wrong(format!("more fragments failed than were run: {stats:?}"));
        }
    }
}
