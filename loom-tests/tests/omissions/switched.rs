//! Many mutants in one build: each is a branch, and the environment says which one is taken. The
//! source between them stays as it is.

use super::mutants::{Edit, Mutant};
use std::ops::Range;

/// The module that says which mutant is on, and notes which of them are reached.
pub const SWITCH: &str = r#"
/// Which mutant is on.
#[allow(missing_docs, clippy::disallowed_methods)]
pub mod omitted {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering as Real};

    static HITS: [AtomicBool; 8192] = [const { AtomicBool::new(false) }; 8192];

    fn hit(number: usize) {
        static FILE: OnceLock<Option<std::fs::File>> = OnceLock::new();
        if HITS[number].swap(true, Real::Relaxed) {
            return;
        }
        let open = || std::env::var_os("OMITTED_HITS").map(|to| std::fs::File::create(to).unwrap());
        if let Some(mut file) = FILE.get_or_init(open).as_ref() {
            file.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
    }

    pub fn on(number: usize) -> bool {
        static ON: OnceLock<usize> = OnceLock::new();
        let asked = || std::env::var("OMITTED").map_or(usize::MAX, |n| n.parse().unwrap());
        hit(number);
        number == *ON.get_or_init(asked)
    }

    type Ordering = crate::core::sync::Ordering;

    pub fn order(number: usize, weaker: Ordering, usual: Ordering) -> Ordering {
        if on(number) { weaker } else { usual }
    }
}
"#;

/// A source in which each mutant is a branch.
pub struct Switched {
    pub text: String,
    /// The number of each mutant, and where what it puts is in the text: what it leaves, which other mutants may
    /// change, is not a part of that.
    places: Vec<(usize, Range<usize>)>,
    /// The same with what it leaves.
    wholes: Vec<(usize, Range<usize>)>,
}

impl Switched {
    /// The number of the mutant that has put what is at a line and a column, as the compiler counts them.
    pub fn at(&self, line: usize, column: usize) -> Option<usize> {
        let at = self.offset(line, column)?;
        let mut around = self.places.iter().filter(|(_, place)| place.contains(&at));
        around.next().map(|(number, _)| *number)
    }

    /// The number of the innermost mutant that puts or leaves what is at a line and a column.
    pub fn around(&self, line: usize, column: usize) -> Option<usize> {
        let at = self.offset(line, column)?;
        let around = self.wholes.iter().filter(|(_, whole)| whole.contains(&at));
        let innermost = around.min_by_key(|(_, whole)| whole.len());
        innermost.map(|(number, _)| *number)
    }

    /// The number of the mutant that is nearest to a line and a column, of these mutants.
    pub fn near(&self, line: usize, column: usize, of: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.offset(line, column)?;
        let places = self.places.iter().filter(|(number, _)| of(*number));
        let nearest = places.min_by_key(|(_, p)| at.abs_diff(p.end).min(at.abs_diff(p.start)));
        nearest.map(|(number, _)| *number)
    }

    fn offset(&self, line: usize, column: usize) -> Option<usize> {
        let before = self.text.split_inclusive('\n').take(line - 1);
        let row = self.text.lines().nth(line - 1)?;
        let in_row = row.char_indices().nth(column - 1);
        Some(before.map(str::len).sum::<usize>() + in_row.map_or(row.len(), |(i, _)| i))
    }
}

/// Puts the mutants, each with its number, into the source that they are of. They may enclose one
/// another, but not overlap otherwise.
pub fn switched(source: &str, mutants: &[(usize, &Mutant)]) -> Switched {
    let mut sorted: Vec<_> = mutants.to_vec();
    // the outer one first
    sorted.sort_by_key(|(number, m)| {
        let range = m.range();
        (range.start, std::cmp::Reverse(range.end), *number)
    });
    let (mut text, mut places, mut copied) = (String::new(), Vec::new(), 0);
    let mut open: Vec<(usize, usize, usize, String)> = Vec::new(); // end, number, place, closing text
    let mut wholes = Vec::new();
    let mut i = 0;
    loop {
        let next = sorted.get(i).map(|(_, m)| m.range());
        let closes = open
            .last()
            .filter(|(end, ..)| next.as_ref().is_none_or(|n| *end <= n.start));
        if closes.is_some() {
            let (end, number, place, closing) = open.pop().expect("looked");
            text += &source[copied..end];
            copied = end;
            text += &closing;
            wholes.push((number, place..text.len()));
            continue;
        }
        let Some(range) = next else { break };
        assert!(
            open.last().is_none_or(|(end, ..)| range.end <= *end),
            "mutants overlap"
        );
        text += &source[copied..range.start];
        copied = range.start;
        let (number, mutant) = sorted[i];
        let place = text.len();
        let instead = mutant.instead(source);
        let closing = match &mutant.edit {
            Edit::Weaken(..) => {
                text += &format!("crate::core::omitted::order({number}, {instead}, ");
                ")"
            }
            Edit::Drop(_) | Edit::Swap(..) => {
                text += &format!("if crate::core::omitted::on({number}) {{{instead}}} else {{");
                "}"
            }
        };
        places.push((number, place..text.len()));
        open.push((range.end, number, place, closing.into()));
        i += 1;
    }
    text += &source[copied..];
    Switched {
        text,
        places,
        wholes,
    }
}
