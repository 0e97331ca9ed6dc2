//! State in an encrypted file: SQLCipher, one writer, one sync of the disk per transaction.
//!
//! Settings and why:
//! - WAL with `synchronous=FULL`: a commit appends to one file and syncs it once; a rollback journal needs three syncs.
//! - `locking_mode=EXCLUSIVE` and a locked file beside the database: a second endpoint on the same state would use the same
//!   keys twice. It also keeps the index of the WAL in memory instead of in a third file.
//! - `secure_delete` and a WAL that is cut after each checkpoint: keys of past epochs shall not stay behind in free
//!   pages, where whoever gets file and key later would find them.
//! - `query_only` between transactions: a write that nobody bracketed fails instead of being half of a change.

use openmls_rust_crypto::RustCrypto;
use openmls_sqlite_storage::SqliteStorageProvider;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::fs::{File, OpenOptions, TryLockError};
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

/// What every unencrypted SQLite file begins with; an encrypted one begins with random bytes.
const PLAIN_HEADER: &[u8] = b"SQLite format 3\0";

/// Pages of the WAL (4 KiB each) after which it is copied into the database.
const CHECKPOINT_PAGES: u32 = 1000;

/// State in an encrypted file.
pub struct SqliteStore {
    crypto: RustCrypto,
    connection: Connection,
    path: PathBuf,
    /// Held while the store is open.
    _lock: File,
}

impl SqliteStore {
    /// Opens the database with its key, makes it (0600) and its folder (0700) where they do not exist.
    pub fn open(path: &Path, key: &Zeroizing<[u8; 32]>) -> Result<Self, StoreError> {
        private_folder(path)?;
        let lock = lock(path)?;
        let file = private_file(path)?;
        let io = |source| StoreError::Io {
            path: path.into(),
            source,
        };
        let mut header = Vec::new();
        file.take(PLAIN_HEADER.len() as u64)
            .read_to_end(&mut header)
            .map_err(io)?;
        if header == PLAIN_HEADER {
            return Err(StoreError::Foreign(path.into()));
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

/// Locks the file beside the database, and says in it who holds it.
fn lock(path: &Path) -> Result<File, StoreError> {
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
    Ok(file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens or makes the database's file, for nobody else's eyes. SQLite gives its other files the same mode.
fn private_file(path: &Path) -> Result<File, StoreError> {
    let open = || -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        if metadata.len() == 0
            && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        {
            // The name must survive a power cut as well as the content.
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    };
    open().map_err(|source| StoreError::Io {
        path: path.into(),
        source,
    })
}

/// Gives the key and reads with it.
fn unlock(connection: &Connection, path: &Path, key: &Zeroizing<[u8; 32]>) -> Result<(), StoreError> {
    let sql = |source| explain(path, source);
    connection.busy_timeout(Duration::ZERO).map_err(sql)?;
    let digits = Zeroizing::new(hex::encode(&key[..]));
    let statement = Zeroizing::new(format!(
        "PRAGMA cipher_memory_security = ON; PRAGMA key = \"x'{}'\"; PRAGMA cipher_compatibility = 4;",
        *digits
    ));
    connection.execute_batch(&statement).map_err(sql)?;
    connection
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM sqlite_schema;")
        .map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::WrongKey(path.into()),
            _ => sql(source),
        })
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |source| explain(path, source);
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; \
             PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA journal_size_limit = 0;"
        ))
        .map_err(sql)?;
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
            // refinery's text names versions of tables, nothing of their content.
            StoreError::Codec(format!("openmls' tables: {error}"))
        })?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(sql)
}

/// What an error of SQLite means for the person who reads it.
fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path, by: None },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(path),
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
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
}
