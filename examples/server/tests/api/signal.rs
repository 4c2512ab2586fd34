//! SIGTERM: no other test of this process minds it once somebody listens.
#![cfg(unix)]

use crate::common::{encoder, limits, texts};
use candlewick::{Device, Executor};
use candlewick_server::{Server, serve, until_told};
use std::process::Command;
use std::time::Duration;

#[test]
fn sigterm_is_heard() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let server = Server::new("tiny".into(), executor, encoder(), texts(), limits());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let in_time = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = Duration::from_secs(1);
        let told = until_told().unwrap();
        let serving = serve(listener, server.clone(), told, Duration::ZERO, second);
        let serving = tokio::spawn(serving);
        let id = std::process::id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, serving).await.unwrap().unwrap()
    });
    assert!(in_time.unwrap());
    assert!(matches!(
        server.executor().health(),
        candlewick::Health::Closed
    ));
}
