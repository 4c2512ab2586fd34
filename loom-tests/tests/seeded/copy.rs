//! A copy of the core and of the scenarios, to break and to build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// The copy is built dozens of times: incrementally, and optimised only where the time goes,
/// which is in loom itself.
const PROFILE: &str = "
[profile.seeded]
inherits = \"release\"
opt-level = 0
incremental = true
codegen-units = 16
[profile.seeded.package.\"*\"]
opt-level = 3
";

/// A copy of the core and of the scenarios. There are several: building one is the work of one
/// processor core.
pub struct Copy {
    root: PathBuf,
    build: PathBuf,
}

impl Copy {
    /// The copy of this number among those of this name.
    pub fn new(name: &str, number: usize) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{number}"));
        let (root, build) = (work.join("copy"), work.join("build"));
        let _ = fs::remove_dir_all(&root);
        copy(&here.join("../src/core"), &root.join("src/core"));
        let tests = root.join("loom-tests");
        copy(&here.join("src"), &tests.join("src"));
        fs::copy(here.join("Cargo.lock"), tests.join("Cargo.lock")).unwrap();
        let manifest = fs::read_to_string(here.join("Cargo.toml")).unwrap();
        fs::write(tests.join("Cargo.toml"), manifest + PROFILE).unwrap();
        Self { root, build }
    }

    pub fn source(&self, file: &str) -> PathBuf {
        self.root.join("src").join(file)
    }

    /// Where cargo runs.
    pub fn tests(&self) -> PathBuf {
        self.root.join("loom-tests")
    }

    pub fn cargo(&self, args: &[&str]) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--profile", "seeded", "--offline", "--lib"])
            .args(args)
            .current_dir(self.tests())
            .env("CARGO_TARGET_DIR", &self.build)
            .env("CARGO_INCREMENTAL", "1") // also where the caller builds everything once
            .env("RUSTFLAGS", "--cfg candlewick_loom")
            .env("CANDLEWICK_COVERAGE", "0") // a fault is to be caught, not missed by all
            .env("CANDLEWICK_SHIM", "weak")
            .env_remove("CANDLEWICK_SHADOW")
            .env_remove("LOOM_MAX_PREEMPTIONS");
        cargo
    }

    /// Another like this one, with what was built for this one of other packages.
    pub fn another(&self, name: &str, number: usize) -> Self {
        let other = Self::new(name, number);
        let _ = fs::remove_dir_all(&other.build);
        // cargo looks at the times of files
        let mut copy = Command::new("cp");
        copy.arg("-a").args([&self.build, &other.build]);
        assert!(copy.status().is_ok_and(|status| status.success()), "cp");
        other
    }

    pub fn build(&self) -> Result<(), String> {
        let built = self.cargo(&["--no-run"]).output().expect("cargo");
        built
            .status
            .success()
            .then_some(())
            .ok_or_else(|| text(&built))
    }

    /// In a process of its own: a deadlock that loom finds unwinds into destructors and aborts.
    pub fn run(&self, scenario: &str) -> Command {
        let test = format!("tests::{scenario}");
        self.cargo(&["--", "--exact", &test, "--nocapture"])
    }
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
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
