//! A node of the graph, and the handle on it that users hold.

use super::infer::{count, is_wide_float};
use super::kept::Kept;
use super::leaf::refusal;
use super::op::Op;
use super::recycle;
use crate::core::origin::Origin;
use candle_core::{DType, Device, DeviceLocation, Shape, Tensor};
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The dimensions of a tensor; no allocation up to rank 4.
pub(crate) type Dims = SmallVec<[usize; 4]>;
/// A copy of dimensions. `clone` goes through them one by one, and copying as many as there are
/// is a call.
#[inline]
pub(crate) fn copy(dims: &Dims) -> Dims {
    let mut few = [0; 4];
    if dims.len() > few.len() {
        return Dims::from_slice(dims);
    }
    for (to, from) in few.iter_mut().zip(&dims[..]) {
        *to = *from;
    }
    Dims::from_buf_and_len(few, dims.len())
}

/// The operands of a node.
pub(crate) type Inputs = SmallVec<[LazyTensor; 3]>;
/// Identifies a node, and the slot of its result, for the life of the process. Never reused.
pub(crate) type NodeId = u64;

/// A tensor that is known by its shape, dtype and how to compute it.
///
/// Immutable; cloning is a reference count; every method that computes something returns a new
/// lazy tensor and runs nothing. Method names, arguments and errors follow
/// [`candle_core::Tensor`] and `candle_nn::ops`. A lazy tensor belongs to no executor until it
/// is submitted; from then on it stands for its result on that executor's device.
///
/// Operators work on references and return a `Result`, as Candle's do.
///
/// ```
/// use candlewick::{Device, LazyTensor, D};
/// let x = LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let y = ((&x * 2.0)? + &x)?.softmax(D::Minus1)?;
/// assert_eq!(y.dims(), [2, 2]);
/// assert!(x.matmul(&y.narrow(0, 0, 1)?).is_err()); // found here, before anything ran
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone)]
pub struct LazyTensor(pub(crate) ManuallyDrop<Arc<Node>>);

/// One node. A single allocation: building one takes no lock and touches no shared map.
#[allow(unreachable_pub)] // named by `LazyTensor`'s side of `core::cut::Tensor`, and no further
pub struct Node {
    pub(crate) id: NodeId,
    pub(crate) dims: Dims,
    pub(crate) dtype: DType,
    /// Where the result will be.
    pub(crate) location: DeviceLocation,
    pub(crate) made: Made,
    /// The executor that this node was submitted to, once it was.
    pub(crate) home: OnceLock<Arc<dyn Home>>,
}

/// How a node's value comes about.
pub(crate) enum Made {
    /// It exists. `host` says that it was made from host data for this graph, and so counts
    /// against the queue's bound in bytes; a tensor that was handed in does not. `kept` is what a
    /// device made of it. `whole` says that it has memory for all elements that it names.
    Leaf {
        tensor: Tensor,
        host: bool,
        kept: Option<Arc<Kept>>,
        whole: bool,
    },
    /// By an operation on other nodes, which is forgotten once its result is on its way.
    Op(Origin<Expr>),
    /// It stands for whatever a compiled function will be given in its place.
    Placeholder,
}

/// An operation on other nodes. Nobody takes a reference to an operand from here: a node to which only
/// an operand refers is known to nobody else.
#[allow(unreachable_pub)] // as `Node`
pub struct Expr {
    pub(crate) op: Op,
    pub(super) inputs: Inputs,
}

/// What a node must know of the executor that it was submitted to.
pub(crate) trait Home: Send + Sync {
    /// Tells executors apart.
    fn executor(&self) -> u64;
    /// The node is gone: nobody can name its result any more.
    fn release(&self, id: NodeId);
}

/// Ids are handed out in blocks to threads, so that building a graph shares no cache line.
pub(crate) fn next_id() -> NodeId {
    const BLOCK: u64 = 1024;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local!(static MINE: Cell<u64> = const { Cell::new(0) });
    MINE.with(|mine| {
        let mut id = mine.get();
        if id.is_multiple_of(BLOCK) {
            // ORDERING: Relaxed; only the count matters, and a read-modify-write never gives
            // the same number twice.
            id = NEXT.fetch_add(BLOCK, Ordering::Relaxed);
        }
        mine.set(id + 1);
        id
    })
}

impl LazyTensor {
    /// A node that computes `op`. The caller has checked that it is valid.
    #[inline]
    pub(crate) fn from_op(
        op: Op,
        inputs: Inputs,
        dims: Dims,
        dtype: DType,
        location: DeviceLocation,
    ) -> Self {
        let made = Made::Op(Origin::new(Expr { op, inputs }));
        Self::new_node(made, dims, dtype, location)
    }

    /// A node whose value exists.
    pub(crate) fn from_leaf(tensor: Tensor, host: bool) -> Self {
        let dims = Dims::from_slice(tensor.dims());
        let (dtype, location) = (tensor.dtype(), tensor.device().location());
        let matrix = dims.len() >= 2 && is_wide_float(dtype) && tensor.device().is_cpu();
        let made = Made::Leaf {
            whole: refusal(&tensor).is_none(),
            tensor,
            host,
            kept: (matrix && !host).then(Arc::default),
        };
        Self::new_node(made, dims, dtype, location)
    }

    /// What a compiled function is traced with.
    pub(crate) fn placeholder(dims: Dims, dtype: DType, location: DeviceLocation) -> Self {
        Self::new_node(Made::Placeholder, dims, dtype, location)
    }

    #[inline]
    fn new_node(made: Made, dims: Dims, dtype: DType, location: DeviceLocation) -> Self {
        LazyTensor(ManuallyDrop::new(recycle::make(Node {
            id: next_id(),
            dims,
            dtype,
            location,
            made,
            home: OnceLock::new(),
        })))
    }

    /// The size of each dimension.
    pub fn dims(&self) -> &[usize] {
        &self.0.dims
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        Shape::from(self.dims())
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.dims.len()
    }

    /// The number of elements.
    pub fn elem_count(&self) -> usize {
        count(self.dims())
    }

    /// Where the result will be.
    pub fn location(&self) -> DeviceLocation {
        self.0.location
    }
}

impl AsRef<LazyTensor> for LazyTensor {
    fn as_ref(&self) -> &LazyTensor {
        self
    }
}

/// Shape, dtype and operation; never the data.
impl fmt::Debug for LazyTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match &self.0.made {
            Made::Leaf { .. } => Some("leaf"),
            Made::Op(origin) => origin.read(|expr| expr.op.name()),
            Made::Placeholder => Some("placeholder"),
        };
        write!(
            f,
            "LazyTensor[{:?}; {}; {}]",
            self.dims(),
            self.dtype().as_str(),
            op.unwrap_or("submitted")
        )
    }
}

impl Node {
    /// Whether the node makes sense on the host although its graph runs on a device: host data
    /// or a filled tensor to be moved there, or what was moved back.
    pub(crate) fn may_be_on_host(&self) -> bool {
        let may = |expr: &Expr| matches!(expr.op, Op::ToDevice(_) | Op::Fill { .. });
        self.location == DeviceLocation::Cpu
            && match &self.made {
                Made::Leaf { .. } | Made::Placeholder => true,
                Made::Op(origin) => origin.read(may).unwrap_or(true),
            }
    }

    /// Whether it is computed from others and nobody has submitted it.
    pub(crate) fn is_computed(&self) -> bool {
        matches!(&self.made, Made::Op(origin) if origin.read(|_| ()).is_some())
    }

    /// Forgets how the node is computed, once its result is on its way.
    pub(crate) fn forget_origin(&self) {
        if let Made::Op(origin) = &self.made {
            origin.forget();
        }
    }

    /// Lets go of everything: nobody can name the node's result any more. What it is made from comes
    /// back.
    pub(super) fn clear(&mut self) -> Option<Expr> {
        if let Some(home) = self.home.take() {
            home.release(self.id);
        }
        self.dims = Dims::new();
        match &mut self.made {
            Made::Op(origin) => origin.take_mut(),
            made => {
                *made = Made::Placeholder;
                None
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.clear());
    }
}

/// Drops what nobody else refers to of the graph below, by a loop: a graph may be far deeper than the
/// stack.
impl Drop for LazyTensor {
    fn drop(&mut self) {
        // SAFETY: taken once; nothing looks at it after this.
        let node = unsafe { ManuallyDrop::take(&mut self.0) };
        let Some(Expr { mut inputs, .. }) = recycle::let_go(node) else {
            return; // somebody needs it, or nothing is below it
        };
        let mut doomed: SmallVec<[Inputs; 4]> = SmallVec::new();
        loop {
            let Some(tensor) = inputs.pop() else {
                match doomed.pop() {
                    Some(next) => inputs = next,
                    None => return,
                }
                continue;
            };
            let mut tensor = ManuallyDrop::new(tensor);
            // SAFETY: as above; it is not dropped again.
            let node = unsafe { ManuallyDrop::take(&mut tensor.0) };
            if let Some(Expr { inputs: below, .. }) = recycle::let_go(node) {
                if !inputs.is_empty() {
                    doomed.push(inputs);
                }
                inputs = below;
            }
        }
    }
}

/// The location of a device without borrowing it.
pub(crate) fn host() -> DeviceLocation {
    Device::Cpu.location()
}
