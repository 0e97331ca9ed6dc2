//! State in an encrypted file: SQLCipher, one writer, one sync of the disk per transaction.
//!
//! Settings and why:
//! - WAL with `synchronous=FULL`: a commit writes one file and syncs it once; a rollback journal needs three syncs.
//! - `locking_mode=EXCLUSIVE` and a locked file beside the database: a second endpoint on the same state would use the
//!   same keys twice. It also keeps the index of the WAL in memory instead of in a third file.
//! - `secure_delete`, and a WAL that [`tidy`](Store::tidy) cuts: keys of past epochs shall not stay behind where whoever
//!   gets file and key later would find them.
//! - HMAC-SHA256 for the pages: less than half the time of SHA-512 where the processor has instructions for it.
//! - Not `cipher_memory_security`: it locks and wipes each allocation of every SQLite database in the process, which
//!   doubles the time of a merge. SQLCipher does so with its keys in any case.
//! - `query_only` between transactions: a write that nobody bracketed fails instead of being half of a change.

use openmls_rust_crypto::RustCrypto;
use openmls_sqlite_storage::SqliteStorageProvider;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

use super::codec::Codec;
use super::place::private_folder;
use super::{Provider, Store, StoreError};

/// Layout of our own tables; openmls' tables have migrations of their own.
const LAYOUT: i64 = 1;

/// Bytes of a page; a database has at least one.
const PAGE: u64 = 4096;

/// What every unencrypted SQLite file begins with; an encrypted one begins with random bytes.
const PLAIN_HEADER: &[u8] = b"SQLite format 3\0";

/// Pages of the WAL after which a commit also copies it into the database, where nobody tidied before.
const CHECKPOINT_PAGES: u32 = 1000;

/// State in an encrypted file.
pub struct SqliteStore {
    crypto: RustCrypto,
    connection: Connection,
    path: PathBuf,
    /// Held while the store is open; the last field, so that the connection is closed before.
    _lock: Lock,
}

impl SqliteStore {
    /// Opens the database with its key, makes it (0600) and its folder (0700) where they do not exist.
    pub fn open(path: &Path, key: &Zeroizing<[u8; 32]>) -> Result<Self, StoreError> {
        private_folder(path)?;
        let lock = lock(path)?;
        let length = private_file(path)?;
        if (1..PAGE).contains(&length) {
            // SQLite would take it for an empty one and begin anew.
            return Err(StoreError::Damaged(path.into()));
        }
        let sql = |source| explain(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(sql)?;
        unlock(&connection, path, key)?;
        prepare(&mut connection, path)?;
        Ok(Self {
            crypto: RustCrypto::default(),
            connection,
            path: path.into(),
            _lock: lock,
        })
    }

    /// The database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.connection
            .execute_batch(sql)
            .map_err(|source| explain(&self.path, source))
    }

    fn is_open(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.is_open() {
            Ok(())
        } else {
            Err(StoreError::NotOpen)
        }
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The locked file beside the database.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that is just being forked off has a copy of the file until it executes something.
        let _ = self.0.unlock();
    }
}

/// Locks the file beside the database, and says in it who holds it.
fn lock(path: &Path) -> Result<Lock, StoreError> {
    let lock_path = beside(path, ".lock");
    let io = |source| StoreError::Io {
        path: lock_path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(source)) => return Err(io(source)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.take(32).read_to_string(&mut text);
            return Err(StoreError::InUse {
                path: path.into(),
                by: text.trim().parse().ok(),
            });
        }
    }
    // The lock counts, the number is a hint for people: a full disk is no reason to stop here.
    let _ = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Lock(file))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the database's file where there is none, for nobody else's eyes, and gives its length. SQLite gives its other
/// files the same mode.
///
/// An existing file is not opened here: closing it would release the locks of a connection that this process has to it.
fn private_file(path: &Path) -> Result<u64, StoreError> {
    let prepare = || -> io::Result<u64> {
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
        {
            // The name must survive a power cut as well as the content.
            Ok(_) => match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) => File::open(folder)?.sync_all().map(|()| 0),
                None => Ok(0),
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = std::fs::metadata(path)?;
                if !metadata.is_file() {
                    return Err(io::Error::other("not a regular file"));
                }
                if metadata.permissions().mode() & 0o077 != 0 {
                    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
                }
                Ok(metadata.len())
            }
            Err(error) => Err(error),
        }
    };
    prepare().map_err(|source| StoreError::Io {
        path: path.into(),
        source,
    })
}

/// Gives the key and reads with it.
fn unlock(connection: &Connection, path: &Path, key: &Zeroizing<[u8; 32]>) -> Result<(), StoreError> {
    let sql = |source| explain(path, source);
    connection.busy_timeout(Duration::ZERO).map_err(sql)?;
    let digits = Zeroizing::new(hex::encode(&key[..]));
    // Sized once, so that growing does not leave copies of the key behind.
    let mut statement = Zeroizing::new(String::with_capacity(256));
    // Its log goes to the standard error otherwise; our errors say all that it does.
    statement.push_str("PRAGMA cipher_log_level = NONE; PRAGMA key = \"x'");
    statement.push_str(&digits);
    statement.push_str("'\"; PRAGMA cipher_compatibility = 4; PRAGMA cipher_hmac_algorithm = HMAC_SHA256;");
    connection.execute_batch(&statement).map_err(sql)?;
    connection
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM sqlite_schema;")
        .map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) if is_plain(path) => StoreError::Foreign(path.into()),
            Some(ErrorCode::NotADatabase) => StoreError::WrongKey(path.into()),
            _ => sql(source),
        })
}

fn is_plain(path: &Path) -> bool {
    let mut header = [0; PLAIN_HEADER.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header == PLAIN_HEADER
}

/// Checks every page's HMAC before anything is believed: SQLCipher fills a page that fails later with zeros, and the
/// query that meets it may still return a row.
fn check_pages(connection: &Connection) -> rusqlite::Result<bool> {
    // The check reads the database's file only, so what the last process left in the journal goes there first.
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    let mut statement = connection.prepare("PRAGMA cipher_integrity_check")?;
    let complaints = statement.exists(())?;
    Ok(!complaints)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |source| explain(path, source);
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; \
             PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};"
        ))
        .map_err(sql)?;
    if !check_pages(connection).map_err(sql)? {
        return Err(StoreError::Damaged(path.into()));
    }
    let layout: i64 = connection
        .query_row("PRAGMA user_version", (), |row| row.get(0))
        .map_err(sql)?;
    if layout > LAYOUT {
        return Err(StoreError::Newer(path.into()));
    }
    if layout < LAYOUT {
        connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; CREATE TABLE own_rows (name TEXT PRIMARY KEY, value BLOB NOT NULL); \
                 PRAGMA user_version = {LAYOUT}; COMMIT;"
            ))
            .map_err(sql)?;
    }
    SqliteStorageProvider::<Codec, &mut Connection>::new(&mut *connection)
        .run_migrations()
        .map_err(|error| {
            // The text names versions of tables, nothing of their content.
            StoreError::Tables {
                path: path.into(),
                reason: error.to_string(),
            }
        })?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(sql)
}

/// What an error of SQLite means for the person who reads it.
fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path, by: None },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(path),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => StoreError::Disk { path, source },
        _ => StoreError::Sql { path, source },
    }
}

impl Store for SqliteStore {
    type Provider<'a> = Provider<'a, SqliteStorageProvider<Codec, &'a Connection>>;

    fn provider(&self) -> Self::Provider<'_> {
        Provider {
            crypto: &self.crypto,
            storage: SqliteStorageProvider::new(&self.connection),
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        if self.is_open() {
            return Err(StoreError::Open);
        }
        self.run("PRAGMA query_only = OFF; BEGIN IMMEDIATE")
            .inspect_err(|_| {
                let _ = self.run("PRAGMA query_only = ON");
            })
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.check_open()?;
        let committed = self.run("COMMIT");
        // After a commit this rolls nothing back; after an error the commit's own one is the one that tells something.
        let closed = self.rollback();
        committed.and(closed)
    }

    fn rollback(&mut self) -> Result<(), StoreError> {
        // SQLite rolls back by itself after some errors.
        if self.is_open() {
            self.run("ROLLBACK")?;
        }
        self.run("PRAGMA query_only = ON")
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.connection
            .prepare_cached("SELECT value FROM own_rows WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
            .map_err(|source| explain(&self.path, source))
    }

    fn put(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.check_open()?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO own_rows (name, value) VALUES (?1, ?2)")
            .and_then(|mut statement| statement.execute((name, value)))
            .map_err(|source| explain(&self.path, source))?;
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.check_open()?;
        self.connection
            .prepare_cached("DELETE FROM own_rows WHERE name = ?1")
            .and_then(|mut statement| statement.execute([name]))
            .map_err(|source| explain(&self.path, source))?;
        Ok(())
    }

    fn wipe_group(&mut self) -> Result<(), StoreError> {
        self.check_open()?;
        let wipe = || -> rusqlite::Result<()> {
            // Whatever openmls keeps now or after its next migration.
            let mut statement = self.connection.prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                 AND name NOT IN ('own_rows', 'openmls_sqlite_storage_migrations')",
            )?;
            let tables = statement
                .query_map((), |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for table in tables {
                self.connection.execute(&format!("DELETE FROM \"{table}\""), ())?;
            }
            Ok(())
        };
        wipe().map_err(|source| explain(&self.path, source))
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        if self.is_open() {
            return Err(StoreError::Open);
        }
        self.run("PRAGMA wal_checkpoint(TRUNCATE)")
    }
}

#[cfg(test)]
mod tests;
