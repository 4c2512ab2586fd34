//! The server over sockets, with the tiny model.

use crate::common::{
    MODEL, Served, agent, eventually, limits, simulated, start, start_on, texts, vectors,
};
use base64::Engine as _;
use candlewick::device::Script;
use candlewick::models::{SentenceEncoder, bert};
use candlewick::nn::VarBuilder;
use candlewick::{DType, Device, Params};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const TEXTS: [&str; 3] = ["a cat sat", "the dog", "the cat and the dog sat"];

#[test]
fn answers_are_the_encoders_own() {
    let served = start(limits());
    let own: Vec<_> = TEXTS.iter().map(|text| served.own(text)).collect();
    let (status, _, answer) = served.embed(&json!(TEXTS));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(vectors(&answer), own);
    let ids: Vec<_> = TEXTS
        .iter()
        .map(|text| texts().ids(text).unwrap())
        .collect();
    let tokens: usize = ids.iter().map(Vec::len).sum();
    assert_eq!(answer["usage"]["total_tokens"], tokens);
    let indices: Vec<_> = (0..3)
        .map(|at| answer["data"][at]["index"].clone())
        .collect();
    assert_eq!(indices, [0, 1, 2]);

    let one = |input: Value| vectors(&served.embed(&input).2);
    assert_eq!(one(json!(TEXTS[0])), own[..1]);
    assert_eq!(one(json!(ids[0])), own[..1]);
    assert_eq!(one(json!(ids)), own);
    assert_eq!(served.metric("candlewick_texts_total"), 8.0);
}

#[test]
fn floats_can_be_base64() {
    let served = start(limits());
    let body = json!({ "model": MODEL, "input": TEXTS[0], "encoding_format": "base64" });
    let (_, _, answer) = served.post("/v1/embeddings", &body.to_string());
    let text = answer["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let (floats, []) = bytes.as_chunks() else {
        panic!("{} bytes", bytes.len());
    };
    let floats: Vec<_> = floats.iter().map(|&b| f32::from_le_bytes(b)).collect();
    assert_eq!(floats, served.own(TEXTS[0]));
}

#[test]
fn halves_are_served() {
    let params = Params::load_dir(crate::common::folder(), &Device::Cpu).unwrap();
    let params = params.snapshot();
    let halves = params.names().map(|name| {
        let half = params.tensor(name).unwrap().to_dtype(DType::BF16);
        (name.to_owned(), half.unwrap())
    });
    let halves = Params::from_map(halves).unwrap();
    let config = bert::Config::from_file(crate::common::folder().join("config.json")).unwrap();
    let model = bert::BertModel::load(VarBuilder::from_params(&halves), &config).unwrap();
    let own = crate::common::encoder();
    let encoder = SentenceEncoder::new(model, own.pooling(), own.normalizes(), &Device::Cpu);
    let (none, limit) = (Duration::ZERO, Duration::from_secs(60));
    let served = crate::common::start_with(encoder, false, limits(), none, limit);
    let (status, _, answer) = served.embed(&json!(TEXTS));
    assert_eq!(status, 200, "{answer}");
    for (half, text) in vectors(&answer).iter().zip(TEXTS) {
        let cosine = candlewick_models::cosine(half, &served.own(text));
        assert!(cosine > 0.999, "{text}: {cosine}"); // 8 bits of each number
    }
}

#[test]
fn models_are_listed() {
    let served = start(limits());
    let (_, _, list) = served.get("/v1/models");
    assert_eq!(list["data"][0]["id"], MODEL);
    let (status, _, card) = served.get("/v1/models/tiny");
    assert_eq!((status, &card["id"]), (200, &json!(MODEL)));
    assert_eq!(served.get("/v1/models/other").0, 404);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let served = start(limits());
    let long = vec!["cat"; 600].join(" ");
    let hidden = served.own(TEXTS[0]).len();
    for (input, says) in [
        (json!(1), "input: expected a text"),
        (json!([1.5]), "input: expected a text"),
        (json!([]), "0 texts"),
        (json!(vec!["x"; 65]), "65 texts, expected 1 to 64"),
        (json!(long), "text 0: more than"),
        (json!([[1], []]), "text 1: no tokens"),
        (json!([[1, 1_000_000]]), "text 0: id 1000000 is not below"),
        (json!(vec![1; 600]), "text 0: more than"),
    ] {
        let (status, _, answer) = served.embed(&input);
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    let ask = |body: Value| served.post("/v1/embeddings", &body.to_string()).0;
    assert_eq!(ask(json!({ "model": "other", "input": "x" })), 404);
    assert_eq!(ask(json!({ "input": "x" })), 400);
    assert_eq!(
        ask(json!({ "model": MODEL, "input": "x", "dimensions": 3 })),
        400
    );
    assert_eq!(
        ask(json!({ "model": MODEL, "input": "x", "dimensions": hidden })),
        200
    );
    assert_eq!(
        ask(json!({ "model": MODEL, "input": "x".repeat(100_000) })),
        413
    );
    assert_eq!(served.post("/v1/embeddings", "{").0, 400);
    assert_eq!(served.get("/v1/embeddings").0, 405);
    assert_eq!(served.get("/other").0, 404);
    let refused = "candlewick_requests_total{route=\"/v1/embeddings\",status=\"413\"}";
    assert_eq!(served.metric(refused), 1.0);
    assert_eq!(served.metric("candlewick_tokens_under_way"), 0.0);
}

#[test]
fn long_texts_are_cut_where_that_is_wanted() {
    let cut = crate::common::start(candlewick_server::Limits {
        cut: true,
        ..limits()
    });
    let long = vec!["cat"; 600].join(" ");
    let (status, _, answer) = cut.embed(&json!(long));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(vectors(&answer)[0], cut.own(&long));
}

/// Many clients, each with one text at a time, and room for a few of them.
#[test]
fn beyond_capacity_it_sheds() {
    const CLIENTS: usize = 24;
    let tokens = 40;
    let served = simulated(candlewick_server::Limits { tokens, ..limits() });
    served
        .script
        .latency(Duration::from_micros(20), Duration::ZERO);
    let own: Vec<_> = TEXTS.iter().map(|text| served.own(text)).collect();
    // on a busy machine it takes longer until both have happened often enough
    let (least, most) = (Duration::from_millis(1500), Duration::from_secs(20));
    let begun = Instant::now();
    let answered = Mutex::new(Vec::new());
    let shed = Mutex::new(0usize);
    let goes_on = || {
        let few = answered.lock().unwrap().len() <= 50 || *shed.lock().unwrap() <= 10;
        begun.elapsed() < if few { most } else { least }
    };
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (served, own, answered, shed) = (&served, &own, &answered, &shed);
            let goes_on = &goes_on;
            scope.spawn(move || {
                let agent = agent();
                let at = client % TEXTS.len();
                while goes_on() {
                    let begin = Instant::now();
                    let body = json!({ "model": MODEL, "input": TEXTS[at] });
                    let url = served.url("/v1/embeddings");
                    let mut response = agent.post(url).send_json(&body).unwrap();
                    let retry = response.headers().get("retry-after").cloned();
                    let body: Value = response.body_mut().read_json().unwrap();
                    match response.status().as_u16() {
                        200 => {
                            assert_eq!(vectors(&body)[0], own[at]);
                            answered.lock().unwrap().push(begin.elapsed());
                        }
                        429 => {
                            let retry = retry.unwrap().to_str().unwrap().parse::<u64>();
                            assert!((1..=60).contains(&retry.unwrap()));
                            assert_eq!(body["error"]["type"], "rate_limit_error");
                            *shed.lock().unwrap() += 1;
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        other => panic!("{other}: {body}"),
                    }
                }
            });
        }
    });
    let (mut answered, shed) = (answered.into_inner().unwrap(), shed.into_inner().unwrap());
    answered.sort();
    assert!(answered.len() > 50, "{} answered", answered.len());
    assert!(shed > 10, "{shed} shed");
    // no more than 40 tokens' work was ever ahead of one that was let in
    let p99 = answered[answered.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
    assert_eq!(served.metric("candlewick_tokens_under_way"), 0.0);
    let (nodes, queued) = ("candlewick_live_nodes", "candlewick_queued");
    eventually("nothing is left", || {
        served.metric(nodes) == 0.0 && served.metric(queued) == 0.0
    });
    let counted = "candlewick_requests_total{route=\"/v1/embeddings\",status=\"429\"}";
    assert_eq!(served.metric(counted), shed as f64);
}

/// A connection with a request of 64 texts on it.
fn without_waiting(served: &Served) -> TcpStream {
    let body = json!({ "model": MODEL, "input": vec![TEXTS[2]; 64] }).to_string();
    let mut socket = TcpStream::connect(served.to).unwrap();
    let length = body.len();
    write!(
        socket,
        "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    socket
}

/// Lets a device go on at the end, also of a test that fails: its threads are waited for.
struct Resumed<'a>(&'a Script);

impl Drop for Resumed<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

#[test]
fn a_client_that_goes_away_withdraws() {
    let served = simulated(limits());
    served.script.hold();
    let cancelled = || served.metric("candlewick_fragments_cancelled_total");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| served.embed(&json!(TEXTS[0])));
        served.script.wait_until_held(); // with the first alone: a batch takes up to 64
        let resumed = Resumed(&served.script);
        let socket = without_waiting(&served);
        eventually("all is queued", || {
            served.metric("candlewick_live_nodes ") == 65.0
        });
        drop(socket);
        eventually("all is withdrawn", || cancelled() == 64.0);
        drop(resumed);
        assert_eq!(first.join().unwrap().0, 200);
    });
    assert_eq!(served.metric("candlewick_tokens_under_way"), 0.0);
    assert_eq!(served.metric("candlewick_fragments_run_total"), 1.0);
    let gone = "candlewick_requests_total{route=\"/v1/embeddings\",status=\"499\"}";
    assert_eq!(served.metric(gone), 1.0);
}

#[test]
fn what_is_late_is_not_done() {
    let time = Duration::from_millis(300);
    let served = simulated(candlewick_server::Limits { time, ..limits() });
    served.script.hold();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let ask = || served.embed(&json!(TEXTS[0]));
        let first = scope.spawn(ask);
        served.script.wait_until_held();
        let late: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        std::thread::sleep(time + Duration::from_millis(50));
        served.script.resume();
        all.push(first.join().unwrap());
        all.extend(late.into_iter().map(|late| late.join().unwrap()));
    });
    // The first had begun. The others were late, or perhaps not yet sent by then.
    assert_eq!(all[0].0, 200, "{}", all[0].2);
    let late: Vec<_> = all.iter().filter(|(status, ..)| *status == 503).collect();
    assert!(!late.is_empty());
    assert!(late.iter().all(|(_, retry, _)| *retry == Some(1)));
    assert_eq!(
        served.metric("candlewick_fragments_expired_total"),
        late.len() as f64
    );
}

#[test]
fn health_is_the_owners() {
    let served = simulated(limits());
    let healths = || ["/health", "/v2/health/ready", "/v2/health/live"].map(|p| served.get(p).0);
    assert_eq!(healths(), [200, 200, 200]);
    served.script.at_ticket(
        served.script.tickets(),
        candlewick::device::Fault::Lost("unplugged".into()),
    );
    let (status, retry, answer) = served.embed(&json!(TEXTS[0]));
    assert_eq!((status, retry), (503, Some(1)), "{answer}");
    assert_eq!(healths(), [503, 503, 503]);
    assert_eq!(served.embed(&json!(TEXTS[0])).0, 503);
}

#[test]
fn it_drains() {
    let mut served = start_on(
        true,
        limits(),
        Duration::from_secs(1),
        Duration::from_secs(60),
    );
    served.script.hold();
    let own = served.own(TEXTS[0]);
    let (tell, ending) = (served.told.take().unwrap(), served.ending.take().unwrap());
    std::thread::scope(|scope| {
        let under_way = scope.spawn(|| served.embed(&json!(TEXTS[0])));
        served.script.wait_until_held();
        tell.send(()).unwrap();
        eventually("it says so", || served.get("/health").0 == 503);
        assert_eq!(served.get("/health").2["status"], "draining");
        assert_eq!(served.get("/v2/health/live").0, 200);
        let in_grace = scope.spawn(|| served.embed(&json!(TEXTS[0])));
        eventually("it is let in", || {
            served.metric("candlewick_live_nodes ") == 2.0
        });
        let closed = || TcpStream::connect(served.to).is_err();
        eventually("it takes no more", closed);
        served.script.resume();
        for answer in [under_way.join().unwrap(), in_grace.join().unwrap()] {
            assert_eq!(answer.0, 200, "{}", answer.2);
            assert_eq!(vectors(&answer.2), std::slice::from_ref(&own));
        }
    });
    let in_time = served.runtime.block_on(ending);
    assert!(in_time.unwrap().unwrap());
    let health = served.server.executor().health();
    assert!(matches!(health, candlewick::Health::Closed), "{health:?}");
}

#[test]
fn draining_has_an_end() {
    let mut served = start_on(true, limits(), Duration::ZERO, Duration::from_millis(200));
    // a client that never sends its request's end
    let mut socket = TcpStream::connect(served.to).unwrap();
    write!(
        socket,
        "POST /v1/embeddings HTTP/1.1\r\ncontent-length: 10\r\nhost: x\r\n\r\n{{"
    )
    .unwrap();
    assert_eq!(served.embed(&json!(TEXTS[0])).0, 200);
    served.told.take().unwrap().send(()).unwrap();
    let in_time = served.runtime.block_on(served.ending.take().unwrap());
    assert!(!in_time.unwrap().unwrap());
}
