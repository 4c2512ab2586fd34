//! Parameter sets: a value that is replaced while others read it.

use crate::core::sync::Arc;
use crate::core::versions::{Version, Versions};
use crate::runner::saw;
use crate::threads::spawn;

/// A set of two parameters that belong together.
struct Set {
    weight: u32,
    bias: u32,
}

fn set(value: u32) -> Set {
    Set {
        weight: value,
        bias: value,
    }
}

fn versions() -> Arc<Versions<Set>> {
    Arc::new(Versions::new(set(0)))
}

fn add(versions: &Versions<Set>, value: u32) -> u64 {
    let update = |old: &Set| Ok::<_, ()>(set(old.weight + value));
    versions.update(update).expect("does not fail")
}

/// Two updates at once are both applied, one after the other.
pub fn updates_race() {
    let versions = versions();
    let v = versions.clone();
    let t = spawn(move || add(&v, 1));
    let mine = add(&versions, 10);
    let other = t.join().unwrap();
    saw(if mine < other {
        "mine first"
    } else {
        "other first"
    });
    let last = versions.snapshot();
    assert_eq!(last.value.weight, 11, "an update was lost");
    assert_eq!(
        (mine.min(other), mine.max(other)),
        (1, 2),
        "no version of its own"
    );
    assert_eq!(last.number, 2);
}

/// A request that took a snapshot sees one version, whole; a later look sees no older one.
pub fn snapshot_vs_update() {
    let versions = versions();
    let v = versions.clone();
    let t = spawn(move || add(&v, 1));
    let look = |seen: &Version<Set>| {
        assert_eq!(seen.value.weight, seen.value.bias, "a mixed version");
        assert_eq!(u64::from(seen.value.weight), seen.number);
        seen.number
    };
    let first = look(&versions.snapshot());
    let second = versions.with(look);
    assert!(first <= second, "an older version came back");
    saw(if second == 0 { "old" } else { "new" });
    t.join().unwrap();
    assert_eq!(versions.snapshot().number, 1);
}

/// An update that refuses what it finds changes nothing; one that refused at first, and was then
/// overtaken by a change it can work with, is an update like any other.
pub fn refused_vs_update() {
    let versions = versions();
    let v = versions.clone();
    let t = spawn(move || add(&v, 1));
    let mine = versions.update(|old| match old.weight {
        0 => Err("too early"),
        n => Ok(set(n + 10)),
    });
    t.join().unwrap();
    let last = versions.snapshot();
    match mine {
        Err(_) => {
            saw("refused");
            assert_eq!(last.value.weight, 1, "refused, and applied all the same");
            assert_eq!(last.number, 1);
        }
        Ok(number) => {
            saw("applied");
            assert_eq!((last.value.weight, last.number, number), (11, 2, 2));
        }
    }
}
