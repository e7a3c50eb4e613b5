//! Asking the owner of a state: a closure travels to it, the answer comes back by a oneshot.

use tokio::sync::oneshot;

use crate::api::{Answer, ApiError};

/// What is asked of the owner of an `S`.
pub(super) type Question<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Packs a question; `send` carries it to the owner and tells whether there still is one.
pub(super) async fn ask<S, R: Send + 'static>(
    send: impl FnOnce(Question<S>) -> bool,
    question: impl FnOnce(&mut S) -> R + Send + 'static,
) -> Answer<R> {
    let (reply, answer) = oneshot::channel();
    let question: Question<S> = Box::new(move |state| {
        // The one who asked may have gone.
        let _ = reply.send(question(state));
    });
    let gone = || ApiError::unavailable("the daemon is stopping", "ask again once it runs");
    if !send(question) {
        return Err(gone());
    }
    answer.await.map_err(|_| gone())
}
