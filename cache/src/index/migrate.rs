//! Bringing an index to this version's tables.
//!
//! The tables of an index that is as new as this code are not touched: the check is one read of
//! `user_version`. To change them: raise [`schema::VERSION`], add a step to [`STEPS`], and let
//! [`schema::TABLES`] say what a new index gets. A test holds the two against each other.

use rusqlite::{Connection, TransactionBehavior};

use super::schema;

/// `STEPS[n]` turns version `n + 1` into `n + 2`.
const STEPS: &[&str] = &[
    schema::PINS,
    schema::STACKS,
    schema::PARTS,
    schema::LISTS,
    schema::ORIGINS,
    schema::RESOURCES,
    schema::CONTENTS,
];

/// What was found in `user_version`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The tables are this version's.
    Current,
    /// A later version made them.
    Newer(i32),
}

/// Makes or changes the tables where that is needed.
pub(super) fn run(connection: &mut Connection) -> rusqlite::Result<Outcome> {
    match version(connection)? {
        schema::VERSION => return Ok(Outcome::Current),
        newer if newer > schema::VERSION => return Ok(Outcome::Newer(newer)),
        _ => {}
    }
    // Persistent; can't be done inside a transaction. Two processes doing it at once are serialised
    // by SQLite's own lock.
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    // Another process may have been quicker.
    let found = version(&transaction)?;
    if found > schema::VERSION {
        return Ok(Outcome::Newer(found));
    }
    if found == 0 {
        transaction.execute_batch(schema::TABLES)?;
    } else {
        let done = usize::try_from(found - 1).unwrap_or(0);
        for step in &STEPS[done.min(STEPS.len())..] {
            transaction.execute_batch(step)?;
        }
    }
    transaction.pragma_update(None, "user_version", schema::VERSION)?;
    transaction.commit()?;
    Ok(Outcome::Current)
}

fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_step_for_every_version_but_the_first() {
        assert_eq!(STEPS.len(), usize::try_from(schema::VERSION).unwrap() - 1);
    }

    #[test]
    fn an_index_of_the_first_version_becomes_what_a_new_one_is() {
        let columns = |connection: &Connection| -> Vec<(String, String)> {
            connection
                .prepare(
                    "SELECT m.name, c.name || ' ' || c.type FROM sqlite_schema m, \
                     pragma_table_info(m.name) c ORDER BY 1, 2",
                )
                .unwrap()
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap()
        };
        let mut new = Connection::open_in_memory().unwrap();
        run(&mut new).unwrap();
        let mut old = Connection::open_in_memory().unwrap();
        old.execute_batch(schema::TABLES).unwrap();
        old.execute_batch(
            "DROP TABLE lists; DROP TABLE list_members; DROP TABLE list_blobs; DROP TABLE origins; \
             DROP TRIGGER records_gone; DROP INDEX records_text; DROP TABLE record_parts; \
             DROP TABLE builds; ALTER TABLE mounts DROP COLUMN boot; \
             ALTER TABLE records ADD COLUMN parts TEXT NOT NULL DEFAULT ''; \
             DROP TABLE pins; DROP TABLE pruned; ALTER TABLE records DROP COLUMN made; \
             DROP TABLE layer_files; ALTER TABLE records DROP COLUMN stack; \
             ALTER TABLE records DROP COLUMN inputs; ALTER TABLE records DROP COLUMN selection; \
             ALTER TABLE records DROP COLUMN resources; \
             DROP TRIGGER layers_gone; DROP TABLE layer_contents; \
             INSERT INTO records (key, layer, operation, content, kind, text, created, last_used, \
             cost_ms, parts) VALUES (x'01', 1, x'', x'', 'run', 'RUN x', 77, 99, 1, '[1]');",
        )
        .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        assert_eq!(run(&mut old).unwrap(), Outcome::Current);
        assert_eq!(columns(&old), columns(&new));
        let record: (i64, String) = old
            .query_row(
                "SELECT made, parts FROM records JOIN record_parts USING (seq)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(record, (77, "[1]".to_owned()));
        old.execute_batch("DELETE FROM records").unwrap();
        let parts: i64 = old
            .query_row("SELECT count(*) FROM record_parts", [], |row| row.get(0))
            .unwrap();
        assert_eq!(parts, 0);
    }

    #[test]
    fn index_of_a_later_version_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .pragma_update(None, "user_version", schema::VERSION + 1)
            .unwrap();
        assert_eq!(
            run(&mut connection).unwrap(),
            Outcome::Newer(schema::VERSION + 1)
        );
    }
}
