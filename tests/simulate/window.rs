//! Records a short history of a few nodes that nothing else uses, while the life goes on around it.

use crate::graphs::Made;
use crate::history::{Event, History, Seen, Verdict};
use crate::life::{Life, Ongoing, Submission, Wait};
use candlewick::device::Script;
use candlewick::{Error, LazyTensor, Submit, Tensor};
use std::time::{Duration, Instant};

const NODES: usize = 4;
const SUBMISSIONS: usize = 5;
/// A history of more events is closed.
const EVENTS: usize = 40;
/// States that are looked at for one history.
const BUDGET: usize = 20_000;
/// One history in so many is looked at a second time, with a lie in it.
const LIE: u64 = 10;

/// A history that is being recorded.
pub(crate) struct Window {
    history: History,
    nodes: Vec<Made>,
    deadlines: Vec<Option<Instant>>,
    /// Cancelled or late already.
    over: Vec<bool>,
    late: Vec<bool>,
    called: Vec<bool>,
    /// Whether time has passed while the owner had the turn, so that what it saw is not known.
    spoiled: bool,
}

impl Life<'_> {
    /// One client does something with the nodes of the history.
    pub(crate) fn act_in_window(&mut self) {
        let Some(window) = &self.window else {
            return self.open_window();
        };
        let (events, count) = (window.history.events.len(), window.deadlines.len());
        let recorded = |life: &Self, place: usize| {
            let submission = life.ongoing[place].submission;
            life.submissions[submission].recorded
        };
        let places = (0..self.ongoing.len()).filter(|&place| recorded(self, place).is_some());
        let places: Vec<usize> = places.collect();
        if events > EVENTS || (count == SUBMISSIONS && places.is_empty()) {
            return self.end_window();
        }
        let choice = self.random.below(8);
        if count < SUBMISSIONS && (choice < 4 || places.is_empty()) {
            return self.submit_in_window();
        }
        if places.is_empty() {
            return;
        }
        let place = places[self.random.below(places.len())];
        let Some(number) = recorded(self, place) else {
            return;
        };
        match (&self.ongoing[place].wait, choice) {
            (Wait::Handle(handle), 4 | 5) if self.features.cancels && !self.is_over(number) => {
                let (handle, submission) = (handle.clone(), self.ongoing[place].submission);
                let said = self.cancel(submission, &handle);
                self.set_over(number);
                self.record(Event::Cancel(number, said));
            }
            (_, 6) if self.features.drops => {
                let gone = self.ongoing.swap_remove(place);
                let event = match gone.wait {
                    Wait::Handle(_) => Event::Drop(number),
                    _ => Event::Return(number, false),
                };
                drop(gone);
                self.record(event);
            }
            _ => drop(self.look_at(place)),
        }
    }

    fn is_over(&self, number: usize) -> bool {
        self.window
            .as_ref()
            .is_none_or(|window| window.over[number])
    }

    fn set_over(&mut self, number: usize) {
        if let Some(window) = &mut self.window {
            window.over[number] = true;
        }
    }

    /// A few nodes, each on top of one or two others.
    fn open_window(&mut self) {
        let leaf = self.graphs.leaf(self.random, false);
        let content = crate::graphs::Content {
            params: self.features.content.params,
            ..Default::default()
        };
        let mut history = History {
            faults: self.features.step_faults || self.features.ticket_faults,
            version: self.graphs.version(),
            ..History::default()
        };
        let mut nodes: Vec<Made> = Vec::new();
        for _ in 0..NODES {
            let x = match nodes.len() {
                0 => leaf.clone(),
                len => nodes[self.random.below(len)].clone(),
            };
            let others = nodes.clone();
            let made = self.graphs.grow(self.random, content, &x, &others, None);
            let below = &self.graphs.nodes[made.0].below;
            let place = |node: &usize| nodes.iter().position(|made| made.0 == *node);
            let mut below: Vec<usize> = below.iter().filter_map(place).collect();
            below.dedup();
            history.below.push(below);
            history.events.push(Event::Read(self.graphs.version()));
            nodes.push(made);
        }
        self.window = Some(Window {
            history,
            nodes,
            deadlines: Vec::new(),
            over: Vec::new(),
            late: Vec::new(),
            called: Vec::new(),
            spoiled: false,
        });
    }

    fn submit_in_window(&mut self) {
        if self.submissions.len() >= self.most {
            return;
        }
        let Some(window) = &mut self.window else {
            return;
        };
        let number = window.deadlines.len();
        let mut chosen: Vec<usize> = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let node = self.random.below(NODES);
            if !chosen.contains(&node) {
                chosen.push(node);
            }
        }
        let soon = self.features.deadlines && self.random.chance(40);
        let left = Duration::from_micros(1 + self.random.below(400) as u64);
        let deadline = soon.then(|| Script::now() + left);
        let how = deadline.map_or(Submit::new(), Submit::deadline);
        let tensors: Vec<LazyTensor> = chosen.iter().map(|&n| window.nodes[n].1.clone()).collect();
        let outputs = chosen.iter().map(|&n| window.nodes[n].0).collect();
        window.deadlines.push(deadline);
        window.over.push(false);
        window.late.push(false);
        window.called.push(false);
        window
            .history
            .submissions
            .push((chosen, deadline.is_some()));
        self.record(Event::Ask(number));
        let submission = self.submissions.len();
        if self.features.waits && self.random.chance(50) {
            let submit = self.executor.submit_async_with(&tensors, how);
            self.submissions.push(Submission {
                outputs,
                deadline,
                recorded: Some(number),
                ..Submission::default()
            });
            self.count_launch(0, 1);
            let wait = Wait::Submitting(submit);
            self.ongoing.push(Ongoing {
                submission,
                wait,
                waker: None,
            });
            return;
        }
        self.record_call(number);
        let submitted = self.try_submit(&tensors, how);
        self.record(Event::Return(number, submitted.is_ok()));
        self.submitted_now(outputs, deadline, submitted);
        self.submissions[submission].recorded = Some(number);
    }

    // ---- recording -------------------------------------------------------------------------------

    fn record(&mut self, event: Event) {
        if let Some(window) = &mut self.window {
            if self.features.deeds {
                window.history.events.push(Event::Step); // a waker may have driven the executor
            }
            window.history.events.push(event);
        }
    }

    pub(crate) fn record_call(&mut self, number: usize) {
        if let Some(window) = &mut self.window
            && !std::mem::replace(&mut window.called[number], true)
        {
            window.history.events.push(Event::Call(number));
        }
    }

    pub(crate) fn record_return(&mut self, submission: usize, accepted: bool) {
        if let Some(number) = self.submissions[submission].recorded {
            self.record(Event::Return(number, accepted));
        }
    }

    pub(crate) fn record_look(
        &mut self,
        submission: usize,
        result: Option<&candlewick::Result<Vec<Tensor>>>,
    ) {
        let Some(number) = self.submissions[submission].recorded else {
            return;
        };
        let seen = match result {
            None => Seen::Pending,
            Some(Ok(_)) => Seen::Value,
            Some(Err(Error::Cancelled)) => Seen::Cancelled,
            Some(Err(Error::DeadlineExceeded)) => Seen::Expired,
            Some(Err(Error::Failed(_))) => Seen::Failed,
            Some(Err(_)) => return, // the executor is closing or lost
        };
        // a future that waits for room has no handle yet
        let waits = |o: &Ongoing| o.submission == submission && matches!(o.wait, Wait::Handle(_));
        if seen != Seen::Pending || self.ongoing.iter().any(waits) {
            self.record(Event::Observe(number, seen));
        }
    }

    pub(crate) fn record_swap(&mut self, version: u64) {
        self.record(Event::Swap(version));
    }

    pub(crate) fn record_step(&mut self, before: Instant) {
        if let Some(window) = &mut self.window {
            window.spoiled |= Script::now() != before;
            if !matches!(window.history.events.last(), Some(Event::Step)) {
                window.history.events.push(Event::Step);
            }
        }
    }

    pub(crate) fn record_time(&mut self) {
        let Some(window) = &mut self.window else {
            return;
        };
        for (number, deadline) in window.deadlines.iter().enumerate() {
            if deadline.is_some_and(|deadline| deadline <= Script::now()) && !window.late[number] {
                window.late[number] = true;
                window.history.events.push(Event::Late(number));
            }
        }
    }

    /// The history is complete.
    pub(crate) fn end_window(&mut self) {
        let Some(window) = self.window.take() else {
            return;
        };
        self.submissions
            .iter_mut()
            .for_each(|submission| submission.recorded = None);
        if window.spoiled || self.is_lost() {
            return;
        }
        self.findings.histories += 1;
        match window.history.check(BUDGET) {
            Verdict::Fits if self.findings.histories.is_multiple_of(LIE) => {
                self.lie(&window.history)
            }
            Verdict::Fits => {}
            Verdict::NotLooked => self.findings.not_looked += 1,
            Verdict::DoesNotFit => self.wrong(format!("no order explains {:?}", window.history)),
        }
    }

    /// Sees that a history does not fit any more when a lie is told at its end.
    fn lie(&mut self, history: &History) {
        let Some(lie) = history.with_a_lie() else {
            return;
        };
        match lie.check(BUDGET) {
            Verdict::Fits => self.wrong(format!("a lie is believed: {lie:?}")),
            Verdict::NotLooked => {}
            Verdict::DoesNotFit => self.findings.lies += 1,
        }
    }
}
