//! A server with the tiny model, and clients of it.

use candlewick::device::Script;
use candlewick::models::SentenceEncoder;
use candlewick::{Device, Executor};
use candlewick_models::Texts;
use candlewick_server::{Limits, Server, serve};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const MODEL: &str = "tiny";

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/tiny-bert")
}

pub fn encoder() -> SentenceEncoder {
    SentenceEncoder::from_dir(folder(), &Device::Cpu).unwrap()
}

pub fn texts() -> Texts {
    Texts::from_dir(&folder(), encoder().model().max_length()).unwrap()
}

/// Small, so that tests can go beyond them.
pub fn limits() -> Limits {
    Limits {
        body: 100_000,
        texts: 64,
        time: Duration::from_secs(60),
        ..Limits::default()
    }
}

pub struct Served {
    pub server: Arc<Server>,
    pub to: SocketAddr,
    /// Of the simulated device, if it is one.
    pub script: Script,
    simulated: bool,
    pub runtime: Runtime,
    /// Tells it to end.
    pub told: Option<oneshot::Sender<()>>,
    pub ending: Option<JoinHandle<std::io::Result<bool>>>,
}

/// On the CPU.
pub fn start(limits: Limits) -> Served {
    start_on(false, limits, Duration::ZERO, Duration::from_secs(60))
}

/// On the simulated device, which can be held.
pub fn simulated(limits: Limits) -> Served {
    start_on(true, limits, Duration::ZERO, Duration::from_secs(60))
}

fn executor(simulated: Option<&Script>) -> Executor {
    let builder = Executor::builder(&Device::Cpu).queue_capacity(1 << 16);
    let builder = match simulated {
        Some(script) => builder.simulated(script),
        None => builder,
    };
    builder.build().unwrap()
}

pub fn start_on(simulated: bool, limits: Limits, grace: Duration, drain: Duration) -> Served {
    start_with(encoder(), simulated, limits, grace, drain)
}

pub fn start_with(
    encoder: SentenceEncoder,
    simulated: bool,
    limits: Limits,
    grace: Duration,
    drain: Duration,
) -> Served {
    let script = Script::new();
    let executor = executor(simulated.then_some(&script));
    let server = Server::new(MODEL.to_owned(), executor, encoder, texts(), limits);
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let to = listener.local_addr().unwrap();
    let (tell, told) = oneshot::channel();
    let told = async move {
        let _ = told.await;
    };
    let ending = runtime.spawn(serve(listener, server.clone(), told, grace, drain));
    Served {
        server,
        to,
        script,
        simulated,
        runtime,
        told: Some(tell),
        ending: Some(ending),
    }
}

/// Status, `Retry-After` and body.
pub type Answer = (u16, Option<u64>, Value);

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = response.unwrap();
    let retry = response.headers().get("retry-after");
    let retry = retry.map(|after| after.to_str().unwrap().parse().unwrap());
    let body = response.body_mut().read_to_string().unwrap();
    let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
    (response.status().as_u16(), retry, body)
}

impl Served {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.to)
    }

    pub fn get(&self, path: &str) -> Answer {
        read(agent().get(self.url(path)).call())
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        read(agent().post(self.url(path)).send(body))
    }

    pub fn embed(&self, input: &Value) -> Answer {
        let body = json!({ "model": MODEL, "input": input });
        self.post("/v1/embeddings", &body.to_string())
    }

    /// A counter or a gauge of `/metrics`; 0 if it is not there.
    pub fn metric(&self, line: &str) -> f64 {
        let (status, _, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let text = text.as_str().unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let line = text.lines().find_map(|l| l.strip_prefix(line));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// What the encoder itself makes of a text, alone on such a device.
    pub fn own(&self, text: &str) -> Vec<f32> {
        self.own_of(&texts().ids(text).unwrap())
    }

    pub fn own_of(&self, ids: &[u32]) -> Vec<f32> {
        let embedding = encoder().embed(ids).unwrap();
        let executor = executor(self.simulated.then_some(&Script::new()));
        let embedding = executor.run(&embedding).unwrap();
        embedding.to_vec1().unwrap()
    }
}

/// Waits for what must come.
pub fn eventually(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < Duration::from_secs(30), "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The vectors of an answer of `/v1/embeddings`.
pub fn vectors(answer: &Value) -> Vec<Vec<f32>> {
    let data = answer["data"].as_array().unwrap();
    let vector = |item: &Value| serde_json::from_value(item["embedding"].clone()).unwrap();
    data.iter().map(vector).collect()
}
