//! How requests come to fragments, as a model of which every state is explored: the first cut, the
//! permit, the number, the claims one by one, the second cut, the message, the owner, withdrawing,
//! failing, closing and waiting. Loom runs the production code of two or three threads; this runs
//! none of it, and shows that the rule is right for every small graph and every choice of requests.
//!
//! The rule: a request cuts before it claims, and leans on every claim that it sees. It draws a number
//! after the cut and before its first claim. If it loses a part, it cuts what it won again, as one
//! fragment, which leans on a claim that is older or has begun; what a younger one has not begun is
//! computed inside as if it were not claimed. So each fragment waits for older ones only, and there
//! is no circle.
//!
//! A fragment that is withdrawn while its message is in the channel gives its permit back at once and
//! leaves a husk there, for which the channel has a place beside the permits'. Beyond the bound of the
//! husks, which is one here so that both sides of it are met, the permit stays with the message.
//!
//! A step is what one thread does in one atomic operation or under one lock. These are one step
//! although the code takes several, which loom runs: a cut (but for rules with cuts in steps),
//! withdrawing an interest with all that goes with it, ending the outputs of a fragment, and handing a
//! permit to the first in line. The owner begins queued fragments in any order, or by their class.
//! Not in the model: deadlines, bytes, lifting what an urgent request waits for, lending,
//! batches that run again apart, a lost device, and nodes that are not named any more.
//!
//! ```text
//! cargo test --release --test claims -- --nocapture              # with the numbers of states
//! cargo test --release --test claims -- --ignored --nocapture    # larger, in minutes: `bash .ci/deep claims`
//! ```

#[path = "claims/cut.rs"]
mod cut;
#[path = "claims/explore.rs"]
mod explore;
#[path = "claims/graph.rs"]
mod graph;
#[path = "claims/owner.rs"]
mod owner;
#[path = "claims/request.rs"]
mod request;
#[path = "claims/rule.rs"]
mod rule;
#[path = "claims/state.rs"]
mod state;
#[path = "claims/steps.rs"]
mod steps;

use explore::{Explored, explore};
use graph::{Size, configurations, unasked};
use rule::{Close, Fault, Rule};
use state::{Broken, Met};
use std::time::Instant;

/// Three nodes, two requests, up to three outputs.
const WIDE: Size = size(3, 2, 3);
/// Four nodes, two requests, up to two outputs.
const DEEP: Size = size(4, 2, 2);
/// Three nodes, three requests, up to two outputs.
const MANY: Size = size(3, 3, 2);
/// Three nodes, two requests, up to two outputs: enough for most faults.
const SMALL: Size = size(3, 2, 2);
/// One node, which three requests claim one after the other, each after the one before has withdrawn.
const ANEW: Size = size(1, 3, 1);

const PLAIN: Rule = Rule::PLAIN;
/// A queue of one fragment.
const ONE: Rule = Rule {
    capacity: 1,
    ..PLAIN
};
/// A queue of two.
const TWO: Rule = Rule {
    capacity: 2,
    ..PLAIN
};
/// Everything may happen that happens while the executor is open.
const OPEN: Rule = Rule {
    cancel: true,
    refuse: true,
    fail: true,
    tries: true,
    stepwise: true,
    ..TWO
};
const CANCEL: Rule = Rule {
    cancel: true,
    ..PLAIN
};
const CANCEL_REFUSE: Rule = Rule {
    cancel: true,
    refuse: true,
    ..PLAIN
};
const CLASSES: Rule = Rule {
    classes: true,
    ..PLAIN
};
const REFUSE: Rule = Rule {
    refuse: true,
    ..PLAIN
};

/// The executor may close, with one permit, so that a line forms.
const CLOSE: Rule = closing(Close::Orderly, ONE);

const fn size(nodes: usize, requests: usize, outputs: usize) -> Size {
    Size {
        nodes,
        requests,
        outputs,
    }
}

const fn of(capacity: u8, rule: Rule) -> Rule {
    Rule { capacity, ..rule }
}

const fn closing(close: Close, rule: Rule) -> Rule {
    Rule { close, ..rule }
}

/// Explores all configurations of a size under a rule, and says how many states there were.
fn explored(size: Size, rule: Rule) -> Explored {
    let since = Instant::now();
    let explored = explore(configurations(size, rule.classes), rule);
    println!(
        "{} nodes, {} requests of up to {} outputs, {}: {} configurations, {} states, {:.1} s",
        size.nodes,
        size.requests,
        size.outputs,
        rule.describe(),
        explored.configurations,
        explored.states,
        since.elapsed().as_secs_f32(),
    );
    explored
}

/// Checks that nothing is found under these rules, and that all of `met` has happened; under each with
/// cancelling, both sides of the bound of the husks were met.
fn holds(size: Size, rules: &[Rule], met: &[Met]) {
    let mut all = 0;
    for &rule in rules {
        let explored = explored(size, rule);
        if let Some((broken, history)) = explored.found {
            panic!("{broken:?}:\n{history}");
        }
        all |= explored.met;
        if rule.cancel && rule.husks == 1 {
            happened(explored.met, &[Met::HuskLeft, Met::HuskBound]);
        }
    }
    happened(all, met);
}

fn happened(all: u32, met: &[Met]) {
    for event in met {
        assert!(all >> *event as u32 & 1 == 1, "{event:?} was never met");
    }
}

/// What happens wherever requests overlap, withdraw and fail.
const COMMON: &[Met] = &[
    Met::YoungerInside,
    Met::BegunBelow,
    Met::OlderPending,
    Met::WonNone,
    Met::ClaimedAnew,
    Met::Chain,
    Met::GivenUpBeside,
    Met::Granted,
    Met::PassedOn,
    Met::LatePermit,
    Met::BadInput,
    Met::Pipelined,
    Met::HuskPlace,
    Met::HuskBehind,
];

#[test]
fn two_requests_of_three_nodes() {
    let classes = Rule {
        classes: true,
        ..of(2, CANCEL_REFUSE)
    };
    let rules = [OPEN, of(1, closing(Close::Orderly, OPEN)), classes];
    holds(WIDE, &rules, COMMON);
}

#[test]
fn two_requests_of_four_nodes() {
    let orderly = of(1, closing(Close::Orderly, OPEN));
    let rules = [closing(Close::Abort, OPEN), orderly];
    holds(DEEP, &rules, COMMON);
    holds(SMALL, &[orderly], &[Met::RefusedInLine]);
}

#[test]
fn three_requests_of_three_nodes() {
    let met = [
        Met::YoungerInside,
        Met::BegunBelow,
        Met::OlderPending,
        Met::ClaimedAnew,
        Met::Granted,
        Met::PassedOn,
        Met::RefusedInLine,
        Met::HuskPlace,
    ];
    holds(MANY, &[TWO, of(1, CANCEL_REFUSE), CLOSE], &met);
}

#[test]
#[ignore = "explores some 560 million states, in four minutes of one core"]
fn larger() {
    let (orderly, abort) = (Close::Orderly, Close::Abort);
    let rules = [closing(orderly, OPEN), closing(abort, OPEN)];
    holds(WIDE, &rules, &[]);
    let rules = [
        of(2, CANCEL),
        of(2, REFUSE),
        of(1, closing(orderly, CANCEL)),
        of(1, closing(abort, REFUSE)),
    ];
    holds(MANY, &rules, &[]);
    holds(size(4, 2, 3), &[TWO, of(1, CANCEL_REFUSE)], &[]);
    holds(size(3, 3, 3), &[ONE], &[]);
    holds(size(4, 3, 2), &[ONE], &[]);
}

/// A node that no request asks for may be left out: there are just as many states without it.
#[test]
fn unasked_nodes_change_nothing() {
    let rule = of(1, CANCEL_REFUSE);
    for config in unasked(SMALL) {
        let text = config.to_string();
        let without = explore([config.contracted()], rule);
        let with = explore([config], rule);
        assert!(with.found.is_none() && without.found.is_none(), "{text}");
        assert_eq!(with.states, without.states, "{text}");
    }
}

/// If the permit of a withdrawn fragment comes back before its message is out of the channel, the
/// channel needs a place more than there are permits, for each husk that may be left.
#[test]
fn permits_and_places() {
    let beside = |capacity, husks, places| Rule {
        husks,
        places,
        ..of(capacity, closing(Close::Orderly, CANCEL))
    };
    let breaks = |size, rule| {
        let found = explored(size, rule).found;
        assert!(matches!(found, Some((Broken::NoPlace, _))), "{found:?}");
    };
    let met = [Met::Chain, Met::LatePermit, Met::HuskPlace, Met::HuskBehind];
    holds(SMALL, &[beside(1, 1, 1), beside(2, 1, 1)], &met);
    breaks(SMALL, beside(1, 1, 0));
    holds(ANEW, &[beside(1, 2, 2)], &[Met::HuskLeft, Met::HuskBound]);
    breaks(ANEW, beside(1, 2, 1));
    // without husks no place is needed: each permit comes back with its message
    holds(SMALL, &[beside(1, 0, 0)], &[Met::HuskBound]);
}

/// What is seeded, where it is looked for, and what is found.
const FAULTS: &[(Size, Rule, Fault, Broken)] = &[
    // the order
    (WIDE, PLAIN, Fault::LeanOnYounger, Broken::Circle),
    (WIDE, PLAIN, Fault::NumberFirst, Broken::Circle),
    (WIDE, PLAIN, Fault::IgnoreBegun, Broken::Forgotten),
    // permits
    (SMALL, ONE, Fault::PermitLast, Broken::Stuck),
    (SMALL, ONE, Fault::KeepPermit, Broken::Permits),
    (SMALL, ONE, Fault::PassLine, Broken::Stuck),
    // failing launches
    (SMALL, REFUSE, Fault::RefuseSilently, Broken::Stuck),
    (SMALL, REFUSE, Fault::RefuseAsleep, Broken::Stuck),
    // the owner and those who wait
    (SMALL, PLAIN, Fault::PostFirst, Broken::Stuck),
    (SMALL, PLAIN, Fault::PostAsleep, Broken::Stuck),
    (SMALL, PLAIN, Fault::ReceiveFirst, Broken::Stuck),
    (SMALL, PLAIN, Fault::WaitBlindly, Broken::Stuck),
    (SMALL, CLASSES, Fault::HeadOfLine, Broken::Stuck),
    // withdrawing
    (SMALL, CANCEL, Fault::KeepWithdrawn, Broken::Permits),
    (SMALL, CANCEL, Fault::KeepBeyond, Broken::Permits),
    (ANEW, of(1, CANCEL), Fault::KeepBeyond, Broken::Stuck),
    (ANEW, of(1, CANCEL), Fault::UncountedHusk, Broken::NoPlace),
    (SMALL, CANCEL, Fault::KeepCount, Broken::Husks),
    (SMALL, CANCEL, Fault::KeepInputs, Broken::Interest),
    (SMALL, CANCEL, Fault::CancelBegun, Broken::Twice),
    // closing
    (SMALL, CLOSE, Fault::ReturnSilently, Broken::Stuck),
    (SMALL, CLOSE, Fault::HandOn, Broken::Admitted),
    (SMALL, CLOSE, Fault::LeaveLine, Broken::Stuck),
    (SMALL, CLOSE, Fault::LeaveEarly, Broken::Unheard),
];

/// Checks that what is seeded into the rule is found, is what is expected, and is not there without it.
fn finds(size: Size, rule: Rule, fault: Fault, expected: Broken) {
    holds(size, &[rule], &[]);
    let Some((broken, history)) = explored(size, rule.with(fault)).found else {
        panic!("{fault:?} is not found")
    };
    println!("  {fault:?}: {broken:?}\n{history}");
    assert_eq!(broken, expected, "{fault:?}:\n{history}");
}

/// The first version cut what was won again as a fragment for each output, which leaned on every
/// live claim: two requests of two outputs each could wait for each other for ever.
#[test]
fn the_old_rule_has_a_circle() {
    finds(SMALL, PLAIN, Fault::Apart, Broken::Circle);
}

#[test]
fn each_fault_is_found() {
    for &(size, rule, fault, expected) in FAULTS {
        finds(size, rule, fault, expected);
    }
}
