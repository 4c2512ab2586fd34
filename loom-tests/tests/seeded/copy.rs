//! A copy of the core and of the scenarios, to break and to build.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// What loom says of threads that wait for each other.
pub const STUCK: &str = "deadlock; threads";

/// The profile of the copy, which is built hundreds of times: incrementally, and optimised only where
/// the time goes, which is in loom itself.
const PROFILE: &str = "
[profile.seeded]
inherits = \"release\"
opt-level = 0
incremental = true
codegen-units = 16
[profile.seeded.package.\"*\"]
opt-level = 3
";

/// A copy of the core and of the scenarios. There are several, side by side, since a processor core is
/// busy with building one.
pub struct Copy {
    root: PathBuf,
    build: PathBuf,
    /// Locked as long as this run has the copy: another run of the same tests waits for it.
    _alone: File,
}

impl Copy {
    /// A new copy, of this number among those of this name.
    pub fn new(name: &str, number: usize) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{number}"));
        fs::create_dir_all(&work).unwrap();
        let alone = File::create(work.join("lock")).unwrap();
        alone.lock().unwrap();
        let (root, build) = (work.join("copy"), work.join("build"));
        let _ = fs::remove_dir_all(&root);
        copy(&here.join("../src/core"), &root.join("src/core"));
        let tests = root.join("loom-tests");
        copy(&here.join("src"), &tests.join("src"));
        fs::copy(here.join("Cargo.lock"), tests.join("Cargo.lock")).unwrap();
        let manifest = fs::read_to_string(here.join("Cargo.toml")).unwrap();
        fs::write(tests.join("Cargo.toml"), manifest + PROFILE).unwrap();
        Self {
            root,
            build,
            _alone: alone,
        }
    }

    /// A file of the copy, below `src`.
    pub fn source(&self, file: &str) -> PathBuf {
        self.root.join("src").join(file)
    }

    /// The folder of the copy in which cargo runs.
    pub fn tests(&self) -> PathBuf {
        self.root.join("loom-tests")
    }

    /// A command of cargo that builds the scenarios.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--profile", "seeded", "--offline", "--lib"])
            .args(["--no-run", "--message-format=short"])
            .current_dir(self.tests())
            .env("CARGO_TARGET_DIR", &self.build)
            .env("CARGO_INCREMENTAL", "1") // also where the caller builds everything once
            .env("RUSTFLAGS", "--cfg candlewick_loom");
        cargo
    }

    /// Runs such a command: where the tests are that it built, or what it said.
    pub fn built(&self, cargo: &mut Command) -> Result<PathBuf, String> {
        let built = cargo.output().expect("cargo");
        let said = text(&built);
        if !built.status.success() {
            return Err(said);
        }
        let (_, tail) = said.split_once("Executable").expect("an executable");
        let (_, path) = tail.split_once('(').expect("its path");
        let (path, _) = path.split_once(')').expect("its path");
        Ok(self.tests().join(path))
    }

    /// Another copy like this one, with what was built for this one of other packages.
    pub fn another(&self, name: &str, number: usize) -> Self {
        let other = Self::new(name, number);
        let _ = fs::remove_dir_all(&other.build);
        // cargo looks at the times of files
        let mut copy = Command::new("cp");
        copy.arg("-a").args([&self.build, &other.build]);
        assert!(copy.status().is_ok_and(|status| status.success()), "cp");
        other
    }
}

/// How a test ended, and what it said.
pub enum Ended {
    Passed(String),
    Failed(String),
    /// It had not ended by its limit.
    Stalled(String),
}

/// Runs a test in a process of its own: a deadlock that loom finds unwinds into destructors and aborts.
pub fn run(scenarios: &Path, test: &str, limit: Duration, set: impl FnOnce(&mut Command)) -> Ended {
    let mut run = Command::new(scenarios);
    run.args(["--exact", test, "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("CANDLEWICK_COVERAGE", "0") // a fault is to be caught, not missed by all
        .env("CANDLEWICK_SHIM", "weak")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1") // what a fault breaks is not to be tried again
        .env("RUST_BACKTRACE", "0") // there is no room for one on the stacks of a model
        .env_remove("CANDLEWICK_SHADOW")
        .env_remove("LOOM_MAX_PREEMPTIONS");
    set(&mut run);
    let mut process = run.spawn().expect("the scenarios");
    let (out, err) = (process.stdout.take(), process.stderr.take());
    let (out, err) = (reader(out.expect("piped")), reader(err.expect("piped")));
    let start = Instant::now();
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > limit => {
                process.kill().unwrap();
                process.wait().unwrap();
                break None;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = out.join().unwrap() + &err.join().unwrap();
    match status {
        None => Ended::Stalled(said),
        Some(status) if status.success() => Ended::Passed(said),
        Some(_) => Ended::Failed(said),
    }
}

/// Reads what a process says, on a thread of its own.
fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        from.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// All that a process said.
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
