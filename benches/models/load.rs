//! From a file to tensors. In a process of its own each time, for its memory is measured.

use super::closed_loop::Options;
use super::minilm_weights;
use candlewick::{Device, Params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const CHILD: &str = "CANDLEWICK_BENCH_LOAD";
const FOLDER: &str = "CANDLEWICK_BENCH_LOAD_FOLDER";
const ROUNDS: usize = 9;

type Load = fn(&Path) -> usize;

/// Each returns the bytes of the tensors that it made.
const WAYS: [(&str, Load); 3] = [
    ("candlewick", |folder| {
        let params = Params::load_dir(folder, &Device::Cpu).unwrap();
        let all = params.snapshot();
        let bytes = |name: &str| all.tensor(name).unwrap().elem_count() * 4;
        all.names().map(bytes).sum()
    }),
    ("candle", |folder| {
        let all = candle_core::safetensors::load(file(folder), &Device::Cpu).unwrap();
        all.values().map(|t| t.elem_count() * 4).sum()
    }),
    ("candle_mapped", |folder| {
        // SAFETY: nobody changes the file meanwhile.
        let all = unsafe { candle_core::safetensors::MmapedSafetensors::new(file(folder)) };
        let all = all.unwrap();
        let names = all.tensors().into_iter().map(|(name, _)| name);
        let tensors: HashMap<_, _> = names
            .map(|name| (name.clone(), all.load(&name, &Device::Cpu).unwrap()))
            .collect();
        tensors.values().map(|t| t.elem_count() * 4).sum()
    }),
];

fn file(folder: &Path) -> PathBuf {
    folder.join("model.safetensors")
}

/// A line of `/proc/self/status`, in bytes; 0 where there is no such thing.
fn status(line: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = all.lines().find_map(|l| l.strip_prefix(line));
    let kilobytes = value.and_then(|v| v.trim().strip_suffix(" kB"));
    kilobytes.map_or(0, |kb| kb.trim().parse::<u64>().unwrap() * 1024)
}

/// Whether this process is one that loads once and tells.
pub(crate) fn is_child() -> bool {
    let (Ok(way), Some(folder)) = (std::env::var(CHILD), std::env::var_os(FOLDER)) else {
        return false;
    };
    let (_, load) = WAYS.iter().find(|(name, _)| *name == way).unwrap();
    let before = status("VmRSS:");
    let begin = Instant::now();
    let bytes = load(Path::new(&folder));
    let took = begin.elapsed();
    let peak = status("VmHWM:").saturating_sub(before);
    println!("{} {peak} {bytes}", took.as_nanos());
    true
}

pub(crate) fn run(options: &Options) {
    let scratch = std::env::temp_dir().join(format!("candlewick-load-{}", std::process::id()));
    let folder = std::env::var_os("CANDLEWICK_MINILM").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| {
        std::fs::create_dir_all(&scratch).unwrap();
        candle_core::safetensors::save(&minilm_weights(), file(&scratch)).unwrap();
        scratch.clone()
    });
    let mut all = WAYS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((way, _), all) in WAYS.iter().zip(&mut all) {
            all.push(once(way, &folder));
        }
    }
    for ((way, _), mut all) in WAYS.iter().zip(all) {
        all.sort_unstable();
        let [nanos, peak, bytes] = all[ROUNDS / 2];
        let (ms, peak) = (nanos as f64 / 1e6, peak as f64 / bytes as f64);
        match options.json {
            true => println!(
                "{{\"workload\":\"load\",\"contender\":\"{way}\",\"ms\":{ms:.2},\"bytes\":{bytes},\"peak\":{peak:.3}}}"
            ),
            false => println!("load {way:30} {ms:8.1} ms, at most {peak:.2}x of {bytes} bytes"),
        }
    }
    let _ = std::fs::remove_dir_all(scratch); // it may not be there
}

/// Nanoseconds, the most bytes of memory, the tensors' bytes.
fn once(way: &str, folder: &Path) -> [u64; 3] {
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, way)
        .env(FOLDER, folder)
        .output()
        .unwrap();
    assert!(child.status.success(), "{way} failed");
    let line = String::from_utf8(child.stdout).unwrap();
    let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap());
    std::array::from_fn(|_| numbers.next().unwrap())
}
