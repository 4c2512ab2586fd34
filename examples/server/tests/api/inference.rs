//! The Open Inference Protocol, as its text has it.

use crate::common::{MODEL, Served, agent, limits, start, texts};
use serde_json::{Value, json};

const TEXTS: [&str; 2] = ["a cat sat", "the cat and the dog sat"];
const INFER: &str = "/v2/models/tiny/infer";

/// Rows that are padded to the longest, and their mask.
fn padded() -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let ids = TEXTS.map(|text| texts().ids(text).unwrap());
    let longest = ids.iter().map(Vec::len).max().unwrap();
    let mask = ids.iter().map(|row| {
        let mut mask = vec![1; row.len()];
        mask.resize(longest, 0);
        mask
    });
    let mask = mask.collect();
    let ids = ids.into_iter().map(|mut row| {
        row.resize(longest, 0);
        row
    });
    (ids.collect(), mask)
}

fn values(served: &Served, answer: &Value) -> Vec<f32> {
    let own: Vec<_> = TEXTS.iter().map(|text| served.own(text)).collect();
    assert_eq!(answer["model_name"], MODEL, "{answer}");
    let output = &answer["outputs"][0];
    assert_eq!(
        (&output["name"], &output["datatype"]),
        (&json!("embedding"), &json!("FP32"))
    );
    assert_eq!(output["shape"], json!([2, own[0].len()]));
    own.concat()
}

#[test]
fn tensors_in_json() {
    let served = start(limits());
    let (ids, mask) = padded();
    let shape = [2, ids[0].len()];
    let text = json!({ "name": "text", "datatype": "BYTES", "shape": [2], "data": TEXTS });
    let nested = json!({ "name": "input_ids", "datatype": "INT64", "shape": shape, "data": ids });
    let flat = json!({ "name": "attention_mask", "datatype": "INT32", "shape": shape, "data": mask.concat() });
    for inputs in [json!([text]), json!([nested, flat]), json!([flat, nested])] {
        let body = json!({ "id": "7", "inputs": inputs, "outputs": [{ "name": "embedding" }] });
        for path in [INFER, "/v2/models/tiny/versions/1/infer"] {
            let (status, _, answer) = served.post(path, &body.to_string());
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["id"], "7");
            let own = values(&served, &answer);
            let data: Vec<f32> =
                serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
            assert_eq!(data, own);
        }
    }
}

#[test]
fn binary_tensors() {
    let served = start(limits());
    let (ids, mask) = padded();
    let shape = [2, ids[0].len()];
    let wide = |rows: &[Vec<u32>]| -> Vec<u8> {
        let rows = rows.concat().into_iter();
        rows.flat_map(|id| i64::from(id).to_le_bytes()).collect()
    };
    let (ids, mask) = (wide(&ids), wide(&mask));
    let input = |name: &str, bytes: &[u8]| json!({ "name": name, "datatype": "INT64", "shape": shape, "parameters": { "binary_data_size": bytes.len() } });
    let inputs = [input("input_ids", &ids), input("attention_mask", &mask)];
    let strings: Vec<u8> = TEXTS
        .iter()
        .flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat())
        .collect();
    let text = json!({ "name": "text", "datatype": "BYTES", "shape": [2], "parameters": { "binary_data_size": strings.len() } });
    for (inputs, bytes) in [
        (json!(inputs), [ids, mask].concat()),
        (json!([text]), strings),
    ] {
        let head = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
        let head = head.to_string().into_bytes();
        let length = head.len().to_string();
        let mut answer = agent()
            .post(served.url(INFER))
            .header("inference-header-content-length", length)
            .send([head, bytes].concat())
            .unwrap();
        let length = answer.headers().get("inference-header-content-length");
        let length: usize = length.unwrap().to_str().unwrap().parse().unwrap();
        let body = answer.body_mut().read_to_vec().unwrap();
        let (head, bytes) = body.split_at(length);
        let head: Value = serde_json::from_slice(head).unwrap();
        let own = values(&served, &head);
        assert_eq!(
            head["outputs"][0]["parameters"]["binary_data_size"],
            bytes.len()
        );
        let (floats, []) = bytes.as_chunks() else {
            panic!("{} bytes", bytes.len());
        };
        let floats: Vec<_> = floats.iter().map(|&b| f32::from_le_bytes(b)).collect();
        assert_eq!(floats, own);
    }
}

#[test]
fn it_describes_itself() {
    let served = start(limits());
    let (_, _, server) = served.get("/v2");
    assert_eq!(server["extensions"], json!(["binary_tensor_data"]));
    let hidden = served.own(TEXTS[0]).len();
    for path in ["/v2/models/tiny", "/v2/models/tiny/versions/1"] {
        let (status, _, model) = served.get(path);
        assert_eq!(status, 200, "{model}");
        assert_eq!(model["outputs"][0]["shape"], json!([-1, hidden]));
        assert_eq!(served.get(&format!("{path}/ready")).2["ready"], true);
    }
    for path in [
        "/v2/models/other",
        "/v2/models/tiny/versions/2",
        "/v2/models/other/ready",
    ] {
        let (status, _, answer) = served.get(path);
        assert_eq!(status, 404);
        assert!(answer["error"].is_string(), "{answer}");
    }
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let served = start(limits());
    let input = |name: &str, datatype: &str, shape: Value, data: Value| json!({ "name": name, "datatype": datatype, "shape": shape, "data": data });
    let text = input("text", "BYTES", json!([1]), json!(["a"]));
    let ids = |data: Value| input("input_ids", "INT64", json!([1, 2]), data);
    let mask = |data: Value| input("attention_mask", "INT64", json!([1, 2]), data);
    let short = json!({ "name": "text", "datatype": "BYTES", "shape": [1], "parameters": { "binary_data_size": 4 } });
    for (inputs, says) in [
        (json!([]), "expected text, or input_ids"),
        (
            json!([text, ids(json!([1, 2]))]),
            "expected text, or input_ids",
        ),
        (json!([mask(json!([1, 2]))]), "expected text, or input_ids"),
        (json!([text, text]), "text: given twice"),
        (
            json!([input("x", "BYTES", json!([1]), json!(["a"]))]),
            "there is no input \"x\"",
        ),
        (
            json!([input("text", "BYTES", json!([2]), json!(["a"]))]),
            "text: 1 values for the shape [2]",
        ),
        (
            json!([input("text", "FP32", json!([1]), json!([1.0]))]),
            "the datatype \"FP32\"",
        ),
        (
            json!([input("text", "BYTES", json!([1]), json!([1]))]),
            "1 is not of BYTES",
        ),
        (json!([ids(json!([1, -2]))]), "-2 is not an id"),
        (json!([ids(json!([1, 2.5]))]), "2.5 is not of INT64"),
        (json!([ids(json!([1, 1_000_000]))]), "is not below"),
        (
            json!([ids(json!([1, 2])), mask(json!([0, 1]))]),
            "expected ones and then zeros",
        ),
        (
            json!([ids(json!([1, 2])), mask(json!([0, 0]))]),
            "no tokens",
        ),
        (
            json!([input("input_ids", "INT64", json!([2]), json!([1, 2]))]),
            "expected two dimensions",
        ),
        (
            json!([input(
                "input_ids",
                "INT64",
                json!([4294967296u64, 4294967296u64]),
                json!([])
            )]),
            "0 values",
        ),
        (
            json!([input("input_ids", "INT64", json!([1, 0]), json!([]))]),
            "0 texts",
        ),
        (json!([short]), "4 bytes, of which 0 are there"),
    ] {
        let (status, _, answer) = served.post(INFER, &json!({ "inputs": inputs }).to_string());
        let error = answer["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(says), "{status} {error}");
    }
    let other = json!({ "inputs": [text], "outputs": [{ "name": "logits" }] });
    assert_eq!(served.post(INFER, &other.to_string()).0, 400);
    for length in ["5", "x", "-1"] {
        let answer = agent()
            .post(served.url(INFER))
            .header("inference-header-content-length", length)
            .send("{}")
            .unwrap();
        assert_eq!(answer.status(), 400);
    }
}
