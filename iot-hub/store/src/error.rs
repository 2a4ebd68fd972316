//! Why the store did not do something.

use std::path::PathBuf;

/// An operation that did not happen. After a failed commit the durable state is unknown to the process: it must end.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the store {path} has schema version {found}; this program knows up to {known}")]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("{operation} failed")]
    Sql {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// A row is not what this program wrote: damage, or a hand that edited it.
    #[error("table {table}, row {row}: the content is not readable")]
    Damaged {
        table: &'static str,
        row: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{what} {value} exceeds what the store can hold")]
    OutOfRange { what: &'static str, value: u64 },
}

impl StoreError {
    pub(crate) fn sql(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { operation, source }
    }

    pub(crate) fn damaged<E>(table: &'static str, row: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Damaged {
            table,
            row: row.into(),
            source: source.into(),
        }
    }
}
