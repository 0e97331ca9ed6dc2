//! Delivery by one SQLite file, for all rooms of one user on one machine.
//!
//! Each append is one transaction that is on the disk when it returns: an endpoint's own state is, too, and must never
//! be ahead of the log. What is in the file is sealed or public anyway, so it is not encrypted; rooms appear in it by
//! a salted hash of their name. Readers wake by the [doorbell](super::bell).
//!
//! Commits, what created the room and proposals stay, because who was away needs them to follow. What people say stays up
//! to a number of bytes, the latest of it. Everything else is forgotten after a day. The sequence of what was forgotten
//! is missing, and is never given again.

use super::bell::{Bell, Listener, PATIENCE};
use super::place::{self, Place, io_error};
use super::{Appended, Delivery, DeliveryError, Entry, KEPT_CONTENT, LogId, MAX_READ, Waker, check_length};
use crate::record::Record;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use super::place::default_path;

/// Age in seconds from which records are forgotten that nobody needs to follow the room.
pub const KEPT_SECONDS: i64 = 24 * 3600;

/// Says in the file's header whose it is ("ge2e"), and its layout's version.
const APPLICATION: i64 = 0x6765_3265;
const LAYOUT: i64 = 1;

/// `rooms` counts, so that no sequence comes twice even where the last record was forgotten.
const TABLES: &str = "
    CREATE TABLE log (id BLOB NOT NULL) STRICT;
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY,
        name BLOB NOT NULL UNIQUE,
        last INTEGER NOT NULL DEFAULT 0,
        last_commit INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE records (
        room INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        kind TEXT NOT NULL,
        stays INTEGER NOT NULL,
        at INTEGER NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX in_order ON records (room, sequence);
    CREATE INDEX forgettable ON records (at) WHERE NOT stays;
    CREATE INDEX contents ON records (room, sequence) WHERE kind = 'content';
";

/// Messages beyond the last ?2 bytes of a room.
const FORGET_CONTENT: &str = "
    DELETE FROM records WHERE room = ?1 AND kind = 'content' AND sequence <= (
        SELECT max(sequence) FROM (
            SELECT sequence, sum(length(bytes)) OVER (ORDER BY sequence DESC) AS from_here
            FROM records WHERE room = ?1 AND kind = 'content'
        ) WHERE from_here > ?2
    )
";

/// That is looked after once in so many sequences: each time all of them are counted.
const LOOK_AFTER: u64 = 16;

/// At most so many records are forgotten with one append, so that none takes long.
const FORGET: &str = "
    DELETE FROM records WHERE rowid IN
        (SELECT rowid FROM records WHERE NOT stays AND at < ?1 ORDER BY at LIMIT 64)
";

/// The engine `sqlite:`.
pub struct SqliteDelivery {
    // Stops before the files close: they would wake it.
    listener: Option<Listener>,
    database: Connection,
    place: Place,
    bell: Bell,
    log: LogId,
    room: i64,
    kept_content: u64,
}

impl SqliteDelivery {
    /// Opens the log of the room with this name in the file at `path`, or at [`default_path`]. Folder and file are
    /// made where they are missing.
    pub fn open(path: Option<&Path>, room: &str) -> Result<Self, DeliveryError> {
        let private = path.is_none();
        let path = path.map_or_else(default_path, Path::to_path_buf);
        // The process may change its working directory.
        let path = std::path::absolute(&path).map_err(|source| io_error(&path, source))?;
        place::prepare_folder(&path, private)?;
        let bell = Bell::open(&path)?;
        let alone = bell.lock()?;

        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(io_error(&path, source)),
        }
        let place = Place::of(&path)?;
        let failed = |error| database_error(&path, error);
        // Without SQLITE_OPEN_URI: a path is a path, whatever its characters.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut database = Connection::open_with_flags(&path, flags).map_err(failed)?;
        database.busy_handler(Some(wait_for_others)).map_err(failed)?;
        let log = set_up(&mut database, &path)?;
        let name = digest::digest(&digest::SHA256, &[&log[..], room.as_bytes()].concat());
        let name = name.as_ref();
        database
            .execute(
                "INSERT INTO rooms (name) VALUES (?1) ON CONFLICT DO NOTHING",
                [name],
            )
            .map_err(failed)?;
        let room = database
            .query_row("SELECT id FROM rooms WHERE name = ?1", [name], |row| row.get(0))
            .map_err(failed)?;
        drop(alone);

        let delivery = Self {
            listener: None,
            database,
            place,
            bell,
            log,
            room,
            kept_content: KEPT_CONTENT,
        };
        delivery.check_place()?;
        Ok(delivery)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    fn check_place(&self) -> Result<(), DeliveryError> {
        self.place.check()?;
        self.bell.place().check()
    }

    /// The outcome of a call, unless the files were exchanged under it: then it says nothing about the log that
    /// the others see.
    fn in_place<T>(&self, outcome: rusqlite::Result<T>) -> Result<T, DeliveryError> {
        self.check_place()?;
        outcome.map_err(|error| database_error(self.path(), error))
    }

    /// `after`: only if that still is the last commit.
    fn insert(&mut self, kind: &str, after: Option<u64>, bytes: &[u8]) -> Result<Appended, DeliveryError> {
        check_length(bytes)?;
        let appended = self.insert_row(kind, after.map(to_sql), bytes);
        if let Ok(Some(_)) = appended {
            self.bell.ring()?;
        }
        let sequence = self.in_place(appended)?;
        Ok(sequence.map_or(Appended::Moved, Appended::Accepted))
    }

    fn insert_row(&mut self, kind: &str, after: Option<i64>, bytes: &[u8]) -> rusqlite::Result<Option<u64>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = to_sql(now.as_secs());
        let stays = matches!(kind, "create" | "commit" | "proposal" | "content");
        let transaction = self
            .database
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sequence: Option<u64> = transaction
            .prepare_cached(
                "UPDATE rooms SET last = last + 1, last_commit = iif(?2 IS NULL, last_commit, last + 1)
                 WHERE id = ?1 AND (?2 IS NULL OR last_commit = ?2) RETURNING last",
            )?
            .query_row(params![self.room, after], |row| row.get(0))
            .optional()?;
        let sequence = match sequence {
            Some(sequence) => sequence,
            None if after.is_some() => return Ok(None),
            None => return Err(rusqlite::Error::QueryReturnedNoRows),
        };
        transaction
            .prepare_cached(
                "INSERT INTO records (room, sequence, kind, stays, at, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![self.room, sequence, kind, stays, now, bytes])?;
        transaction
            .prepare_cached(FORGET)?
            .execute([now.saturating_sub(KEPT_SECONDS)])?;
        if kind == "content" && sequence.is_multiple_of(LOOK_AFTER) {
            transaction
                .prepare_cached(FORGET_CONTENT)?
                .execute(params![self.room, to_sql(self.kept_content)])?;
        }
        transaction.commit()?;
        Ok(Some(sequence))
    }

    fn select(&self, after: u64, most: usize) -> rusqlite::Result<Vec<Entry>> {
        let mut statement = self.database.prepare_cached(
            "SELECT sequence, bytes FROM records WHERE room = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![self.room, to_sql(after), most])?;
        let (mut entries, mut total) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(1)?.as_blob()?;
            total += bytes.len();
            if total > MAX_READ && !entries.is_empty() {
                break;
            }
            entries.push(Entry {
                sequence: row.get(0)?,
                bytes: bytes.to_vec(),
            });
        }
        Ok(entries)
    }

    fn count(&self, what: &'static str) -> Result<u64, DeliveryError> {
        let counted = self
            .database
            .prepare_cached(what)
            .and_then(|mut statement| statement.query_row([self.room], |row| row.get(0)));
        self.in_place(counted)
    }
}

impl Delivery for SqliteDelivery {
    fn log(&self) -> LogId {
        self.log
    }

    fn append(&mut self, kind: &'static str, bytes: &[u8]) -> Result<Appended, DeliveryError> {
        self.insert(kind, None, bytes)
    }

    fn append_commit(&mut self, after: u64, bytes: &[u8]) -> Result<Appended, DeliveryError> {
        let kind = Record::decode(bytes).map_or("commit", |record| record.kind());
        self.insert(kind, Some(after), bytes)
    }

    fn read(&mut self, after: u64, most: usize) -> Result<Vec<Entry>, DeliveryError> {
        let entries = self.select(after, most);
        let entries = self.in_place(entries)?;
        if entries.is_empty() {
            let last = self.count("SELECT last FROM rooms WHERE id = ?1")?;
            if after > last {
                return Err(DeliveryError::NotHeld {
                    after,
                    first: 1,
                    last,
                });
            }
        }
        Ok(entries)
    }

    fn last_commit(&mut self) -> Result<u64, DeliveryError> {
        self.count("SELECT last_commit FROM rooms WHERE id = ?1")
    }

    fn keep_content(&mut self, bytes: u64) {
        self.kept_content = bytes;
    }

    fn wake_by(&mut self, waker: Waker) -> Result<(), DeliveryError> {
        self.listener = None;
        let listener = Listener::start(self.bell.place().path(), self.path(), waker.clone());
        self.listener = Some(listener?);
        // What it listens to was found by name.
        self.check_place()?;
        waker();
        Ok(())
    }
}

/// Makes the tables where the file is new; refuses what is not ours. Nobody else does so at the same time.
fn set_up(database: &mut Connection, path: &Path) -> Result<LogId, DeliveryError> {
    let failed = |error| database_error(path, error);
    let number = |database: &Connection, what| {
        let number: rusqlite::Result<i64> = database.query_row(what, [], |row| row.get(0));
        number.map_err(failed)
    };
    let marks = (
        number(database, "PRAGMA application_id")?,
        number(database, "PRAGMA user_version")?,
    );
    let is_new = number(database, "SELECT count(*) FROM sqlite_schema")? == 0 && marks == (0, 0);
    if !is_new && marks != (APPLICATION, LAYOUT) {
        return Err(DeliveryError::Foreign(path.into()));
    }
    let mode: String = database
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        let reason = "its file system does not let processes share memory; choose a path on a local disk";
        return Err(io_error(path, io::Error::other(reason)));
    }
    // The size limit is for what is left of the write-ahead log after a big record.
    database
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 8388608")
        .map_err(failed)?;
    if is_new {
        let mut id: LogId = [0; 16];
        let random = SystemRandom::new().fill(&mut id);
        random.map_err(|_| io_error(path, io::Error::other("no random numbers for its name")))?;
        let transaction = database.transaction().map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction
            .execute("INSERT INTO log (id) VALUES (?1)", [id])
            .map_err(failed)?;
        transaction
            .pragma_update(None, "application_id", APPLICATION)
            .map_err(failed)?;
        transaction
            .pragma_update(None, "user_version", LAYOUT)
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        return Ok(id);
    }
    database
        .query_row("SELECT id FROM log", [], |row| row.get(0))
        .map_err(failed)
}

/// Between attempts to get at the database. SQLite's own way doubles the time up to a tenth of a second, and of eight
/// who commit at once some would wait for most of one.
fn wait_for_others(attempts: i32) -> bool {
    const PAUSE: Duration = Duration::from_millis(1);
    std::thread::sleep(PAUSE);
    u128::try_from(attempts).is_ok_and(|attempts| attempts < PATIENCE.as_millis() / PAUSE.as_millis())
}

/// What SQLite says, as something that a person can act on.
fn database_error(path: &Path, error: rusqlite::Error) -> DeliveryError {
    let path = path.into();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DeliveryError::Busy(path),
        Some(ErrorCode::DiskFull) => DeliveryError::DiskFull(path),
        // No code: a value is missing or impossible. Unknown: a table is missing. Constraint: a sequence came twice.
        Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::Unknown
            | ErrorCode::ConstraintViolation,
        )
        | None => DeliveryError::Damaged(path),
        Some(_) => DeliveryError::Database { path, source: error },
    }
}

/// SQLite's integers are signed; no log gets that long.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
