//! The index of a model in shards: which file has which tensor.

use super::Wrong;
use crate::error::ParamsError;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The shards, with the names that each must have.
pub(super) type Shards = BTreeMap<PathBuf, BTreeSet<String>>;

pub(super) fn read(index: &Path) -> Result<Shards, ParamsError> {
    let wrong = |name: Option<&str>, error: Wrong| ParamsError::Format {
        file: index.to_owned(),
        name: name.map(str::to_owned),
        error,
    };
    let text = std::fs::read(index).map_err(|error| ParamsError::Io {
        file: index.to_owned(),
        error,
    })?;
    let parsed: Value = serde_json::from_slice(&text).map_err(|error| wrong(None, error.into()))?;
    let Some(map) = parsed.get("weight_map").and_then(Value::as_object) else {
        return Err(wrong(None, "it has no object \"weight_map\"".into()));
    };
    let mut shards = Shards::new();
    for (name, shard) in map {
        let Some(shard) = shard.as_str() else {
            let error = "the name of its file is not a string";
            return Err(wrong(Some(name), error.into()));
        };
        let path = beside(index, shard).map_err(|error| wrong(Some(name), error))?;
        shards.entry(path).or_default().insert(name.clone());
    }
    Ok(shards)
}

/// A shard's path. The file itself may be a link to elsewhere, as in Hugging Face's cache.
fn beside(index: &Path, shard: &str) -> Result<PathBuf, Wrong> {
    let relative = Path::new(shard);
    let normal = |part| matches!(part, Component::Normal(_));
    if shard.is_empty() || shard.contains(['\\', '\0']) || !relative.components().all(normal) {
        return Err(format!("its file {shard:?} is outside of the index's folder").into());
    }
    Ok(index
        .parent()
        .map_or_else(|| relative.to_owned(), |dir| dir.join(relative)))
}
