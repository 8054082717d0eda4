//! Bringing an index to this version's tables.
//!
//! The tables of an index that is as new as this code are not touched: the check is one read of
//! `user_version`. To change them: raise [`schema::VERSION`], add a step to [`STEPS`], and let
//! [`schema::TABLES`] say what a new index gets. A test holds the two against each other.

use rusqlite::{Connection, TransactionBehavior};

use super::schema;

/// `STEPS[n]` turns version `n + 1` into `n + 2`.
const STEPS: &[&str] = &[];

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
