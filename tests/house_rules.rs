//! Rules that the sources keep and the compiler does not know. Each rule is a function from a
//! file to complaints, tested below on a snippet that breaks it.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file, line by line, with its code and its comments apart.
struct Source {
    /// Relative to the package, with forward slashes.
    path: String,
    lines: Vec<Line>,
}

#[derive(Default)]
struct Line {
    /// Without comments, and with the contents of strings left out.
    code: String,
    comment: String,
}

type Complaints = Vec<String>;

/// A line number from 1 on and what is wrong there.
fn complain(source: &Source, index: usize, what: &str) -> String {
    format!("{}:{}: {what}", source.path, index + 1)
}

// ---- the rules ----------------------------------------------------------------------------

/// The folders of `src/`, each importing only from those before it. What stands in `src/` itself
/// (executor, handle, ...) is the public face: it comes behind them and may use them all.
const ORDER: &[&[&str]] = &[&["core"], &["error"], &["graph"], &["plan"], &["device"]];

/// What stands behind the public face and is made of it alone, as a user's code would be.
const BEHIND_THE_FACE: &[&str] = &["nn", "models"];

fn rank(module: &str) -> usize {
    let level = ORDER.iter().position(|level| level.contains(&module));
    let behind = BEHIND_THE_FACE.iter().position(|room| *room == module);
    level.unwrap_or(ORDER.len() + behind.map_or(0, |place| 1 + place))
}

/// Whether `own` may import `used`, the first segment of a path in the crate.
fn may_import(own: &str, used: &str) -> bool {
    match rank(own).cmp(&ORDER.len()) {
        // types and functions at the root are the public face; its modules are not
        Ordering::Greater => {
            let public = used.starts_with(char::is_uppercase);
            public || BEHIND_THE_FACE.contains(&used) && rank(used) < rank(own)
        }
        Ordering::Equal => rank(used) <= ORDER.len(),
        Ordering::Less => rank(used) < rank(own),
    }
}

/// The module below `src/` that a file belongs to.
fn module(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/')
        .next()
        .unwrap_or(path)
        .trim_end_matches(".rs")
}

fn imports_point_backwards(source: &Source) -> Complaints {
    let own = module(&source.path);
    let mut complaints = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        for (at, _) in line.code.match_indices("crate::") {
            if at > 0 && is_word(line.code.as_bytes()[at - 1]) {
                continue;
            }
            for used in imported(&source.lines, index, at + "crate::".len()) {
                if used != own && !may_import(own, &used) {
                    let what = format!("`{own}` may not use `{used}`");
                    complaints.push(complain(source, index, &what));
                }
            }
        }
    }
    complaints
}

/// The first path segments behind a `crate::`: one, or those of a braced list.
fn imported(lines: &[Line], index: usize, from: usize) -> Vec<String> {
    let mut text = lines[index].code[from..].to_string();
    if !text.starts_with('{') {
        return vec![text.chars().take_while(|c| is_word_char(*c)).collect()];
    }
    for line in &lines[index + 1..] {
        if text.contains(';') {
            break;
        }
        text.push_str(&line.code);
    }
    let (mut depth, mut segments, mut segment) = (0, Vec::new(), String::new());
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => segments.push(std::mem::take(&mut segment)),
            c if depth == 1 => segment.push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    segments.push(segment);
    segments.retain(|segment| !segment.trim().is_empty());
    let first = |s: &String| s.trim().chars().take_while(|c| is_word_char(*c)).collect();
    segments.iter().map(first).collect()
}

/// Crates that only the facade names.
const FACADE_ONLY: &[&str] = &[
    "crossbeam_channel",
    "dashmap",
    "DashMap",
    "arc_swap",
    "parking_lot",
    "loom",
    "shuttle",
];

fn primitives_come_from_the_facade(source: &Source) -> Complaints {
    if source.path.starts_with("src/core/sync") {
        return Vec::new();
    }
    // What loom runs, and so what the facade must be able to replace.
    let core = module(&source.path) == "core";
    let forbidden = |code: &str| {
        FACADE_ONLY.iter().any(|name| has_word(code, name))
            || core && (code.contains("std::sync") || code.contains("std::thread"))
    };
    each_line(
        source,
        forbidden,
        "concurrency primitives are named in src/core/sync only",
    )
}

/// A guard of a map's shard deadlocks across calls: the facade alone handles the map.
fn dash_map_is_behind_the_facade(source: &Source) -> Complaints {
    if source.path == "src/core/sync/real.rs" {
        return Vec::new();
    }
    let names = |code: &str| has_word(code, "DashMap") || has_word(code, "dashmap");
    each_line(
        source,
        names,
        "DashMap is named in src/core/sync/real.rs only",
    )
}

const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

fn orderings_are_explained(source: &Source) -> Complaints {
    let mut complaints = Vec::new();
    let mut importing = false;
    for (index, line) in source.lines.iter().enumerate() {
        let code = line.code.trim_start();
        importing |= code.starts_with("use ") || code.starts_with("pub use ");
        let names = ORDERINGS.iter().any(|ordering| has_word(code, ordering));
        if names && !importing && !explained(source, index, &["ORDERING:"]) {
            complaints.push(complain(
                source,
                index,
                "an atomic operation without `ORDERING:`",
            ));
        }
        importing &= !code.contains(';');
    }
    complaints
}

fn unsafe_is_explained(source: &Source) -> Complaints {
    let unexplained = |(index, line): &(usize, &Line)| {
        has_word(&line.code, "unsafe") && !explained(source, *index, &["SAFETY:", "# Safety"])
    };
    let complaint = |(index, _)| complain(source, index, "`unsafe` without `SAFETY:`");
    source
        .lines
        .iter()
        .enumerate()
        .filter(unexplained)
        .map(complaint)
        .collect()
}

/// How many lines of code may stand between a comment and what it explains.
const REACH: usize = 3;

/// Whether one of the marks is in a comment on the line, or above it in the same group of lines.
fn explained(source: &Source, index: usize, marks: &[&str]) -> bool {
    let marked = |line: &Line| marks.iter().any(|mark| line.comment.contains(mark));
    if marked(&source.lines[index]) {
        return true;
    }
    let mut code = 0;
    for line in source.lines[..index].iter().rev() {
        if marked(line) {
            return true;
        }
        let text = line.code.trim();
        if !text.is_empty() {
            code += 1;
        }
        let ends_group = text == "}" || text.is_empty() && line.comment.is_empty();
        if ends_group || code == REACH {
            return false;
        }
    }
    false
}

const MOST_LINES: usize = 500;

fn files_are_short(source: &Source) -> Complaints {
    if source.lines.len() <= MOST_LINES {
        return Vec::new();
    }
    vec![format!(
        "{}: {} lines, more than {MOST_LINES}",
        source.path,
        source.lines.len()
    )]
}

fn nothing_is_left_undone(source: &Source) -> Complaints {
    let macros = ["todo!", "unimplemented!", "dbg!"];
    let unfinished = |code: &str| {
        macros.iter().any(|name| {
            code.match_indices(name)
                .any(|(at, _)| at == 0 || !is_word(code.as_bytes()[at - 1]))
        })
    };
    each_line(source, unfinished, "unfinished")
}

fn each_line(source: &Source, bad: impl Fn(&str) -> bool, what: &str) -> Complaints {
    let lines = source.lines.iter().enumerate();
    lines
        .filter(|(_, l)| bad(&l.code))
        .map(|(index, _)| complain(source, index, what))
        .collect()
}

// ---- reading Rust -------------------------------------------------------------------------

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn has_word(code: &str, word: &str) -> bool {
    let bytes = code.as_bytes();
    code.match_indices(word).any(|(at, _)| {
        let end = at + word.len();
        (at == 0 || !is_word(bytes[at - 1])) && (end == bytes.len() || !is_word(bytes[end]))
    })
}

impl Source {
    fn parse(path: &str, text: &str) -> Self {
        Self {
            path: path.to_string(),
            lines: split(text),
        }
    }
}

/// What the reader is in the middle of.
enum In {
    Code,
    LineComment,
    /// Nested this deep.
    BlockComment(usize),
    /// Closed by a quote and this many hashes; with `None`, backslashes escape.
    String(Option<usize>),
}

/// Separates code from comments and leaves out what stands in strings.
fn split(text: &str) -> Vec<Line> {
    let (mut lines, mut line, mut state) = (Vec::new(), Line::default(), In::Code);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        if c == '\n' {
            lines.push(std::mem::take(&mut line));
            if matches!(state, In::LineComment) {
                state = In::Code;
            }
            rest = &rest[taken..];
            continue;
        }
        match state {
            In::Code if rest.starts_with("//") => state = In::LineComment,
            In::Code if rest.starts_with("/*") => {
                (state, taken) = (In::BlockComment(1), 2);
            }
            In::Code => {
                let word = line.code.as_bytes().last().is_some_and(|b| is_word(*b));
                if let Some((string, opening)) = string_start(rest).filter(|_| c == '"' || !word) {
                    (state, taken) = (string, opening);
                } else if let Some(character) = char_literal(rest) {
                    taken = character;
                } else {
                    line.code.push(c);
                }
            }
            In::LineComment => line.comment.push(c),
            In::BlockComment(depth) => {
                let opens = rest.starts_with("/*");
                if opens || rest.starts_with("*/") {
                    taken = 2;
                    let depth = if opens { depth + 1 } else { depth - 1 };
                    state = if depth == 0 {
                        In::Code
                    } else {
                        In::BlockComment(depth)
                    };
                } else {
                    line.comment.push(c);
                }
            }
            In::String(None) if c == '\\' => {
                taken += rest[1..]
                    .chars()
                    .next()
                    .map_or(0, |c| c.len_utf8() * usize::from(c != '\n'))
            }
            In::String(hashes) => {
                let hashes = hashes.unwrap_or(0);
                if c == '"' && rest[1..].bytes().take_while(|b| *b == b'#').count() >= hashes {
                    (state, taken) = (In::Code, 1 + hashes);
                    line.code.push_str("\"\"");
                }
            }
        }
        rest = &rest[taken..];
    }
    lines.push(line);
    lines
}

/// The kind and length of a string's opening at the start of `rest`.
fn string_start(rest: &str) -> Option<(In, usize)> {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let raw = rest[..prefix].ends_with('r');
    let hashes = rest[prefix..].bytes().take_while(|b| *b == b'#').count();
    let opens = prefix <= 2 && rest[prefix + hashes..].starts_with('"') && (raw || hashes == 0);
    opens.then(|| (In::String(raw.then_some(hashes)), prefix + hashes + 1))
}

/// The length of a character literal at the start of `rest`; a lifetime is none.
fn char_literal(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if let Some(escaped) = inner.strip_prefix('\\') {
        let skipped = escaped.chars().next()?.len_utf8();
        return escaped[skipped..].find('\'').map(|end| end + skipped + 3);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..]
        .starts_with('\'')
        .then(|| c.len_utf8() + 2)
}

/// Every Rust file below a folder of the package.
fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    if package.join(folder).is_dir() {
        walk(&package.join(folder), &mut found);
    }
    found.sort();
    let read = |path: &PathBuf| {
        let name = path
            .strip_prefix(package)
            .expect("below it")
            .to_str()
            .expect("UTF-8");
        Source::parse(
            &name.replace('\\', "/"),
            &fs::read_to_string(path).expect("readable"),
        )
    };
    found.iter().map(read).collect()
}

fn enforce(folders: &[&str], rule: fn(&Source) -> Complaints) {
    let sources: Vec<Source> = folders.iter().flat_map(|folder| sources(folder)).collect();
    assert!(!sources.is_empty(), "no sources in {folders:?}");
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn folders_import_only_from_those_before_them() {
    enforce(&["src"], imports_point_backwards);
}
#[test]
fn only_the_facade_names_primitives() {
    enforce(&["src"], primitives_come_from_the_facade);
    enforce(&["src"], dash_map_is_behind_the_facade);
}
#[test]
fn every_ordering_names_its_partner() {
    enforce(&["src"], orderings_are_explained);
}
#[test]
fn every_unsafe_says_why_it_is_sound() {
    enforce(
        &["src", "tests", "benches", "examples"],
        unsafe_is_explained,
    );
}
#[test]
fn no_file_is_long() {
    enforce(&["src"], files_are_short);
}
#[test]
fn no_stub_and_no_leftover() {
    enforce(&["src", "benches", "examples"], nothing_is_left_undone);
}

// ---- each rule can fail -------------------------------------------------------------------

#[track_caller]
fn finds(rule: fn(&Source) -> Complaints, path: &str, text: &str, lines: &[usize]) {
    let complaints = rule(&Source::parse(path, text));
    let expected: Vec<String> = lines
        .iter()
        .map(|line| format!("{path}:{line}: "))
        .collect();
    assert_eq!(complaints.len(), lines.len(), "{complaints:?}");
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(
            complaint.starts_with(&expected),
            "{complaint} is not at {expected}"
        );
    }
}

#[test]
fn a_forward_import_is_found() {
    let rule = imports_point_backwards;
    finds(
        rule,
        "src/graph/node.rs",
        "use crate::error::Error;\nuse crate::device::Stream;\n",
        &[2],
    );
    finds(
        rule,
        "src/error.rs",
        "fn f(_: &crate::graph::Dims) {}",
        &[1],
    );
    finds(
        rule,
        "src/core/store/slot.rs",
        "use crate::{\n    core::sync::{Arc, Mutex},\n    Executor,\n};",
        &[1],
    );
    finds(
        rule,
        "src/core/store/slot.rs",
        "use crate::{core::sync::Arc, graph::Op};\n//! [`crate::Handle`]",
        &[1],
    );
    finds(
        rule,
        "src/executor.rs",
        "use crate::handle::Handle;\nuse crate::core::actor::shared::Core;",
        &[],
    );
    finds(
        rule,
        "src/plan/mod.rs",
        "use crate::device::Stream;\nuse crate::plan::Step;",
        &[1],
    );
    finds(
        rule,
        "src/core/sync/real.rs",
        "use crate::error::Error;",
        &[1],
    );
    let inside = "use crate::{LazyTensor, graph::Op};\nuse crate::nn::Linear;";
    finds(rule, "src/nn/linear.rs", inside, &[1]);
    finds(rule, "src/models/bert.rs", inside, &[1]);
    finds(rule, "src/nn.rs", "use crate::models::bert::Bert;", &[1]);
    finds(rule, "src/executor.rs", "use crate::nn::Linear;", &[1]);
}

#[test]
fn a_primitive_outside_of_the_facade_is_found() {
    let rule = primitives_come_from_the_facade;
    let text =
        "use std::sync::Mutex;\nuse crate::core::sync::Arc;\n// std::sync\nstd::thread::sleep(d);";
    finds(rule, "src/core/actor/park.rs", text, &[1, 4]);
    finds(
        rule,
        "src/graph/node.rs",
        "use std::sync::Arc;\nuse crossbeam_channel::bounded;",
        &[2],
    );
    finds(rule, "src/core/sync/real.rs", "use std::sync::Arc;", &[]);
    let rule = dash_map_is_behind_the_facade;
    finds(
        rule,
        "src/core/sync/mocked.rs",
        "type Map = dashmap::DashMap<u8, u8>; // DashMap",
        &[1],
    );
    finds(
        rule,
        "src/core/sync/real.rs",
        "struct Map(DashMap<u8, u8>);",
        &[],
    );
}

#[test]
fn an_unexplained_ordering_is_found() {
    let rule = orderings_are_explained;
    let bare = "use crate::sync::Ordering::{\n    Acquire,\n};\n\nw.load(Acquire)\n";
    finds(rule, "src/core/store/slot.rs", bare, &[5]);
    let good = "// ORDERING: Acquire, with `f`.\nlet old = self\n    .word\n    .swap(1, Acquire);";
    finds(rule, "src/core/store/slot.rs", good, &[]);
    let other = "// ORDERING: for the first.\nw.load(Acquire);\n}\nw.load(Ordering::Relaxed)";
    finds(rule, "src/core/store/slot.rs", other, &[4]);
    let far = "// ORDERING: far away.\na();\nb();\nc();\nw.load(Relaxed)";
    finds(rule, "src/core/store/slot.rs", far, &[5]);
    finds(
        rule,
        "src/core/store/slot.rs",
        "w.load(SeqCst) // ORDERING: one order for all.",
        &[],
    );
    finds(
        rule,
        "src/core/store/slot.rs",
        "a.cmp(&b) == Ordering::Less; // \"Acquire\"",
        &[],
    );
}

#[test]
fn an_unexplained_unsafe_is_found() {
    let rule = unsafe_is_explained;
    finds(rule, "src/a.rs", "\nlet x = unsafe { *p };", &[2]);
    finds(
        rule,
        "src/a.rs",
        "// SAFETY: alive.\nlet x = unsafe { *p };",
        &[],
    );
    finds(
        rule,
        "src/a.rs",
        "/// # Safety\n/// `p` is alive.\npub unsafe fn f() {}",
        &[],
    );
    finds(
        rule,
        "src/a.rs",
        "#![deny(unsafe_op_in_unsafe_fn)]\nlet s = \"unsafe\"; // unsafe",
        &[],
    );
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(
        files_are_short(&Source::parse("src/a.rs", &"\n".repeat(MOST_LINES))).len(),
        1
    );
    assert_eq!(
        files_are_short(&Source::parse("src/a.rs", &"\n".repeat(MOST_LINES - 1))).len(),
        0
    );
}

#[test]
fn a_stub_is_found() {
    let text = "todo!()\nmy_todo!()\n// todo!()\nlet x = dbg!(y);\n\"unimplemented!\"";
    finds(nothing_is_left_undone, "src/a.rs", text, &[1, 4]);
}

#[test]
fn code_comments_and_strings_are_told_apart() {
    let text = "a /* b /* c */ d */ e // f\n\"x // \\\" y\" g 'h' '\\'' &'l r#\"\"/*\"# i\n\"j\nk\" 'm: loop";
    let lines = split(text);
    let squeezed = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    let code: Vec<String> = lines.iter().map(|l| squeezed(&l.code)).collect();
    assert_eq!(code, ["a e", "\"\" g &'l \"\" i", "", "\"\" 'm: loop"]);
    assert_eq!(squeezed(&lines[0].comment), "b c d / f");
}
