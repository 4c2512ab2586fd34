//! The memory of nodes, used again. A graph is built and dropped as a whole, and is more allocations
//! of one size than an allocator keeps at hand.

use super::node::{Expr, Node};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// The most emptied nodes that a thread keeps: about 100 KiB.
const MOST: usize = 512;

thread_local! {
    /// Emptied nodes, to which nobody refers.
    static EMPTY: RefCell<Vec<Arc<Node>>> = const { RefCell::new(Vec::new()) };
}

/// A node with these contents.
#[inline]
pub(super) fn make(node: Node) -> Arc<Node> {
    let empty = EMPTY.try_with(|empty| empty.borrow_mut().pop());
    let Ok(Some(mut empty)) = empty else {
        return Arc::new(node); // also while the thread ends
    };
    // SAFETY: only nodes to which nobody else refers are kept, and nobody came by one since.
    // What is written over holds nothing any more.
    unsafe { std::ptr::write(unshared(&mut empty), node) };
    empty
}

/// Takes a reference to a node back. If it was the last, what the node is made from comes back, to be
/// dropped by a loop.
#[inline]
pub(super) fn let_go(mut node: Arc<Node>) -> Option<Expr> {
    if !is_last(&mut node) {
        // of several who let go at once, one is the last
        return Arc::into_inner(node).and_then(|mut node| node.clear());
    }
    // SAFETY: this is the last reference.
    let origin = unsafe { unshared(&mut node) }.clear();
    let _ = EMPTY.try_with(|empty| {
        let mut empty = empty.borrow_mut();
        if empty.len() < MOST {
            empty.push(node);
        }
    });
    origin
}

/// Whether nobody else refers to a node, nor can come to do so.
#[inline]
fn is_last(node: &mut Arc<Node>) -> bool {
    if Arc::strong_count(node) != 1 {
        return false;
    }
    // ORDERING: Acquire, with the Release of those who let go before: what they did to the node is
    // seen, also that they submitted it. Only submitted nodes are referred to weakly.
    fence(Ordering::Acquire);
    node.home.get().is_none() || Arc::get_mut(node).is_some()
}

/// The node behind a reference.
///
/// # Safety
/// There is no other reference to it, not even a weak one.
#[inline]
unsafe fn unshared(node: &mut Arc<Node>) -> &mut Node {
    debug_assert!(Arc::get_mut(node).is_some());
    // SAFETY: the caller says that the access is unique; the pointer is good for the whole node.
    unsafe { &mut *Arc::as_ptr(node).cast_mut() }
}

#[cfg(test)]
mod tests {
    use super::super::LazyTensor;
    use super::*;
    use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape};
    use std::collections::BTreeSet;

    fn chain(length: usize) -> Vec<LazyTensor> {
        let x = LazyTensor::zeros(4, DType::F32, &Device::Cpu).unwrap();
        let next = |x: &mut LazyTensor, _| {
            *x = x.relu().unwrap();
            Some(x.clone())
        };
        (0..length).scan(x, next).collect()
    }

    fn places(chain: &[LazyTensor]) -> BTreeSet<*const Node> {
        chain.iter().map(|node| Arc::as_ptr(&node.0)).collect()
    }

    #[test]
    fn a_graph_is_built_in_the_memory_of_the_one_before() {
        let first = chain(100);
        let (ids, at) = (first[0].0.id..=first[99].0.id, places(&first));
        drop(first);
        let second = chain(100);
        assert!(places(&second).intersection(&at).count() >= 99);
        assert!(second.iter().all(|node| !ids.contains(&node.0.id)));
        assert!(second.iter().all(|node| node.dims() == [4]));
    }

    #[test]
    fn not_more_is_kept_than_a_bound() {
        std::thread::spawn(|| {
            drop(chain(10 * MOST));
            EMPTY.with(|empty| assert_eq!(empty.borrow().len(), MOST));
        })
        .join()
        .unwrap();
    }

    struct Counted(Arc<()>);

    impl CustomOp1 for Counted {
        fn name(&self) -> &'static str {
            "counted"
        }
        fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
            let _ = &self.0;
            Ok((s.clone(), l.shape().clone()))
        }
    }

    /// Of those who let go at once one is the last, wherever the graph was built.
    #[test]
    fn threads_let_go_of_one_graph_at_once() {
        let count = Arc::new(());
        for _ in 0..200 {
            let mut graph = chain(10);
            for _ in 0..20 {
                let last = &graph[graph.len() - 1];
                let next = last.apply_op1(Counted(count.clone()), 4, DType::F32);
                graph.push(next.unwrap());
            }
            let graphs: Vec<_> = (0..4).map(|_| graph.clone()).collect();
            drop(graph);
            assert_eq!(Arc::strong_count(&count), 21);
            std::thread::scope(|scope| {
                for graph in graphs {
                    scope.spawn(|| drop(graph));
                }
            });
            assert_eq!(Arc::strong_count(&count), 1);
        }
    }
}
