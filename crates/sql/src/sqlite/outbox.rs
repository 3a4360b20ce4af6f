//! Events as rows of SQLite, to be sent once what they are about is there.

use crate::error::Error;
use crate::outbox::columns;
use exactlog::Event;
use rusqlite::Transaction;

/// Events that are sent if and only if your transaction commits. An [`OutboxRelay`](crate::sqlite::OutboxRelay) sends
/// them.
///
/// ```
/// use exactlog::{Event, Log};
/// use exactlog_sql::Error;
/// use exactlog_sql::sqlite::{Inbox, Outbox, OutboxRelay, rusqlite::Connection};
///
/// fn order(database: &mut Connection) -> Result<(), Error> {
///     let transaction = database.transaction()?;
///     transaction.execute("INSERT INTO orders VALUES ('order-1')", ())?;
///     Outbox::enqueue(&transaction, "orders", Event::new("ada", "order-1"))?; // a row, no log is needed here
///     Ok(transaction.commit()?)
/// }
///
/// fn relay(log: &Log, database: Connection) -> Result<(), Error> {
///     OutboxRelay::new(log).open(database)?.run(|| true) // until the function says true, or the log is closed
/// }
///
/// fn webhook(database: &mut Connection, id: &str) -> Result<(), Error> {
///     let transaction = database.transaction()?;
///     if Inbox::new("payments").first_time(&transaction, id)? {
///         transaction.execute("INSERT INTO payments VALUES (?1)", [id])?;
///     }
///     Ok(transaction.commit()?)
/// }
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let log = Log::open(directory.path().join("data"))?;
/// # log.create_topic("orders", exactlog::TopicOptions::default())?;
/// # let file = directory.path().join("shop.db");
/// # let mut database = Connection::open(&file)?;
/// # exactlog_sql::sqlite::create_tables(&mut database)?;
/// # database.execute_batch("CREATE TABLE orders (id TEXT); CREATE TABLE payments (id TEXT)")?;
/// # order(&mut database)?;
/// # (webhook(&mut database, "7")?, webhook(&mut database, "7")?);
/// # let payments: i64 = database.query_row("SELECT count(*) FROM payments", (), |row| row.get(0))?;
/// # assert_eq!(payments, 1);
/// # OutboxRelay::new(&log).open(Connection::open(&file)?)?.drain()?;
/// # assert_eq!(log.read_view().records(&log.open_topic("orders")?).count(), 1);
/// # relay(&log, database)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Outbox;

impl Outbox {
    /// Adds an event to the transaction; the number of its row. It needn't be the log's process that does this.
    ///
    /// An event without a timestamp has that of this call. Events of a key keep the order of their rows, if the
    /// transactions that write them don't overlap: in SQLite they can't.
    ///
    /// # Errors
    /// [`Error::EventWithId`]; [`exactlog::Error::IllegalName`] and [`exactlog::Error::EventTooLarge`] for what no log
    /// takes; what SQLite answers.
    pub fn enqueue(transaction: &Transaction<'_>, topic: &str, event: Event) -> Result<i64, Error> {
        let columns = columns(topic, &event)?;
        transaction
            .prepare_cached(
                "INSERT INTO _exactlog_outbox (topic, key, value, headers, timestamp_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                topic,
                event.key.as_deref(),
                event.value.as_deref(),
                columns.headers,
                columns.timestamp_ms,
            ))?;
        Ok(transaction.last_insert_rowid())
    }
}
