//! Reads the list of the mutants that escape for a reason.

use super::mutants::Mutant;

/// The lines of `survivors.txt`, each of which is `file | kind | text | reason`.
pub struct Explained(Vec<(String, String)>);

impl Explained {
    pub fn read() -> Self {
        let lines = include_str!("survivors.txt").lines();
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parsed = lines.map(|line| {
            // the text may be a closure
            let parts = line
                .rsplit_once(" | ")
                .filter(|(_, reason)| !reason.is_empty());
            let (key, reason) = parts.unwrap_or_else(|| panic!("no reason: {line}"));
            (key.into(), reason.into())
        });
        Self(parsed.collect())
    }

    pub fn explains(&self, mutant: &Mutant) -> bool {
        let key = key(mutant);
        self.0.iter().any(|(explained, _)| *explained == key)
    }

    /// The lines that are about no mutant that there is.
    pub fn stale(&self, all: &[Mutant]) -> Vec<String> {
        let keys: Vec<_> = all.iter().map(key).collect();
        let stale = self
            .0
            .iter()
            .filter(|(explained, _)| !keys.contains(explained));
        stale.map(|(explained, _)| explained.clone()).collect()
    }
}

fn key(mutant: &Mutant) -> String {
    format!("{} | {} | {}", mutant.file, mutant.kind, mutant.text)
}
