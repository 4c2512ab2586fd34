//! Values of several fragments in one buffer, one after another.

use super::value::Value;
use crate::graph::Dims;
use candle_core::Tensor;
use std::cell::Cell;
use std::rc::Rc;

/// A buffer with a value of each of several fragments.
pub(super) struct Joint {
    /// All elements, in one dimension.
    pub(super) tensor: Tensor,
    /// Whose values they are.
    members: Vec<usize>,
    /// The shape of each.
    dims: Vec<Dims>,
    /// Where each begins; and the end.
    starts: Vec<usize>,
    /// Whether anything but the steps of the engine may know the buffer.
    shown: Cell<bool>,
}

/// A value of one fragment.
#[derive(Clone)]
pub(super) enum Piece {
    Whole(Value),
    /// This one of a joint buffer's.
    Part(Rc<Joint>, usize),
}

impl Joint {
    /// The values of these members, which have these shapes.
    pub(super) fn new(tensor: Tensor, members: &[usize], dims: Vec<Dims>) -> Rc<Self> {
        let mut starts = vec![0];
        let mut end = 0;
        for dims in &dims {
            end += dims.iter().product::<usize>();
            starts.push(end);
        }
        debug_assert_eq!(end, tensor.elem_count());
        Rc::new(Self {
            tensor,
            members: members.to_vec(),
            dims,
            starts,
            shown: Cell::new(false),
        })
    }

    /// The size of the value in this place.
    pub(super) fn bytes(&self, place: usize) -> usize {
        (self.starts[place + 1] - self.starts[place]) * self.tensor.dtype().size_in_bytes()
    }

    /// Whether it is of just these members, in this order.
    pub(super) fn is_of(&self, members: &[usize]) -> bool {
        self.members == members
    }

    /// The buffer, if nobody else knows it.
    pub(super) fn into_own(self: Rc<Self>) -> Option<Tensor> {
        let joint = Rc::try_unwrap(self).ok()?;
        (!joint.shown.get()).then_some(joint.tensor)
    }
}

impl Piece {
    /// The value as a tensor of its shape. A part is one that looks into the joint buffer.
    pub(super) fn tensor(&self) -> Option<Tensor> {
        match self {
            Piece::Whole(value) => value.whole().ok().cloned(),
            Piece::Part(joint, place) => {
                let (start, end) = (joint.starts[*place], joint.starts[place + 1]);
                let part = joint.tensor.narrow(0, start, end - start).ok()?;
                part.reshape(&joint.dims[*place][..]).ok()
            }
        }
    }

    /// From now on others may know the value's memory.
    pub(super) fn show(&mut self) {
        match self {
            Piece::Whole(value) => value.show(),
            Piece::Part(joint, _) => joint.shown.set(true),
        }
    }
}
