//! The cells of an SQLite database. Its files alone say less: a long value is split over pages there, anywhere.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::{Finding, Search, SearchError};

impl Search {
    /// What is in any cell of any table, as the database has it now, its write-ahead log included. Others may use it meanwhile.
    ///
    /// # Errors
    /// [`SearchError::Database`]
    pub fn database(&self, path: &Path) -> Result<BTreeSet<Finding>, SearchError> {
        self.cells(path).map_err(|source| SearchError::Database {
            path: path.to_owned(),
            source,
        })
    }

    fn cells(&self, path: &Path) -> Result<BTreeSet<Finding>, rusqlite::Error> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        let tables = tables
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        let mut found = BTreeSet::new();
        for table in tables {
            let quoted = table.replace('"', "\"\"");
            let mut statement = connection.prepare(&format!("SELECT * FROM \"{quoted}\""))?;
            let columns: Vec<String> = statement
                .column_names()
                .into_iter()
                .map(ToOwned::to_owned)
                .collect();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                for (at, column) in columns.iter().enumerate() {
                    if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(at)? {
                        let place = format!("{}: {table}.{column}", path.display());
                        found.append(&mut self.bytes(&place, bytes));
                    }
                }
            }
        }
        Ok(found)
    }
}
