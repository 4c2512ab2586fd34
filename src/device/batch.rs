//! Several fragments as one: all of them go forward step by step together, and steps of the same
//! kind run once, on the rows of all.

use super::forms::Numbered;
use super::groups::{Source, groups};
use super::joint::{Joint, Piece};
use super::runner::{Runner, Tensors};
use super::value::{Stored, Value};
use super::work::Work;
use crate::core::actor::engine::{Member as Fragment, Results};
use crate::error::Cause;
use crate::graph::fragment::ValueId;
use crate::graph::{Dims, Op};
use crate::plan::batch::{Kind, Rows, Together};
use crate::plan::{OpStep, Plan, Step};
use candle_core::Tensor;
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;

/// A fragment of a batch.
struct Member<'a> {
    work: &'a Work,
    numbered: Arc<Numbered>,
    values: Vec<Option<Piece>>,
    /// The next of the plan's last uses.
    used: usize,
}

/// Who spoiled a batch, if that is known.
type Culprit = Option<usize>;

/// What must agree for a step to run as one: its kind, and the numbers that it takes.
type Agreed = (u32, SmallVec<[u32; 4]>);

/// A batch while it runs.
struct Batch<'r, 'a> {
    runner: &'r mut Runner,
    members: Vec<Member<'a>>,
}

impl Runner {
    /// Runs fragments as one, as far as they go together.
    pub(super) fn together(
        &mut self,
        fragments: &[Fragment<'_, Tensors>],
    ) -> Result<Vec<Results<Tensors>>, Culprit> {
        let mut sources = Vec::new();
        for (place, fragment) in fragments.iter().enumerate() {
            sources.push(Source::all(fragment).map_err(|_| Some(place))?);
        }
        self.forms.tidy();
        let mut members: Vec<Option<Member<'_>>> = fragments.iter().map(|_| None).collect();
        let groups = groups(&sources);
        for group in &groups {
            for &place in &group.members {
                let work: &Work = fragments[place].work;
                members[place] = Some(self.member(work, &sources[place], &group.same));
            }
        }
        let members = members.into_iter().flatten().collect();
        let mut batch = Batch {
            runner: self,
            members,
        };
        for group in &groups {
            batch.forward(&group.members, 0)?;
        }
        let results = batch.results()?;
        let several = groups.iter().filter(|group| group.members.len() > 1);
        several.for_each(|group| self.meter.count_batch(group.members.len()));
        Ok(results)
    }

    fn member<'a>(&mut self, work: &'a Work, sources: &[Source], same: &[bool]) -> Member<'a> {
        let plan = &work.plan;
        let same: Vec<bool> = (0..plan.values)
            .map(|value| same.get(value).copied().unwrap_or(false))
            .collect();
        let numbered = self.forms.get(plan, &same, || {
            let mut counts = vec![0; plan.values];
            for source in sources {
                counts[source.value as usize] = source.tensor.elem_count();
            }
            for step in &plan.steps {
                counts[step.value() as usize] = step.dims().iter().product();
            }
            counts
        });
        let mut values: Vec<Option<Piece>> = (0..plan.values).map(|_| None).collect();
        for source in sources {
            let value = Value::Here(source.tensor.clone());
            values[source.value as usize] = Some(Piece::Whole(value));
        }
        Member {
            work,
            numbered,
            values,
            used: 0,
        }
    }
}

impl Member<'_> {
    fn plan(&self) -> &Plan {
        &self.work.plan
    }

    fn rows(&self, step: usize) -> Option<&Rows> {
        match self.numbered.form.steps.get(step) {
            Some(Together::Rows(rows)) => Some(rows),
            _ => None,
        }
    }

    /// What must agree for a step to run as one.
    fn kind(&self, step: usize) -> Agreed {
        let parameters = match self.numbered.form.steps.get(step) {
            Some(Together::Rows(rows)) => &rows.parameters[..],
            Some(Together::Once(_, parameters)) => &parameters[..],
            _ => &[],
        };
        let numbers = parameters.iter().map(|&p| self.work.scalars[p as usize]);
        (
            self.numbered.kinds[step],
            numbers.map(f32::to_bits).collect(),
        )
    }
}

impl<'a> Batch<'_, 'a> {
    /// What all members must have alike to go on together with this step: what kind of step it is,
    /// and what exactly it does if one does it for all.
    fn next(&self, member: usize, step: usize) -> Option<(u64, Option<Agreed>)> {
        let member = &self.members[member];
        let once = matches!(
            member.numbered.form.steps.get(step),
            Some(Together::Once(..))
        );
        let kind = member.plan().outline.step(step)?;
        Some((kind, once.then(|| member.kind(step))))
    }

    /// Runs the steps of these members from this one on. They are alike so far.
    fn forward(&mut self, group: &[usize], from: usize) -> Result<(), Culprit> {
        let (&first, others) = group.split_first().ok_or(None)?;
        let mut step = from;
        loop {
            let next = self.next(first, step);
            if next.is_none() || others.iter().any(|&m| self.next(m, step) != next) {
                break;
            }
            self.step(group, step)?;
            step += 1;
        }
        // those that go on alike from here
        let mut apart: Vec<(_, Vec<usize>)> = Vec::new();
        for &member in group {
            let Some(next) = self.next(member, step) else {
                continue;
            };
            match apart.iter_mut().find(|(kind, _)| *kind == next) {
                Some((_, members)) => members.push(member),
                None => apart.push((next, vec![member])),
            }
        }
        let goes_on = |(_, members): (_, Vec<usize>)| self.forward(&members, step);
        apart.into_iter().try_for_each(goes_on)
    }

    /// Runs one step of each.
    fn step(&mut self, group: &[usize], step: usize) -> Result<(), Culprit> {
        let mut once: Option<Piece> = None;
        let mut singles = Vec::new();
        let mut classes: Vec<(Agreed, Vec<usize>)> = Vec::new();
        for &member in group {
            match &self.members[member].numbered.form.steps[step] {
                Together::Once(..) => {
                    let piece = match &once {
                        Some(piece) => piece.clone(),
                        None => {
                            self.apart(&[member], step)?;
                            let value = self.members[member].plan().steps[step].value();
                            let made = self.members[member].values[value as usize].as_mut();
                            let made = made.ok_or(Some(member))?;
                            made.show();
                            once.insert(made.clone()).clone()
                        }
                    };
                    self.put(member, step, piece);
                }
                Together::Apart => singles.push(member),
                Together::Rows(_) => {
                    let kind = self.members[member].kind(step);
                    match classes.iter_mut().find(|(other, _)| *other == kind) {
                        Some((_, members)) => members.push(member),
                        None => classes.push((kind, vec![member])),
                    }
                }
            }
        }
        for (_, members) in classes {
            if members.len() > 1 && self.is_worth_joining(&members, step) {
                self.joined(&members, step)?;
            } else {
                singles.extend(members);
            }
        }
        self.apart(&singles, step)?;
        group.iter().for_each(|&member| self.end(member, step));
        Ok(())
    }

    fn put(&mut self, member: usize, step: usize, piece: Piece) {
        let member = &mut self.members[member];
        let value = member.plan().steps[step].value();
        member.values[value as usize] = Some(piece);
    }

    /// Lets go of the values that nobody needs after this step.
    fn end(&mut self, member: usize, step: usize) {
        let member = &mut self.members[member];
        let uses = &member.work.plan.last_uses;
        while let Some(&(_, value)) = uses.get(member.used).filter(|use_| use_.0 == step as u32) {
            member.used += 1;
            match member.values[value as usize].take() {
                Some(Piece::Part(joint, _)) => {
                    joint
                        .into_own()
                        .into_iter()
                        .for_each(|t| self.runner.stream.recycle(t));
                }
                Some(Piece::Whole(Value::Own(tensor))) => self.runner.stream.recycle(tensor),
                _ => {}
            }
        }
    }

    // ---- as one ----------------------------------------------------------------------------

    /// Whether bringing the operands together costs less than it saves.
    fn is_worth_joining(&self, members: &[usize], step: usize) -> bool {
        let Some(rows) = self.members[members[0]].rows(step) else {
            return false;
        };
        let inputs = self.members[members[0]].plan().steps[step].inputs();
        let moved = inputs
            .iter()
            .filter(|&&value| !self.is_joined(members, value));
        let moved = moved.map(|&value| self.bytes(members[0], value));
        rows.is_worth_moving(moved.sum())
    }

    /// Whether a value is the same for all, or in one buffer already.
    fn is_joined(&self, members: &[usize], value: ValueId) -> bool {
        self.is_same(members[0], value)
            || matches!(&self.members[members[0]].values[value as usize],
                Some(Piece::Part(joint, _)) if joint.is_of(members))
    }

    fn is_same(&self, member: usize, value: ValueId) -> bool {
        self.members[member].numbered.form.same[value as usize]
    }

    fn bytes(&self, member: usize, value: ValueId) -> usize {
        match &self.members[member].values[value as usize] {
            Some(Piece::Whole(Value::Own(tensor) | Value::Here(tensor))) => {
                tensor.elem_count() * tensor.dtype().size_in_bytes()
            }
            Some(Piece::Part(joint, place)) => joint.bytes(*place),
            _ => 0,
        }
    }

    /// The values of these members in one buffer, one after another.
    fn join(&mut self, members: &[usize], value: ValueId) -> Result<Rc<Joint>, Culprit> {
        let at = value as usize;
        match &self.members[members[0]].values[at] {
            Some(Piece::Part(joint, _)) if joint.is_of(members) => return Ok(joint.clone()),
            _ => {}
        }
        let (mut tensors, mut dims) = (Vec::new(), Vec::new());
        for &member in members {
            let tensor = self.whole(member, value)?;
            dims.push(Dims::from_slice(tensor.dims()));
            tensors.push(tensor);
        }
        let tensor = self.runner.stream.join(&tensors).map_err(|_| None)?;
        drop(tensors);
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.runner.meter.count_moved(bytes);
        let joint = Joint::new(tensor, members, dims);
        for (place, &member) in members.iter().enumerate() {
            let part = Piece::Part(joint.clone(), place);
            let old = self.members[member].values[at].replace(part);
            if let Some(Piece::Whole(Value::Own(tensor))) = old {
                self.runner.stream.recycle(tensor);
            }
        }
        Ok(joint)
    }

    /// Runs a step once for all of these members.
    fn joined(&mut self, members: &[usize], step: usize) -> Result<(), Culprit> {
        let first = members[0];
        let numbered = self.members[first].numbered.clone();
        let work = self.members[first].work;
        let Together::Rows(rows) = &numbered.form.steps[step] else {
            return Err(None);
        };
        let counts = members.iter().map(|&m| self.members[m].rows(step));
        let total = counts.map(|rows| rows.map_or(0, |rows| rows.rows)).sum();
        let mut operands: SmallVec<[Tensor; 4]> = SmallVec::new();
        for value in work.plan.steps[step].inputs() {
            operands.push(match self.is_same(first, value) {
                true => self.whole(first, value)?,
                false => self.join(members, value)?.tensor.clone(),
            });
        }
        let inputs: SmallVec<[&Tensor; 4]> = operands.iter().collect();
        let stream = &mut self.runner.stream;
        let made = match &rows.kind {
            Kind::Fused(program) => {
                let step = program.on(total);
                stream.fused(&step, &inputs, &work.scalars, None)
            }
            Kind::Product(factors) => {
                let step = factors.on(total);
                stream.product(&step, &inputs, &work.scalars, work.kept_by(&step))
            }
            Kind::Select(select) => {
                let made = stream.run(work.op(select), &inputs);
                made.and_then(|made| made.flatten_all().map_err(Cause::Candle))
            }
        };
        let made = made.map_err(|_| None)?;
        let dims = members
            .iter()
            .map(|&m| self.members[m].plan().steps[step].dims().into());
        let joint = Joint::new(made, members, dims.collect());
        for (place, &member) in members.iter().enumerate() {
            self.put(member, step, Piece::Part(joint.clone(), place));
        }
        Ok(())
    }

    /// A value as a tensor of its own.
    fn whole(&self, member: usize, value: ValueId) -> Result<Tensor, Culprit> {
        let piece = self.members[member].values[value as usize].as_ref();
        piece.and_then(Piece::tensor).ok_or(Some(member))
    }

    // ---- each by itself --------------------------------------------------------------------

    /// Runs a step for each of these members, side by side.
    fn apart(&mut self, members: &[usize], step: usize) -> Result<(), Culprit> {
        let (mut runs, mut parts) = (Vec::new(), Vec::new());
        for &member in members {
            let work: &'a Work = self.members[member].work;
            let planned = &work.plan.steps[step];
            if let Step::Op(op) = planned
                && !copies(work.op(op))
            {
                let piece = self.op(member, op)?;
                self.put(member, step, piece);
                continue;
            }
            let inputs = planned.inputs();
            let inputs = inputs.iter().map(|&value| self.whole(member, value));
            runs.push(member);
            parts.push(work.part(planned, inputs.collect::<Result<_, _>>()?));
        }
        if parts.is_empty() {
            return Ok(());
        }
        let made = self.runner.stream.apart(&parts);
        drop(parts);
        for (member, made) in runs.into_iter().zip(made) {
            let tensor = made.map_err(|_| Some(member))?;
            let value = match self.members[member].work.plan.steps[step] {
                Step::Op(_) => {
                    self.show_inputs(member, step); // the result may be a view
                    Value::Here(tensor)
                }
                _ => Value::Own(tensor),
            };
            self.put(member, step, Piece::Whole(value));
        }
        Ok(())
    }

    fn show_inputs(&mut self, member: usize, step: usize) {
        for input in self.members[member].work.plan.steps[step].inputs() {
            if let Some(piece) = &mut self.members[member].values[input as usize] {
                piece.show();
            }
        }
    }

    /// Runs one operation of a member.
    fn op(&mut self, member: usize, step: &OpStep) -> Result<Piece, Culprit> {
        let mut inputs: SmallVec<[Tensor; 4]> = SmallVec::new();
        for &input in &step.inputs {
            inputs.push(self.whole(member, input)?);
            if let Some(piece) = &mut self.members[member].values[input as usize] {
                piece.show(); // the result may be a view
            }
        }
        let inputs: SmallVec<[&Tensor; 4]> = inputs.iter().collect();
        let op = self.members[member].work.op(step);
        let made = self.runner.run_op(op, step, &inputs);
        made.map(Piece::Whole).map_err(|_| Some(member))
    }

    /// The results of all, each in memory of its own: a part of a joint buffer would keep all of
    /// it.
    fn results(self) -> Result<Vec<Results<Tensors>>, Culprit> {
        let Batch { runner, members } = self;
        let mut all = Vec::with_capacity(members.len());
        for (place, member) in members.iter().enumerate() {
            let plan = member.plan();
            let outputs = plan.outputs.iter().zip(&member.work.outputs);
            let results = outputs.map(|(&value, output)| {
                let piece = member.values[value as usize].as_ref().ok_or(Some(place))?;
                let value = match piece {
                    Piece::Whole(value) => value.clone(),
                    Piece::Part(..) => {
                        let part = piece.tensor().ok_or(Some(place))?;
                        let own = runner.stream.join(std::slice::from_ref(&part));
                        let own = own.map_err(|_| None)?.reshape(part.shape());
                        runner.meter.count_moved(output.bytes as usize);
                        Value::Here(own.map_err(|_| None)?)
                    }
                };
                Ok(Ok(Stored::new(value, output.bytes, &runner.meter)))
            });
            all.push(results.collect::<Result<_, Culprit>>()?);
        }
        for piece in members
            .into_iter()
            .flat_map(|member| member.values)
            .flatten()
        {
            if let Piece::Part(joint, _) = piece {
                joint
                    .into_own()
                    .into_iter()
                    .for_each(|t| runner.stream.recycle(t));
            }
        }
        Ok(all)
    }
}

/// Whether an operation puts its operands into new memory and does no more.
fn copies(op: &Op) -> bool {
    matches!(op, Op::Cat(_) | Op::Stack(_) | Op::Repeat(_))
}
