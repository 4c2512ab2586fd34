//! Histories that cannot have been: the search must reject each, and the truth beside it not.

use crate::history::{Event, History, Seen, Verdict};
use Event::{Ask, Call, Late, Observe, Read, Return, Step, Swap};
use candlewick::Cancel;

/// States that may be looked at: far more than any of these has.
const BUDGET: usize = 10_000;

/// A submission that has been accepted.
fn accepted(submission: usize) -> [Event; 3] {
    [Ask(submission), Call(submission), Return(submission, true)]
}

/// Submissions of these nodes, with or without a deadline, of a graph in which node 1 is made from node 0. Each is
/// accepted, one after the other, before the events.
fn history(submissions: &[(&[usize], bool)], events: &[Event]) -> History {
    let all = (0..submissions.len()).flat_map(accepted);
    History {
        below: vec![vec![], vec![0]],
        submissions: submissions
            .iter()
            .map(|&(nodes, deadline)| (nodes.to_vec(), deadline))
            .collect(),
        events: all.chain(events.iter().copied()).collect(),
        faults: false,
        version: 0,
    }
}

/// What happened, a truth about it and a lie.
type Case = (
    &'static str,
    &'static [(&'static [usize], bool)],
    &'static [Event],
    Event,
    Event,
);

const ONE: &[(&[usize], bool)] = &[(&[0], false)];
const TWO: &[(&[usize], bool)] = &[(&[0], false), (&[0], false)];
const DUE: &[(&[usize], bool)] = &[(&[0], true)];
const DUE_AND_WANTED: &[(&[usize], bool)] = &[(&[0], true), (&[0], false)];
const TWO_DUE: &[(&[usize], bool)] = &[(&[0], true), (&[0], true)];
const CHAIN: &[(&[usize], bool)] = &[(&[0], false), (&[1], false)];

fn cases() -> Vec<Case> {
    let value = |submission| Observe(submission, Seen::Value);
    let pending = |submission| Observe(submission, Seen::Pending);
    let cancel = Event::Cancel;
    vec![
        ("nothing has run", ONE, &[], pending(0), value(0)),
        (
            "it was there, and still is",
            ONE,
            &[Step, Observe(0, Seen::Value)],
            value(0),
            pending(0),
        ),
        (
            "it was withdrawn before it began",
            ONE,
            &[Event::Cancel(0, Cancel::Cancelled), Step],
            Observe(0, Seen::Cancelled),
            value(0),
        ),
        (
            "nobody has withdrawn it",
            ONE,
            &[Step],
            value(0),
            Observe(0, Seen::Cancelled),
        ),
        (
            "somebody else wants it",
            TWO,
            &[],
            cancel(0, Cancel::Shared),
            cancel(0, Cancel::Cancelled),
        ),
        (
            "the other one has withdrawn",
            TWO,
            &[Event::Cancel(0, Cancel::Shared)],
            cancel(1, Cancel::Cancelled),
            cancel(1, Cancel::Shared),
        ),
        (
            "it is withdrawn once",
            ONE,
            &[Event::Cancel(0, Cancel::Cancelled)],
            cancel(0, Cancel::Finished),
            cancel(0, Cancel::Cancelled),
        ),
        (
            "its deadline has passed",
            DUE,
            &[Late(0), Step],
            Observe(0, Seen::Expired),
            Observe(0, Seen::Cancelled),
        ),
        (
            "its deadline has not passed",
            DUE,
            &[Step],
            value(0),
            Observe(0, Seen::Expired),
        ),
        (
            "another one without a deadline wants it",
            DUE_AND_WANTED,
            &[Late(0), Step],
            value(1),
            Observe(1, Seen::Expired),
        ),
        (
            "nothing goes wrong",
            ONE,
            &[Step],
            value(0),
            Observe(0, Seen::Failed),
        ),
        (
            "what is above is there, so what is below has begun",
            CHAIN,
            &[Step, Observe(1, Seen::Value)],
            cancel(0, Cancel::Finished),
            cancel(0, Cancel::Cancelled),
        ),
        (
            "what is above needs it",
            CHAIN,
            &[],
            cancel(0, Cancel::Shared),
            cancel(0, Cancel::Cancelled),
        ),
        ("the version is new", ONE, &[Swap(1)], Read(1), Read(0)),
        ("one version follows another", ONE, &[], Swap(1), Swap(2)),
    ]
}

type Whole = (
    &'static str,
    &'static [(&'static [usize], bool)],
    Vec<Event>,
    Verdict,
);

/// Histories of which more than the end is of interest.
fn whole() -> Vec<Whole> {
    let refused = [Ask(0), Call(0), Return(0, false), Step];
    let value = [Observe(0, Seen::Value)];
    // the one that claimed it has let go, and is late; another one asks
    let let_go = [&accepted(0)[..], &[Event::Drop(0), Late(0)]].concat();
    let asks_too = [
        &accepted(1)[..],
        &[Late(1), Step, Observe(1, Seen::Expired)],
    ]
    .concat();
    let anew = [&let_go[..], &[Step], &asks_too].concat();
    let the_same = [let_go, asks_too].concat();
    let too_soon = [Ask(0), Call(0), Observe(0, Seen::Value)];
    let twice = [Ask(0), Call(0), Return(0, false), Return(0, true)];
    vec![
        ("it was refused", ONE, refused.into(), Verdict::Fits),
        (
            "a refused one has a value",
            ONE,
            [&refused[..], &value].concat(),
            Verdict::DoesNotFit,
        ),
        (
            "one that has not been accepted has a value",
            ONE,
            too_soon.into(),
            Verdict::DoesNotFit,
        ),
        (
            "it was refused and accepted",
            ONE,
            twice.into(),
            Verdict::DoesNotFit,
        ),
        (
            "one that was let go of expires, and is asked for anew",
            TWO_DUE,
            anew,
            Verdict::Fits,
        ),
        (
            "one that was let go of is wanted again, and expires",
            TWO_DUE,
            the_same,
            Verdict::DoesNotFit,
        ),
    ]
}

/// The cases in which a truth is rejected or a lie is not.
pub(crate) fn that_are_believed() -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, submissions, events, truth, lie) in cases() {
        for (last, verdict) in [(truth, Verdict::Fits), (lie, Verdict::DoesNotFit)] {
            let history = history(submissions, &[events, &[last]].concat());
            let found = history.check(BUDGET);
            if found != verdict {
                wrong.push(format!("{what}: {last:?} is {found:?}, not {verdict:?}"));
            }
        }
    }
    for (what, submissions, events, verdict) in whole() {
        let history = History {
            events,
            ..history(submissions, &[])
        };
        let found = history.check(BUDGET);
        if found != verdict {
            wrong.push(format!("{what}: {found:?}, not {verdict:?}"));
        }
    }
    wrong
}

impl History {
    /// The same with a lie at its end, if somebody has seen a value in it: that it was not there any more.
    pub(crate) fn with_a_lie(&self) -> Option<Self> {
        let mut events = self.events.iter();
        let seen = events.find_map(|event| match event {
            Observe(submission, Seen::Value) => Some(*submission),
            _ => None,
        });
        let mut lie = self.clone();
        lie.events.push(Observe(seen?, Seen::Pending));
        Some(lie)
    }
}
