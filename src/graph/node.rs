//! A node of the graph, and the handle on it that users hold.

use super::kept::Kept;
use super::op::Op;
use crate::origin::Origin;
use candle_core::{DType, Device, DeviceLocation, Shape, Tensor};
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
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
pub struct LazyTensor(pub(crate) Arc<Node>);

/// One node. A single allocation: building one takes no lock and touches no shared map.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) dims: Dims,
    pub(crate) dtype: DType,
    /// Where the result will be.
    pub(crate) location: DeviceLocation,
    pub(crate) origin: Origin<Expr>,
    /// The executor that this node was submitted to, once it was.
    pub(crate) home: OnceLock<Arc<dyn Home>>,
}

/// How a node's value comes about.
pub(crate) enum Expr {
    /// It exists. `host` says that it was made from host data for this graph, and so counts
    /// against the queue's bound in bytes; a tensor that was handed in does not. `kept` is what a
    /// device made of it.
    Leaf {
        tensor: Tensor,
        host: bool,
        kept: Option<Arc<Kept>>,
    },
    /// By an operation on other nodes.
    Op { op: Op, inputs: Inputs },
    /// It stands for whatever a compiled function will be given in its place.
    Placeholder,
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
        Self::from_expr(Expr::Op { op, inputs }, dims, dtype, location)
    }

    /// A node whose value exists.
    pub(crate) fn from_leaf(tensor: Tensor, host: bool) -> Self {
        let dims = Dims::from_slice(tensor.dims());
        let (dtype, location) = (tensor.dtype(), tensor.device().location());
        let matrix = dims.len() >= 2 && dtype == DType::F32 && tensor.device().is_cpu();
        let expr = Expr::Leaf {
            tensor,
            host,
            kept: (matrix && !host).then(Arc::default),
        };
        Self::from_expr(expr, dims, dtype, location)
    }

    /// What a compiled function is traced with.
    pub(crate) fn placeholder(dims: Dims, dtype: DType, location: DeviceLocation) -> Self {
        Self::from_expr(Expr::Placeholder, dims, dtype, location)
    }

    #[inline]
    fn from_expr(expr: Expr, dims: Dims, dtype: DType, location: DeviceLocation) -> Self {
        LazyTensor(Arc::new(Node {
            id: next_id(),
            dims,
            dtype,
            location,
            origin: Origin::new(expr),
            home: OnceLock::new(),
        }))
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
        self.0.dims.iter().product()
    }

    /// Where the result will be.
    pub fn location(&self) -> DeviceLocation {
        self.0.location
    }
}

/// Wraps a tensor, without a copy. It does not count as host data of the queue.
impl From<Tensor> for LazyTensor {
    fn from(tensor: Tensor) -> Self {
        LazyTensor::from_leaf(tensor.detach(), false)
    }
}

/// Wraps a tensor, without a copy. It does not count as host data of the queue.
impl From<&Tensor> for LazyTensor {
    fn from(tensor: &Tensor) -> Self {
        LazyTensor::from_leaf(tensor.detach(), false)
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
        let op = self.0.origin.read(|expr| match expr {
            Expr::Leaf { .. } => "leaf",
            Expr::Op { op, .. } => op.name(),
            Expr::Placeholder => "placeholder",
        });
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
        let moved = self.origin.read(|expr| match expr {
            Expr::Leaf { .. } | Expr::Placeholder => true,
            Expr::Op { op, .. } => matches!(op, Op::ToDevice(_) | Op::Fill { .. }),
        });
        self.location == DeviceLocation::Cpu && moved.unwrap_or(true)
    }

    /// Whether it is computed from others and nobody has submitted it.
    pub(crate) fn is_computed(&self) -> bool {
        let computed = self.origin.read(|expr| matches!(expr, Expr::Op { .. }));
        computed.unwrap_or(false)
    }

    /// Forgets how the node is computed, once its result is on its way.
    pub(crate) fn forget_origin(&self) {
        drop_expr(self.origin.forget());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(home) = self.home.get() {
            home.release(self.id);
        }
        drop_expr(self.origin.forget_mut());
    }
}

/// Drops an origin and all that it alone keeps alive, by a loop: a graph may be far deeper
/// than the stack.
fn drop_expr(expr: Option<Expr>) {
    let Some(Expr::Op { inputs, .. }) = expr else {
        return; // nothing below it
    };
    let mut doomed: SmallVec<[Inputs; 4]> = SmallVec::new();
    let mut inputs = inputs;
    loop {
        let Some(mut tensor) = inputs.pop() else {
            match doomed.pop() {
                Some(next) => inputs = next,
                None => return,
            }
            continue;
        };
        let below = match Arc::get_mut(&mut tensor.0) {
            // nobody else has it: it is emptied where it lies
            Some(node) => node.origin.forget_mut(),
            // of several who let go at once, one is the last
            None => Arc::into_inner(tensor.0).and_then(|mut node| node.origin.forget_mut()),
        };
        if let Some(Expr::Op { inputs: below, .. }) = below {
            if !inputs.is_empty() {
                doomed.push(inputs);
            }
            inputs = below;
        }
    }
}

/// The location of a device without borrowing it.
pub(crate) fn host() -> DeviceLocation {
    Device::Cpu.location()
}
