//! What one would write by hand: a thread with a bounded channel, and a oneshot for each answer.

use tokio::sync::oneshot;

/// Asks the actor, and waits for the answer.
pub(crate) type Ask<Q, A> = Box<dyn Fn(Q) -> A + Send + Sync>;

/// An actor that answers what is queued together, at most so many at once, in any order: `answer`
/// is given the questions, and gives an answer for each.
pub(crate) fn batched<Q: Send + 'static, A: Send + 'static>(
    most: usize,
    mut answer: impl FnMut(&[Q]) -> Vec<A> + Send + 'static,
) -> Ask<Q, A> {
    let (sender, receiver) = crossbeam_channel::bounded::<(Q, oneshot::Sender<A>)>(1024);
    std::thread::spawn(move || {
        while let Ok(first) = receiver.recv() {
            let rest = receiver.try_iter().take(most - 1);
            let (questions, waiting): (Vec<Q>, Vec<_>) = std::iter::once(first).chain(rest).unzip();
            let answers = answer(&questions);
            assert_eq!(answers.len(), waiting.len());
            for (waiting, answer) in waiting.into_iter().zip(answers) {
                let _ = waiting.send(answer);
            }
        }
    });
    Box::new(move |question| {
        let (answer, answered) = oneshot::channel();
        assert!(
            sender.send((question, answer)).is_ok(),
            "the actor is there"
        );
        answered.blocking_recv().unwrap()
    })
}
