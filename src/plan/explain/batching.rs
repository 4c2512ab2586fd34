//! What would become of a fragment's steps in a batch.

use super::super::Plan;
use super::super::batch::{Form, Kind, Together};
use super::super::estimate::{Known, bytes, human};
use super::super::outline::Alone;
use crate::graph::fragment::{Fragment, ValueId};

/// How the steps of a fragment run beside others like it.
pub(super) struct Batching {
    /// Of each step.
    pub(super) steps: Vec<String>,
    /// Of all.
    pub(super) all: String,
    /// How many steps run as one, and bytes of the fragment that are copied for it; nothing if it
    /// runs by itself.
    pub(super) gain: Option<(usize, usize)>,
}

/// With others of the same structure, whose host data and submitted results are each one's own, and
/// who were handed the same tensors: how it would run on the CPU.
pub(super) fn batching<S>(fragment: &Fragment<S>, plan: &Plan, known: &Known) -> Batching {
    if let Some(alone) = plan.alone() {
        let why = match alone {
            Alone::Rows(rows) => format!("a product has {rows} rows"),
            Alone::Bytes(bytes) => format!("a value has {}", human(bytes)),
            Alone::Candle => "all goes through Candle".to_owned(),
        };
        return Batching {
            steps: vec![String::new(); plan.steps.len()],
            all: format!("in no batch: {why}"),
            gain: None,
        };
    }
    let (mut same, mut counts) = (vec![false; plan.values], vec![0; plan.values]);
    for source in &fragment.sources {
        same[source.value as usize] = source.handed_in;
        counts[source.value as usize] = source.dims.iter().product();
    }
    for step in &plan.steps {
        counts[step.value() as usize] = step.dims().iter().product();
    }
    let form = Form::of(plan, &same, &counts);
    let mut rows = AsRows {
        joined: form.same.clone(),
        form,
        known,
        moved: 0,
        together: 0,
    };
    let steps = (0..plan.steps.len()).map(|step| rows.step(plan, step));
    let steps = steps.collect();
    let out = plan.outputs.iter().filter(|&&value| {
        let value = value as usize;
        rows.joined[value] && !rows.form.same[value]
    });
    let out: usize = out.map(|&value| bytes(known, value)).sum();
    let all = format!(
        "in a batch: {} of {} steps run as one; of each fragment {} are brought together and {} \
         taken out",
        rows.together,
        plan.steps.len(),
        human(rows.moved),
        human(out),
    );
    Batching {
        steps,
        all,
        gain: Some((rows.together, rows.moved + out)),
    }
}

/// A batch, step by step.
struct AsRows<'a> {
    form: Form,
    known: &'a Known,
    /// Which values are the same for all, or in one buffer.
    joined: Vec<bool>,
    /// Bytes of the fragment that are copied to bring values together.
    moved: usize,
    together: usize,
}

impl AsRows<'_> {
    fn step(&mut self, plan: &Plan, place: usize) -> String {
        let step = &plan.steps[place];
        let Some(Together::Rows(rows)) = self.form.steps.get(place) else {
            let once = matches!(self.form.steps.get(place), Some(Together::Once(..)));
            self.together += usize::from(once);
            return if once { "once for all" } else { "each apart" }.to_owned();
        };
        let inputs = step.inputs();
        let apart = inputs.iter().filter(|&&v| !self.joined[v as usize]);
        let mut apart: Vec<ValueId> = apart.copied().collect();
        apart.sort_unstable();
        apart.dedup();
        let moves = apart.iter().map(|&value| bytes(self.known, value)).sum();
        if !rows.is_worth_moving(moves) {
            return format!("each apart, to move {} less", human(moves));
        }
        let line = match (&rows.kind, rows.rows) {
            (Kind::Product(factors), _) if factors.is_stacked() => "one beside another".to_owned(),
            (_, 1) => "1 row of all".to_owned(),
            (_, many) => format!("{many} rows of all"),
        };
        for value in apart {
            self.joined[value as usize] = true;
        }
        self.joined[step.value() as usize] = true;
        self.moved += moves;
        self.together += 1;
        line
    }
}
