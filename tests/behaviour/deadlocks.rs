//! Waiting where it would be for ever is refused, and where it would not be it is not.

use crate::common::*;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use candlewick::{DType, Device, Error, Executor, LazyTensor};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

/// What a call inside of an operation, a destructor or a waker came to.
type Said = Arc<Mutex<Vec<Result<f32, Error>>>>;

fn refused(said: &Said) {
    let said = said.lock().unwrap();
    assert!(!said.is_empty(), "it did not run");
    for result in &*said {
        assert!(
            matches!(result, Err(Error::WouldDeadlock { .. })),
            "{result:?}"
        );
    }
}

/// Work that does this on whichever thread runs it.
fn doing(f: impl Fn() + Send + Sync + 'static) -> LazyTensor {
    Counted::new(Act::Call(Arc::new(f))).on(&tensor(0.0))
}

/// One that is queued behind whatever runs now, and what waiting for it comes to.
fn wait_for_another(executor: &Executor) -> Result<f32, Error> {
    let other = executor.submit(&(&tensor(1.0) + 1.0).unwrap())?;
    other.wait().map(|tensor| value(&tensor))
}

#[test]
fn an_operation_that_waits_for_its_own_executor() {
    within_limit(|| {
        for lending in [true, false] {
            let builder = Executor::builder(&Device::Cpu).lending(lending);
            let executor = builder.build().unwrap();
            let said = Said::default();
            let (inner, says) = (executor.clone(), said.clone());
            let work = doing(move || {
                let say = |result| says.lock().unwrap().push(result);
                say(wait_for_another(&inner));
                let other = inner.submit(&(&tensor(1.0) + 1.0).unwrap()).unwrap();
                say(smol::block_on(other).map(|tensor| value(&tensor)));
                let run = inner.run(&(&tensor(1.0) + 1.0).unwrap());
                say(run.map(|tensor| value(&tensor)));
                let limit = Some(Duration::from_secs(10));
                say(inner.shutdown_blocking(limit).map(|()| 0.0));
            });
            executor.submit(&work).unwrap().wait().unwrap();
            assert_eq!(said.lock().unwrap().len(), 4);
            refused(&said);
        }
    });
}

/// The queue is full, and only the thread that would wait for room can make some.
#[test]
fn an_operation_that_waits_for_room() {
    within_limit(|| {
        let builder = Executor::builder(&Device::Cpu).queue_capacity(1);
        let executor = builder.build().unwrap();
        let said = Said::default();
        let (inner, says) = (executor.clone(), said.clone());
        let work = doing(move || {
            let fills = inner.submit(&tensor(1.0).sqr().unwrap()).unwrap();
            let blocked = inner.submit(&tensor(2.0).sqr().unwrap());
            says.lock().unwrap().push(blocked.map(|_| 0.0));
            let awaited = smol::block_on(inner.submit_async(&tensor(3.0).sqr().unwrap()));
            says.lock().unwrap().push(awaited.map(|_| 0.0));
            drop(fills);
        });
        executor.run(&work).unwrap();
        refused(&said);
        // and the place is there again
        assert_eq!(
            value(&executor.run(&tensor(4.0).sqr().unwrap()).unwrap()),
            16.0
        );
    });
}

/// Its destructor runs when the owner has done with the work.
struct AsksWhenDropped(Executor, Said);
impl Drop for AsksWhenDropped {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(wait_for_another(&self.0));
    }
}
impl CustomOp1 for AsksWhenDropped {
    fn name(&self) -> &'static str {
        "asks"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((s.clone(), l.shape().clone()))
    }
}

#[test]
fn a_destructor_that_waits() {
    within_limit(|| {
        for run in [true, false] {
            let executor = cpu();
            let said = Said::default();
            let op = AsksWhenDropped(executor.clone(), said.clone());
            let y = tensor(1.0).apply_op1(op, 1, DType::F32).unwrap();
            match run {
                true => drop(executor.run(y).unwrap()),
                false => {
                    let handle = executor.submit(y).unwrap();
                    handle.wait().unwrap();
                }
            }
            eventually("dropped", || !said.lock().unwrap().is_empty());
            refused(&said);
        }
    });
}

/// Waits for other work of the executor that wakes it.
struct WaitsWhenWoken(Executor, Said);
impl Wake for WaitsWhenWoken {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(wait_for_another(&self.0));
    }
}

#[test]
fn a_waker_that_waits() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let mut handle = executor.submit(&tensor(1.0).sqr().unwrap()).unwrap();
        let said = Said::default();
        let waker = Waker::from(Arc::new(WaitsWhenWoken(executor.clone(), said.clone())));
        let mut cx = Context::from_waker(&waker);
        assert!(Future::poll(std::pin::Pin::new(&mut handle), &mut cx).is_pending());
        script.resume();
        busy.wait().unwrap();
        eventually("woken", || !said.lock().unwrap().is_empty());
        refused(&said);
    });
}

/// A waker that polls another handle is no deadlock: it comes back later.
#[test]
fn a_waker_that_polls() {
    struct Polls(Mutex<Option<candlewick::Handle>>, AtomicBool);
    impl Wake for Polls {
        fn wake(self: Arc<Self>) {
            let mut cx = Context::from_waker(Waker::noop());
            let mut handle = self.0.lock().unwrap();
            let other = handle.as_mut().unwrap();
            assert!(Future::poll(std::pin::Pin::new(other), &mut cx).is_pending());
            self.1.store(true, SeqCst);
        }
    }
    within_limit(|| {
        let executor = cpu();
        let gate = Arc::new((Mutex::new(()), OnceLock::<()>::new()));
        let (inner, started) = (gate.clone(), gate.clone());
        let guard = gate.0.lock().unwrap();
        let first = executor.submit(&doing(move || {
            started.1.set(()).unwrap();
            drop(inner.0.lock().unwrap());
        }));
        let mut first = first.unwrap();
        eventually("started", || gate.1.get().is_some());
        let second = executor.submit(&doing(|| ())).unwrap();
        let polls = Arc::new(Polls(
            Mutex::new(Some(second.clone())),
            AtomicBool::new(false),
        ));
        let waker = Waker::from(polls.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(Future::poll(std::pin::Pin::new(&mut first), &mut cx).is_pending());
        drop(guard);
        second.wait().unwrap();
        first.wait().unwrap();
        eventually("woken", || polls.1.load(SeqCst));
    });
}

/// 1 runs, inside of it 2 is waited for, and inside of that 1 again.
#[test]
fn nested_executors() {
    within_limit(|| {
        let (one, two) = (cpu(), cpu());
        let said = Said::default();
        let (first, says) = (one.clone(), said.clone());
        let inner = doing(move || says.lock().unwrap().push(wait_for_another(&first)));
        let outer = doing(move || drop(two.run(&inner).unwrap()));
        one.run(&outer).unwrap();
        refused(&said);
    });
}

/// Each executor's owner waits for the other: one of the two is told.
#[test]
fn a_ring_of_two_executors() {
    within_limit(|| {
        for awaited in [false, true] {
            let build = || {
                Executor::builder(&Device::Cpu)
                    .lending(false)
                    .build()
                    .unwrap()
            };
            let (one, two) = (build(), build());
            let said = Said::default();
            let met = Arc::new(std::sync::Barrier::new(2));
            let across = |other: &Executor| {
                let (other, says, met) = (other.clone(), said.clone(), met.clone());
                doing(move || {
                    met.wait();
                    let handle = other.submit(&(&tensor(1.0) + 1.0).unwrap()).unwrap();
                    let result = match awaited {
                        false => handle.wait(),
                        true => smol::block_on(handle),
                    };
                    says.lock()
                        .unwrap()
                        .push(result.map(|tensor| value(&tensor)));
                })
            };
            let handles = (
                one.submit(&across(&two)).unwrap(),
                two.submit(&across(&one)).unwrap(),
            );
            handles.0.wait().unwrap();
            handles.1.wait().unwrap();
            let said = said.lock().unwrap();
            let told = said.iter().filter(|result| result.is_err()).count();
            assert!((1..=2).contains(&told), "{said:?}");
        }
    });
}

/// An operation may use rayon's pool although all threads of that pool wait for the executor.
#[test]
fn an_operation_divides_its_work_in_a_pool_that_waits() {
    use rayon::prelude::*;
    within_limit(|| {
        let executor = Executor::builder(&Device::Cpu)
            .lending(false)
            .build()
            .unwrap();
        let results: Vec<f32> = (0..32_u32)
            .into_par_iter()
            .map(|i| {
                let work = doing(|| {
                    let sum: u64 = (0..1000_u64).into_par_iter().sum();
                    assert_eq!(sum, 499_500);
                });
                let y = (&work + f64::from(i)).unwrap();
                value(&executor.submit(&y).unwrap().wait().unwrap())
            })
            .collect();
        let expected: Vec<f32> = (0..32).map(|i| 1.0 + i as f32).collect();
        assert_eq!(results, expected);
    });
}

/// A thread's last moments: its own memory is gone already.
#[test]
fn a_destructor_of_a_thread_local_submits() {
    thread_local! {
        static LAST: std::cell::RefCell<Option<AtTheEnd>> = const { std::cell::RefCell::new(None) };
    }
    struct AtTheEnd(Executor, Said);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let graph = |x: f32| (0..40).fold(tensor(x), |y, _| (&y + 1.0).unwrap());
            let run = self.0.run(&graph(1.0));
            self.1
                .lock()
                .unwrap()
                .push(run.map(|tensor| value(&tensor)));
            let submit = self.0.submit(&graph(2.0)).and_then(|handle| handle.wait());
            self.1
                .lock()
                .unwrap()
                .push(submit.map(|tensor| value(&tensor)));
        }
    }
    within_limit(|| {
        let (executor, said) = (cpu(), Said::default());
        let last = AtTheEnd(executor.clone(), said.clone());
        std::thread::spawn(move || {
            LAST.set(Some(last)); // before anything of ours is, so that it is dropped after it
            drop(executor.run(&tensor(1.0).sqr().unwrap()).unwrap());
        })
        .join()
        .unwrap();
        let said = said.lock().unwrap();
        let values: Vec<f32> = said.iter().map(|said| *said.as_ref().unwrap()).collect();
        assert_eq!(values, [41.0, 42.0]);
    });
}
