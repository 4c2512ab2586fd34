//! Batches made by the crate `batch-aint-one`.

use batch_aint_one::{Batcher, BatchingPolicy, Limits, Processor};
use candlewick::Tensor;
use std::sync::Arc;

/// Answers several questions.
type Together = Arc<dyn Fn(&[Tensor]) -> Vec<Tensor> + Send + Sync>;

#[derive(Clone)]
struct Model(Together);

impl Processor for Model {
    type Key = ();
    type Input = Tensor;
    type Output = Tensor;
    type Error = String;
    type Resources = ();

    async fn acquire_resources(&self, (): ()) -> Result<(), String> {
        Ok(())
    }

    async fn process(
        &self,
        (): (),
        inputs: impl Iterator<Item = Tensor> + Send,
        (): (),
    ) -> Result<Vec<Tensor>, String> {
        let inputs: Vec<Tensor> = inputs.collect();
        Ok((self.0)(&inputs))
    }
}

/// One batch at a time, of what came while the one before ran: the policy for low latency, and here
/// that of the highest throughput as well.
pub(crate) fn ask(
    most: usize,
    together: impl Fn(&[Tensor]) -> Vec<Tensor> + Send + Sync + 'static,
) -> impl Fn(Tensor) -> Tensor + Send + Sync {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let limits = Limits::builder()
        .max_batch_size(most)
        .max_key_concurrency(1)
        .max_key_queued_items(1024)
        .build();
    let batcher = {
        let _inside = runtime.enter();
        Batcher::builder()
            .name("model")
            .processor(Model(Arc::new(together)))
            .limits(limits)
            .batching_policy(BatchingPolicy::Immediate)
            .build()
    };
    move |x| runtime.block_on(batcher.add((), x)).unwrap()
}
