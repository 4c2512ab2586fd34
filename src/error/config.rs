//! What can be wrong with a configuration file.

use super::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What is wrong with a model's configuration, and where.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// It is no JSON, or none of the kind that it should be.
    Json {
        /// The file, if it came from one.
        file: Option<PathBuf>,
        /// What the parser said.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A field is missing, or is not what it must be.
    Field {
        /// The file, if it came from one.
        file: Option<PathBuf>,
        /// The field.
        field: &'static str,
        /// What it must be.
        must: String,
        /// What there is, if anything is.
        got: Option<String>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |f: &mut fmt::Formatter<'_>, file: &Option<PathBuf>| match file {
            Some(file) => write!(f, "{}: ", file.display()),
            None => f.write_str("configuration: "),
        };
        match self {
            Self::Io { file, error } => write!(f, "{}: {error}", file.display()),
            Self::Json { file, error } => {
                place(f, file)?;
                error.fmt(f)
            }
            Self::Field {
                file,
                field,
                must,
                got,
            } => {
                place(f, file)?;
                match got {
                    Some(got) => write!(f, "{field} must be {must}, and is {got}"),
                    None => write!(f, "{field} is missing; it must be {must}"),
                }
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Json { error, .. } => Some(&**error),
            Self::Field { .. } => None,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Config(Arc::new(error))
    }
}
