//! From the first connection to the last answer.

use crate::{Server, router};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Serves until `told` is ready. Then it says that it is not ready, goes on for `grace`, takes no
/// more connections, and ends the executor when all requests are answered, or when `drain` is over:
/// whether they all were.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    told: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
    drain: Duration,
) -> io::Result<bool> {
    let (closing, closed) = tokio::sync::oneshot::channel();
    let until_closing = {
        let server = server.clone();
        async move {
            told.await;
            server.drain();
            tokio::time::sleep(grace).await;
            let _ = closing.send(()); // nobody listens if serving failed
        }
    };
    let routes = router(server.clone());
    let serving = axum::serve(listener, routes).with_graceful_shutdown(until_closing);
    let too_long = async {
        match closed.await {
            Ok(()) => tokio::time::sleep(drain).await,
            Err(_) => std::future::pending().await,
        }
    };
    let in_time = tokio::select! {
        ended = serving.into_future() => ended.map(|()| true),
        () = too_long => Ok(false),
    };
    match in_time {
        Ok(true) => server.executor().shutdown().await,
        _ => server.executor().abort().await,
    }
    in_time
}

/// Ready at Ctrl-C, or SIGTERM where there is such a thing. They are listened to from the call on,
/// which must be inside of a runtime.
#[cfg(unix)]
pub fn until_told() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ready at Ctrl-C, which is listened to from the call on; it must be inside of a runtime.
#[cfg(windows)]
pub fn until_told() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut pressed = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        pressed.recv().await;
    })
}
