//! Many statements sent as one: a connection has a thread of its own, and to hand it a statement costs more than most statements do.

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

use crate::error::StoreError;

/// Up to so many statements, the text is kept as a prepared one: there are only a few kinds of small transactions.
const KEPT: usize = 8;
/// So many are sent at a time, so that a large transaction is not in memory twice.
const FULL: usize = 256;

/// Statements and their parameters, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    sql: String,
    arguments: SqliteArguments,
    statements: usize,
}

impl Batch {
    /// Adds a statement; as many [`bind`](Self::bind)s follow as it has parameters. They are anonymous (`?`): a number would count from the
    /// beginning of the batch.
    pub(super) fn add(&mut self, statement: &'static str) -> &mut Self {
        self.sql.push_str(statement);
        self.sql.push_str(";\n");
        self.statements += 1;
        self
    }

    pub(super) fn bind<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        self.arguments
            .add(value)
            .expect("numbers and texts can be encoded");
        self
    }

    pub(super) fn is_full(&self) -> bool {
        self.statements >= FULL
    }

    /// Executes all of them and begins anew. The first that fails is the error.
    pub(super) async fn execute(&mut self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let Self {
            sql,
            arguments,
            statements,
        } = std::mem::take(self);
        if statements == 0 {
            return Ok(());
        }
        // Made of constants; whatever comes from elsewhere is a parameter.
        sqlx::query_with(AssertSqlSafe(sql), arguments)
            .persistent(statements <= KEPT)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(StoreError::sql("write"))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    #[tokio::test]
    async fn each_statement_gets_its_own_parameters_however_many_there_are() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut batch = Batch::default();
        batch.execute(&mut connection).await.unwrap();
        batch.add("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)");
        batch.execute(&mut connection).await.unwrap();
        let mut next = 0;
        for count in [1, 2, i64::try_from(KEPT).unwrap() + 1, 2, 300] {
            for number in next..next + count {
                batch
                    .add("INSERT INTO t (n, text) VALUES (?, ?)")
                    .bind(number)
                    .bind(format!("; {number}"));
            }
            batch
                .add("UPDATE t SET text = text || '!' WHERE n = ?")
                .bind(next);
            batch.execute(&mut connection).await.unwrap();
            next += count;
        }
        let wrong: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t WHERE rtrim(text, '!') <> '; ' || n")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let marked: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t WHERE text LIKE '%!'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let all: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!((wrong, marked, all), (0, 5, next));

        batch.add("INSERT INTO t (n) VALUES (?)").bind(next);
        batch.add("INSERT INTO t (n) VALUES (?)").bind(0_i64);
        assert!(
            batch.execute(&mut connection).await.is_err(),
            "the second is there already"
        );
    }
}
