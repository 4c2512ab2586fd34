//! What the virtual clients do: build graphs on what others have built, submit, look, cancel and drop.

use crate::deeds::{Counting, Deed, Done};
use crate::faults::Why;
use crate::graphs::Made;
use crate::life::{Life, Ongoing, Polled, Submission, Wait};
use candlewick::device::Script;
use candlewick::{LazyTensor, Priority, Submit};
use std::mem::take;
use std::sync::PoisonError;
use std::task::Poll;
use std::time::Duration;

/// Tensors that clients hold.
const MOST_LIVE: usize = 40;

impl Life<'_> {
    // ---- submitting ------------------------------------------------------------------------------

    /// A few nodes on top of older ones. What is to be asked for comes first.
    fn build(&mut self) -> Vec<Made> {
        let mut fresh: Vec<Made> = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let live = &self.graphs.live;
            let (new, all) = (fresh.len(), fresh.len() + live.len());
            // younger ones more often
            let x = match all {
                0 => None,
                _ if self.random.chance(8) => None,
                _ if new > 0 && self.random.chance(60) => Some(self.random.below(new)),
                _ => Some(self.random.below(all)),
            };
            let at = |i: usize| fresh.get(i).or(live.get(i.wrapping_sub(new))).cloned();
            let x = x.and_then(at);
            let y = (all > 0).then(|| self.random.below(all)).and_then(at);
            let content = self.features.content;
            let x = x.unwrap_or_else(|| {
                let host = content.host_leaves && self.random.chance(50);
                self.graphs.leaf(self.random, host)
            });
            let deed = self.deed();
            let others: Vec<Made> = y.into_iter().collect();
            let made = self.graphs.grow(self.random, content, &x, &others, deed);
            fresh.push(made);
        }
        fresh
    }

    fn how(&mut self) -> (Submit, Option<std::time::Instant>) {
        let (mut how, mut deadline) = (Submit::new(), None);
        if self.features.deadlines && self.random.chance(30) {
            let left = [0, 5, 100, 2000][self.random.below(4)];
            let moment = Script::now() + Duration::from_micros(left);
            (how, deadline) = (Submit::deadline(moment), Some(moment));
        }
        if self.features.priorities {
            let all = [
                Priority::Interactive,
                Priority::Normal,
                Priority::Background,
            ];
            how = how.priority(all[self.random.below(3)]);
        }
        if self.features.sessions {
            how = how.session(&self.sessions[self.random.below(self.sessions.len())]);
        }
        (how, deadline)
    }

    /// Something that an operation or a waker is to do, now and then.
    fn deed(&mut self) -> Option<Deed> {
        if !self.features.deeds || !self.random.chance(25) {
            return None;
        }
        let live = &mut self.graphs.live;
        match self.random.below(4) {
            0 => self.ongoing.iter().find_map(|ongoing| match &ongoing.wait {
                Wait::Handle(handle) if self.submissions[ongoing.submission].recorded.is_none() => {
                    let submission = ongoing.submission;
                    self.submissions[submission].cancelled |= self.features.cancels;
                    let deed = Deed::Cancel(handle.clone(), submission, self.outbox.clone());
                    self.features.cancels.then_some(deed)
                }
                _ => None,
            }),
            1 if self.features.drops && live.len() > 2 => {
                let gone = live.swap_remove(self.random.below(live.len()));
                Some(Deed::Drop(vec![gone.1]))
            }
            2 if !live.is_empty() => {
                let chosen = live[self.random.below(live.len())].clone();
                Some(Deed::Submit(
                    self.executor.clone(),
                    vec![chosen],
                    self.outbox.clone(),
                ))
            }
            _ => Some(Deed::Step(self.executor.clone())),
        }
    }

    pub(crate) fn submit(&mut self) {
        let fresh = self.build();
        let mut asked: Vec<Made> = vec![fresh[fresh.len() - 1].clone()];
        for _ in 0..self.random.below(4) {
            let all = fresh.len() + self.graphs.live.len();
            let i = self.random.below(all);
            let more = fresh
                .get(i)
                .or(self.graphs.live.get(i.wrapping_sub(fresh.len())));
            asked.extend(more.cloned());
        }
        let (how, deadline) = self.how();
        let kind = self.random.below(10);
        let outputs: Vec<usize> = asked.iter().map(|made| made.0).collect();
        let tensors: Vec<LazyTensor> = asked.into_iter().map(|made| made.1).collect();
        for word in [kind, outputs.len(), outputs[0]] {
            self.mix(word as u64);
        }
        match (kind, self.compiled.clone()) {
            (0..2, Some(compiled)) => {
                let output = self.graphs.called(outputs[0], tensors[0].clone());
                let submitted = compiled.try_submit(&tensors[..1]);
                self.count_launch(submitted.is_ok().into(), submitted.is_ok().into());
                self.submitted_now(vec![output], None, submitted);
            }
            (2..5, _) if self.features.waits => {
                let wait = Wait::Submitting(self.executor.submit_async_with(&tensors, how));
                self.waits(outputs, deadline, wait);
            }
            (5..7, _) if self.features.runs => {
                let wait = Wait::Running(self.executor.run_async_with(&tensors, how));
                self.waits(outputs, deadline, wait);
            }
            _ => {
                let before = self.launched.0;
                let submitted = self.try_submit(&tensors, how);
                let launched = self.launched.0 > before;
                // of several outputs one may be given up and computed all the same, for another one
                if let [only] = outputs[..]
                    && launched
                    && !self.graphs.nodes[only].used
                {
                    self.firsts.push((only, self.submissions.len()));
                }
                self.submitted_now(outputs, deadline, submitted);
            }
        }
        let live = &mut self.graphs.live;
        for made in fresh {
            if !self.features.drops || self.random.chance(60) {
                live.push(made);
            }
            if live.len() > MOST_LIVE {
                live.swap_remove(self.random.below(MOST_LIVE));
            }
        }
    }

    fn waits(&mut self, outputs: Vec<usize>, deadline: Option<std::time::Instant>, wait: Wait) {
        self.graphs.use_up(&outputs);
        self.count_launch(0, 1);
        let submission = self.submissions.len();
        self.submissions.push(Submission {
            outputs,
            deadline,
            ..Submission::default()
        });
        self.ongoing.push(Ongoing {
            submission,
            wait,
            waker: None,
        });
        if self.random.chance(80) {
            self.look_at(self.ongoing.len() - 1);
        }
    }

    /// A submission that was accepted or refused at once.
    pub(crate) fn submitted_now(
        &mut self,
        outputs: Vec<usize>,
        deadline: Option<std::time::Instant>,
        submitted: candlewick::Result<crate::deeds::TheHandle>,
    ) {
        let submission = self.submissions.len();
        self.submissions.push(Submission {
            outputs,
            deadline,
            ..Submission::default()
        });
        match submitted {
            Ok(handle) => {
                self.graphs
                    .use_up(&self.submissions[submission].outputs.clone());
                self.ongoing.push(Ongoing {
                    submission,
                    wait: Wait::Handle(handle),
                    waker: None,
                });
            }
            Err(error) => {
                let queued = self.executor.stats().queued;
                self.check_refusal(submission, Why::of(&error), queued);
            }
        }
    }

    /// What foreign code has done meanwhile.
    pub(crate) fn take_outbox(&mut self) {
        let done = {
            let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
            take(&mut *outbox)
        };
        for done in done {
            match done {
                Done::Cancelled(submission, said) => {
                    self.mix((submission * 8 + said as usize) as u64)
                }
                Done::Submitted(nodes, submitted) => {
                    self.count_launch(0, 1);
                    // how full it was then is not known
                    if !matches!(submitted, Err(candlewick::Error::QueueFull { .. })) {
                        self.submitted_now(nodes, None, submitted);
                    }
                }
            }
        }
    }

    // ---- looking ---------------------------------------------------------------------------------

    pub(crate) fn look_at_one(&mut self) {
        if !self.ongoing.is_empty() {
            let place = self.random.below(self.ongoing.len());
            self.look_at(place);
        }
    }

    /// Looks at those that were woken since they were looked at, and at those that never were. Whether
    /// there was anything to be seen.
    pub(crate) fn look_at_woken(&mut self) -> bool {
        let (mut place, mut any) = (0, false);
        while place < self.ongoing.len() {
            let waker = &self.ongoing[place].waker;
            let due = waker.as_ref().is_none_or(|waker| waker.is_woken());
            self.seen = false;
            // if it has ended, another one stands in its place
            if !(due && self.look_at(place)) {
                place += 1;
            }
            any |= self.seen;
        }
        any
    }

    /// Polls one. Whether it has ended; then it is gone, and the last one stands in its place.
    pub(crate) fn look_at(&mut self, place: usize) -> bool {
        let deed = self.deed();
        let waker = Counting::new(deed);
        let ongoing = &mut self.ongoing[place];
        let submission = ongoing.submission;
        let was_asleep = ongoing
            .waker
            .as_ref()
            .is_some_and(|waker| !waker.is_woken());
        let recorded = self.submissions[submission].recorded;
        if let (Some(recorded), Wait::Submitting(_)) = (recorded, &ongoing.wait) {
            self.record_call(recorded);
        }
        if matches!(self.ongoing[place].wait, Wait::Running(_)) {
            self.record_step(Script::now()); // it may drive an idle device
        }
        let ongoing = &mut self.ongoing[place];
        let poll = Self::poll(&mut ongoing.wait, &waker);
        if poll.is_ready() && was_asleep {
            self.wrong(format!(
                "submission {submission} is ready and was not woken"
            ));
        }
        self.mix(submission as u64 * 2 + u64::from(poll.is_ready()));
        self.seen = poll.is_ready();
        let ended = match poll {
            Poll::Pending => {
                self.ongoing[place].waker = Some(waker);
                self.record_look(submission, None);
                false
            }
            Poll::Ready(Polled::Submitted(Ok(handle))) => {
                self.ongoing[place].wait = Wait::Handle(handle);
                self.ongoing[place].waker = None;
                self.record_return(submission, true);
                false
            }
            Poll::Ready(Polled::Submitted(Err(error))) => {
                self.record_return(submission, false);
                self.check_refusal(submission, Why::of(&error), 0);
                true
            }
            Poll::Ready(Polled::Result(result)) => {
                self.check_result(submission, &result);
                self.record_look(submission, Some(&result));
                // some look once more, at the same answer
                !matches!(self.ongoing[place].wait, Wait::Handle(_)) || self.random.chance(80)
            }
        };
        if ended {
            self.ongoing.swap_remove(place);
        }
        self.take_outbox();
        ended
    }

    // ---- changing one's mind ---------------------------------------------------------------------

    pub(crate) fn cancel_one(&mut self) {
        let handles = self
            .ongoing
            .iter()
            .filter(|o| matches!(o.wait, Wait::Handle(_)));
        let count = handles.count();
        if count == 0 {
            return;
        }
        let chosen = self.random.below(count);
        let mut handles = self
            .ongoing
            .iter()
            .filter_map(|ongoing| match &ongoing.wait {
                Wait::Handle(handle) => Some((ongoing.submission, handle.clone())),
                _ => None,
            });
        if let Some((submission, handle)) = handles.nth(chosen)
            && self.submissions[submission].recorded.is_none()
        {
            let _ = self.cancel(submission, &handle);
        }
    }

    pub(crate) fn drop_one(&mut self) {
        if self.ongoing.is_empty() {
            return;
        }
        let place = self.random.below(self.ongoing.len());
        if self.submissions[self.ongoing[place].submission]
            .recorded
            .is_some()
        {
            return;
        }
        if self.random.chance(30)
            && let Wait::Handle(handle) = &self.ongoing[place].wait
        {
            // a clone waits for the same
            let (wait, submission) = (Wait::Handle(handle.clone()), self.ongoing[place].submission);
            return self.ongoing.push(Ongoing {
                submission,
                wait,
                waker: None,
            });
        }
        let gone = self.ongoing.swap_remove(place);
        let is_handle = matches!(gone.wait, Wait::Handle(_));
        match self.features.forgets && !is_handle && self.random.chance(50) {
            true => self.forgotten.push(gone.wait),
            false => drop(gone),
        }
        self.take_outbox();
    }

    pub(crate) fn drop_tensor(&mut self) {
        let live = &mut self.graphs.live;
        if !live.is_empty() {
            drop(live.swap_remove(self.random.below(live.len())));
        }
    }
}
