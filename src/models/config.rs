//! Reading configuration files.

use crate::{ConfigError, Error, Result};
use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The largest number that a field may have. Sizes are multiplied with each other, and no model
/// comes near it.
const MOST: u64 = 1 << 28;

const SIZE: &str = "a whole number from 1 to 268435456";
const NUMBER: &str = "a number that is not negative";

fn id(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// The fields of a JSON object.
#[derive(Debug)]
pub(super) struct Fields {
    file: Option<PathBuf>,
    map: Map<String, Value>,
}

impl Fields {
    pub(super) fn parse(text: &str) -> Result<Self> {
        Self::of(text, None)
    }

    pub(super) fn read(file: &Path) -> Result<Self> {
        Self::of(&text(file)?, Some(file))
    }

    /// Fields that come from elsewhere.
    pub(super) fn from_map(map: Map<String, Value>) -> Self {
        Self { file: None, map }
    }

    fn of(text: &str, file: Option<&Path>) -> Result<Self> {
        let file = file.map(Path::to_owned);
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Self { file, map }),
            Ok(_) => {
                let error = "not an object of fields".into();
                Err(ConfigError::Json { file, error }.into())
            }
            Err(error) => {
                let error = error.into();
                Err(ConfigError::Json { file, error }.into())
            }
        }
    }

    /// The error that `field` must be something else.
    pub(super) fn refuse(&self, field: &'static str, must: impl Into<String>) -> Error {
        let got = self.map.get(field).map(Value::to_string);
        ConfigError::Field {
            file: self.file.clone(),
            field,
            must: must.into(),
            got,
        }
        .into()
    }

    fn get<T>(
        &self,
        field: &'static str,
        must: &str,
        of: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match of(value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.refuse(field, must)),
            },
        }
    }

    /// A positive whole number.
    pub(super) fn size(&self, field: &'static str) -> Result<usize> {
        let size = self.size_if_given(field)?;
        size.ok_or_else(|| self.refuse(field, SIZE))
    }

    /// A positive whole number, if there is one.
    pub(super) fn size_if_given(&self, field: &'static str) -> Result<Option<usize>> {
        self.get(field, SIZE, |value| {
            let size = value.as_u64().filter(|n| (1..=MOST).contains(n))?;
            usize::try_from(size).ok()
        })
    }

    /// A number that is not negative.
    pub(super) fn number(&self, field: &'static str) -> Result<f64> {
        let number = self.number_if_given(field)?;
        number.ok_or_else(|| self.refuse(field, NUMBER))
    }

    /// A number that is not negative, if there is one.
    pub(super) fn number_if_given(&self, field: &'static str) -> Result<Option<f64>> {
        self.get(field, NUMBER, |value| value.as_f64().filter(|n| *n >= 0.0))
    }

    /// A token's id.
    pub(super) fn id(&self, field: &'static str) -> Result<Option<u32>> {
        self.get(field, "a token's id", id)
    }

    /// One id or several.
    pub(super) fn ids(&self, field: &'static str) -> Result<Vec<u32>> {
        let ids = |value: &Value| match value {
            Value::Array(list) => list.iter().map(id).collect(),
            one => Some(vec![id(one)?]),
        };
        Ok(self
            .get(field, "a token's id, or several", ids)?
            .unwrap_or_default())
    }

    /// The fields of a field.
    pub(super) fn object(&self, field: &'static str) -> Result<Option<Self>> {
        let map = self.get(field, "an object of fields", |value| {
            value.as_object().cloned()
        })?;
        let file = || self.file.clone();
        Ok(map.map(|map| Self { file: file(), map }))
    }

    pub(super) fn flag(&self, field: &'static str) -> Result<Option<bool>> {
        self.get(field, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, field: &'static str) -> Result<Option<&str>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse(field, "a string")),
        }
    }

    /// What a string stands for.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &self,
        field: &'static str,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.refuse(field, "one that is known")),
        }
    }
}

/// A file's text.
pub(super) fn text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        let file = file.to_owned();
        ConfigError::Io { file, error }.into()
    })
}
