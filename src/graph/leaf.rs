//! Tensors that exist, and whether there is as much memory as they say.

use super::infer::fits;
use super::kept::Kept;
use super::node::{LazyTensor, Made, Node};
use crate::error::{Cause, Error, Reason, Result};
use candle_core::{CpuStorage, Layout, Storage, Tensor};
use std::sync::Arc;

/// A tensor that exists.
pub(crate) struct Leaf<'a> {
    pub(crate) tensor: &'a Tensor,
    /// What a device keeps with it.
    pub(crate) kept: Option<&'a Arc<Kept>>,
    /// Whether it was handed in, as parameters are, and was not made from host data for this graph.
    pub(crate) handed_in: bool,
    /// The tensor's bytes that count against the queue's bound: all of it if it was made from host data for
    /// this graph, else 0.
    pub(crate) host_bytes: u64,
}

impl<'a> Leaf<'a> {
    /// The leaf that a node stands for; the node is one that exists.
    pub(crate) fn of(node: &'a Node) -> Self {
        let Made::Leaf {
            tensor, host, kept, ..
        } = &node.made
        else {
            unreachable!("a cut tells only of nodes that exist")
        };
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        Self {
            tensor,
            kept: kept.as_ref(),
            handed_in: !host,
            host_bytes: if *host { bytes as u64 } else { 0 },
        }
    }

    /// A leaf for which there is no node: an argument of a compiled function that was given as a `Tensor`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tensor with [`refusal`].
    pub(crate) fn bare(tensor: &'a Tensor) -> Result<Self> {
        match refusal(tensor) {
            Some(reason) => Err(refuse(tensor, reason)),
            None => Ok(Self {
                tensor,
                kept: None,
                handed_in: false,
                host_bytes: 0,
            }),
        }
    }
}

impl Node {
    /// Refuses a tensor that was handed in and is not what it says.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match &self.made {
            Made::Leaf {
                tensor,
                whole: false,
                ..
            } => Err(refuse(tensor, refusal(tensor).unwrap_or(Reason::Overflow))),
            _ => Ok(()),
        }
    }
}

#[cold]
fn refuse(tensor: &Tensor, reason: Reason) -> Error {
    Error::invalid("tensor", [(tensor.dims(), tensor.dtype())], reason)
}

/// Why a tensor cannot be an operand: its shape is beyond what can be addressed, or it has memory for fewer
/// elements than its shape has. Candle makes such tensors from safe code: `broadcast_as` multiplies nothing up, and
/// `Tensor::from_storage` and custom operations take any shape for any memory.
pub(super) fn refusal(tensor: &Tensor) -> Option<Reason> {
    if !fits(tensor.dims(), tensor.dtype()) {
        return Some(Reason::Overflow);
    }
    let missing = missing(tensor)?;
    Some(Reason::ElementCount {
        from: missing.held,
        to: missing.needed,
    })
}

/// How much there is of a tensor that has too little memory.
#[derive(Debug)]
pub(crate) struct Missing {
    /// Elements that its memory has.
    pub(crate) held: usize,
    /// Elements up to the last that its shape and strides name.
    pub(crate) needed: usize,
}

impl From<Missing> for Cause {
    fn from(Missing { held, needed }: Missing) -> Self {
        Cause::ShortStorage { held, needed }
    }
}

/// What a tensor lacks, if it names elements that its memory does not have.
pub(crate) fn missing(tensor: &Tensor) -> Option<Missing> {
    let (storage, layout) = tensor.storage_and_layout();
    missing_in(&storage, layout)
}

/// What this memory lacks, if the layout names elements that it does not have. Memory of dtypes that are only
/// stored is not looked at.
pub(crate) fn missing_in(storage: &Storage, layout: &Layout) -> Option<Missing> {
    let held = held(storage)?;
    let needed = reach(layout);
    (held < needed).then_some(Missing { held, needed })
}

/// Elements up to the last that a layout names; 0 if it names none.
fn reach(layout: &Layout) -> usize {
    if layout.dims().contains(&0) {
        return 0;
    }
    let steps = layout.dims().iter().zip(layout.stride());
    steps.fold(layout.start_offset().saturating_add(1), |end, (&d, &s)| {
        end.saturating_add((d - 1).saturating_mul(s))
    })
}

/// The number of elements of some memory.
fn held(storage: &Storage) -> Option<usize> {
    macro_rules! len {
        ($kind:ident $data:expr) => {
            match $data {
                $kind::U8(x) => x.len(),
                $kind::U32(x) => x.len(),
                $kind::I16(x) => x.len(),
                $kind::I32(x) => x.len(),
                $kind::I64(x) => x.len(),
                $kind::BF16(x) => x.len(),
                $kind::F16(x) => x.len(),
                $kind::F32(x) => x.len(),
                $kind::F64(x) => x.len(),
                $kind::F8E4M3(x) => x.len(),
                _ => return None,
            }
        };
    }
    match storage {
        Storage::Cpu(data) => Some(len!(CpuStorage data)),
        #[cfg(feature = "cuda")]
        Storage::Cuda(data) => {
            use candle_core::cuda_backend::CudaStorageSlice;
            Some(len!(CudaStorageSlice & data.slice))
        }
        #[cfg(feature = "metal")]
        Storage::Metal(data) => {
            use candle_core::backend::BackendStorage;
            let bytes = data.dtype().size_in_bytes();
            (bytes > 0).then(|| data.buffer().length() / bytes)
        }
        #[allow(unreachable_patterns)] // with both features
        _ => None,
    }
}

/// Wraps a tensor, without a copy. It does not count as host data of the queue. A tensor that names elements which
/// its memory does not have is refused where it is submitted.
impl From<Tensor> for LazyTensor {
    fn from(tensor: Tensor) -> Self {
        LazyTensor::from_leaf(tensor.detach(), false)
    }
}

/// Wraps a tensor, without a copy. It does not count as host data of the queue. A tensor that names elements which
/// its memory does not have is refused where it is submitted.
impl From<&Tensor> for LazyTensor {
    fn from(tensor: &Tensor) -> Self {
        LazyTensor::from_leaf(tensor.detach(), false)
    }
}
