//! The forms of plans in batches, kept from one batch to the next.

use crate::plan::Plan;
use crate::plan::batch::{Form, Together};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The most forms that are kept, and the most kinds of steps.
const MOST: usize = 1024;
const MOST_KINDS: usize = 1 << 16;

/// Forms that were looked for before.
#[derive(Default)]
pub(super) struct Forms {
    /// By the plan's address, which its reference here keeps from being used again.
    known: FxHashMap<usize, Vec<Known>>,
    count: usize,
    /// A number for each kind of step.
    kinds: FxHashMap<String, u32>,
}

struct Known {
    _plan: Arc<Plan>,
    same: Vec<bool>,
    form: Arc<Numbered>,
}

/// A form, with a number for the kind of each step. Equal numbers mean equal kinds.
pub(super) struct Numbered {
    pub(super) form: Form,
    pub(super) kinds: Vec<u32>,
}

impl Forms {
    /// Forgets all if that is too much. Numbers of before mean nothing to what is made afterwards.
    pub(super) fn tidy(&mut self) {
        if self.count >= MOST || self.kinds.len() >= MOST_KINDS {
            *self = Self::default();
        }
    }

    /// The form of a plan, where these values are the same for all. `counts` tells how many
    /// elements each value has.
    pub(super) fn get(
        &mut self,
        plan: &Arc<Plan>,
        same: &[bool],
        counts: impl FnOnce() -> Vec<usize>,
    ) -> Arc<Numbered> {
        let address = Arc::as_ptr(plan) as usize;
        let known = self.known.get(&address).into_iter().flatten();
        if let Some(known) = known.into_iter().find(|known| known.same == same) {
            return known.form.clone();
        }
        let form = Form::of(plan, same, &counts());
        let kinds = form.steps.iter().map(|step| match step {
            Together::Rows(rows) => number(&mut self.kinds, format!("{:?}", rows.kind)),
            Together::Once(step, _) => number(&mut self.kinds, step.clone()),
            Together::Apart => 0,
        });
        let kinds = kinds.collect();
        let form = Arc::new(Numbered { form, kinds });
        self.count += 1;
        self.known.entry(address).or_default().push(Known {
            _plan: plan.clone(),
            same: same.to_vec(),
            form: form.clone(),
        });
        form
    }
}

/// The number of a kind, which is the next one if it is new.
fn number(kinds: &mut FxHashMap<String, u32>, kind: String) -> u32 {
    let next = kinds.len() as u32 + 1;
    *kinds.entry(kind).or_insert(next)
}
