//! The server with the clients that people have, where they are installed:
//! `pip install openai 'tritonclient[http]'`, by the Python that CANDLEWICK_PYTHON names.

use crate::common::{MODEL, limits, start, texts};
use serde_json::json;
use std::process::Command;

#[test]
fn python_clients_agree() {
    let python = std::env::var("CANDLEWICK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python)
        .args(["-c", "import openai, tritonclient.http"])
        .output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no openai and tritonclient[http]");
        return;
    }
    let served = start(limits());
    let all = ["a cat sat", "the dog", "the cat and the dog sat"];
    let ids = all.map(|text| texts().ids(text).unwrap());
    let vectors = all.map(|text| served.own(text));
    let expected = json!({ "texts": all, "ids": ids, "vectors": vectors });
    let file = std::env::temp_dir().join(format!("candlewick-clients-{}.json", std::process::id()));
    std::fs::write(&file, expected.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/clients.py");
    let output = Command::new(python)
        .args([script, &served.to.to_string(), MODEL])
        .arg(&file)
        .output();
    std::fs::remove_file(&file).unwrap();
    let output = output.unwrap();
    let says = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{says}{errors}");
    assert!(says.contains("tritonclient agrees"), "{says}");
    print!("{says}");
}
