//! Every state that a rule can come to, breadth first, and what is wrong with it.
//!
//! The search is written out here: a checker from elsewhere would bring a web server along, tell
//! states apart by a hash only, and start threads for each of some thousand small graphs.
//!
//! Each step uses something up (a place on a request's or a fragment's way, a ring of the bell), so
//! no run is endless, and a state in which nothing has to happen is where each run ends.

use super::graph::Config;
use super::rule::{Fault, Rule};
use super::state::{At, Broken, Door, FRAGMENTS, Key, Owner, Stage, State};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write;
use std::ops::Range;

/// One configuration under one rule.
pub struct Model {
    pub config: Config,
    pub rule: Rule,
}

/// Who does what.
type Label = (&'static str, &'static str);

/// What an exploration came to.
#[derive(Default)]
pub struct Explored {
    pub configurations: usize,
    pub states: usize,
    /// The events that it has met, a bit for each of `Met`.
    pub met: u32,
    /// What was found first, and how it comes to that.
    pub found: Option<(Broken, String)>,
}

/// The search of one configuration.
#[derive(Default)]
pub struct Search {
    seen: FxHashSet<Key>,
    /// Those that are new, for the next round.
    next: Vec<State>,
    /// For each state the one before it and the step, if they are wanted.
    before: Option<FxHashMap<Key, (Key, Label)>>,
    met: u32,
    /// What is wrong: in which state, or with which step from it.
    found: Option<(Broken, Key, Option<Label>)>,
    /// Whose steps are taken in.
    actor: &'static str,
    /// How many steps have been taken in from this state, and how many of them are sure to be taken.
    pub steps: usize,
    must: usize,
}

impl Search {
    /// A step that its actor takes sooner or later.
    pub fn must(&mut self, what: &'static str, from: &State, step: impl FnOnce(&mut State)) {
        self.must += 1;
        self.may(what, from, step);
    }

    /// A step that may never be taken: nothing is to depend on it.
    pub fn may(&mut self, what: &'static str, from: &State, step: impl FnOnce(&mut State)) {
        self.steps += 1;
        let mut to = State { met: 0, ..*from };
        step(&mut to);
        self.met |= to.met;
        // What a step breaks is no part of the state that it leads to, which may be a good one that
        // was seen before.
        let label = (self.actor, what);
        if let Some(broken) = to.broken {
            self.found.get_or_insert((broken, from.key(), Some(label)));
            return;
        }
        let key = to.key();
        if self.seen.insert(key) {
            self.next.push(to);
            if let Some(before) = &mut self.before {
                before.insert(key, (from.key(), label));
            }
        }
    }
}

impl Model {
    /// Whether this is what is done wrong.
    pub fn is(&self, fault: Fault) -> bool {
        self.rule.fault == Some(fault)
    }

    pub fn requests(&self) -> usize {
        self.config.requests.len()
    }

    pub fn operands(&self, node: usize) -> u8 {
        self.config.operands[node]
    }

    /// How many fragments a request may become.
    pub fn parts(&self) -> usize {
        1 + self.is(Fault::Apart) as usize
    }

    pub fn fragments_of(&self, r: usize) -> Range<usize> {
        self.parts() * r..self.parts() * (r + 1)
    }

    /// Whose fragment it is.
    pub fn claimant(&self, f: usize) -> usize {
        f / self.parts()
    }

    fn start(&self) -> State {
        let asked = self.config.requests.iter().map(|ask| ask.set());
        State::new(self.way()[0], asked, self.rule.capacity)
    }

    /// Takes in all steps from a state.
    fn steps(&self, s: &State, search: &mut Search) {
        (search.steps, search.must) = (0, 0);
        for r in 0..self.requests() {
            search.actor = ["request 0", "request 1", "request 2"][r];
            self.request(s, r, search);
        }
        search.actor = "the owner";
        self.owner(s, search);
        search.actor = "the closer";
        self.close(s, search);
        if search.must == 0
            && let Some(broken) = self.unrest(s)
        {
            search.found.get_or_insert((broken, s.key(), None));
        }
    }

    /// What is wrong with a state in which nothing has to happen.
    fn unrest(&self, s: &State) -> Option<Broken> {
        let done = s.requests.iter().all(|request| request.at == At::Done);
        let at_home = match s.door {
            Door::Open => s.owner == Owner::Asleep,
            _ => s.owner == Owner::Left,
        };
        let over = |f: usize| match s.fragments[f].stage {
            Stage::None => true,
            Stage::Husk => s.owner == Owner::Left,
            _ => false,
        };
        let husks = s.fragments.iter().filter(|f| f.stage == Stage::Husk);
        let wanted = s.slots.iter().flatten().any(|slot| slot.interest > 0);
        if !(done && at_home && (0..FRAGMENTS).all(over)) {
            Some(Broken::Stuck)
        } else if s.permits != self.rule.capacity {
            Some(Broken::Permits)
        } else if s.husks as usize != husks.count() {
            Some(Broken::Husks)
        } else {
            wanted.then_some(Broken::Interest)
        }
    }

    fn search(&self, remember: bool) -> Search {
        let start = self.start();
        let mut search = Search {
            seen: FxHashSet::from_iter([start.key()]),
            before: remember.then(FxHashMap::default),
            ..Search::default()
        };
        let mut level = vec![start];
        while !level.is_empty() && search.found.is_none() {
            for state in level.drain(..) {
                self.steps(&state, &mut search);
            }
            std::mem::swap(&mut level, &mut search.next);
        }
        search
    }

    /// The steps that lead to what is wrong, as few as possible.
    fn history(&self) -> String {
        let search = self.search(true);
        let (Some((_, last, step)), Some(before)) = (search.found, search.before) else {
            unreachable!("it was found before")
        };
        let (mut steps, mut key) = (Vec::from_iter(step), last);
        while let Some(&(earlier, label)) = before.get(&key) {
            steps.push(label);
            key = earlier;
        }
        let mut text = format!("  {}", self.config);
        for (who, what) in steps.into_iter().rev() {
            let _ = write!(text, "\n    {who} {what}");
        }
        text
    }
}

/// Explores configurations under one rule, until something is found.
pub fn explore(configurations: impl IntoIterator<Item = Config>, rule: Rule) -> Explored {
    let mut all = Explored::default();
    for config in configurations {
        let model = Model { config, rule };
        let search = model.search(false);
        all.configurations += 1;
        all.states += search.seen.len();
        all.met |= search.met;
        if let Some((broken, ..)) = search.found {
            all.found = Some((broken, model.history()));
            break;
        }
    }
    all
}
