//! An open recording becomes a media file and a Bundle in a folder, and on a server: in an order in which the log always
//! knows more than the world has.
//!
//! 1. The file is made under a hidden name, for its owner only.
//! 2. The log has hash, size and destination, durably and signed for.
//! 3. Only now the file gets its name, the Bundle is written, and posted.
//! 4. The access ends.
//!
//! A crash in between can leave an entry about a copy that nobody got, never a copy without an entry; and the hidden
//! file, which is plaintext: the next export into that folder says so.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::audit_event::LogEntry;
use super::document::{Document, bundle};
use super::fhir::Reference;
use super::media::{Made, MediaError, remux};
use super::papers::Papers;
use super::post::{PostError, Server, Taken};
use super::purpose::PurposeOfUse;
use super::rules::Permitted;
use crate::access::{Access, Copy};
use crate::audit::{Id, LogError, Text};
use crate::ids::RecordingId;
use crate::recording::Reader;

/// Name of the Bundle's file.
pub const BUNDLE_FILE: &str = "bundle.json";

/// What shall be made of a recording.
pub struct Job<'a> {
    /// The folder for the files. It must exist.
    pub folder: &'a Path,
    /// The server that gets the Bundle.
    pub server: Option<&'a Server>,
    /// Where the media file will be found: its name is put behind. None: next to the Bundle.
    pub media_url: Option<&'a str>,
    /// Leave out what is damaged.
    pub skip_damaged: bool,
    /// What may go.
    pub permitted: &'a Permitted,
    /// What goes along.
    pub papers: &'a Papers,
    /// For what.
    pub purpose: PurposeOfUse,
    /// Whose it is.
    pub patient: &'a Reference,
    /// Who gets it.
    pub recipient: Option<&'a Reference>,
    /// The encounter that was recorded.
    pub encounter: Option<&'a Reference>,
    /// Who answers for the document.
    pub author: Option<&'a Reference>,
    /// Who keeps it.
    pub custodian: Option<&'a Reference>,
    /// What kind of document it is: system and code.
    pub kind: Option<(&'a str, &'a str)>,
    /// Who exports.
    pub by: &'a Id,
}

/// What there is now.
#[derive(Debug)]
pub struct Delivered {
    /// The media file.
    pub media: PathBuf,
    /// What it is.
    pub made: Made,
    /// The Bundle's file.
    pub bundle: PathBuf,
    /// The log's entry.
    pub entry: u64,
    /// What the server took.
    pub taken: Vec<Taken>,
}

/// Why it is not there.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// Nothing is replaced.
    #[error("{0} exists already: name another folder, nothing is replaced")]
    Exists(PathBuf),
    /// A crash left it.
    #[error("{0} was left by an export that did not come to its end. It is plaintext: delete it")]
    Left(PathBuf),
    /// The system refuses.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// There is no media file.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The copy cannot be logged.
    #[error("the copy cannot be logged, so it was deleted: {0}")]
    Log(LogError),
    /// No random numbers.
    #[error("the system gives no random numbers: the media file is there, and no Bundle")]
    Random,
    /// The files are there, and the server has nothing of them, or not all.
    #[error("{error}. The files are in {folder}, and the log says that they were exported (entry {entry})")]
    Post {
        /// What the server says.
        error: Box<PostError>,
        /// Where the files are.
        folder: PathBuf,
        /// The log's entry.
        entry: u64,
    },
    /// Everything is there; only the log does not say that the access ended.
    #[error("the files are there; the end of the access is not in the log: {0}")]
    End(LogError),
}

/// Makes the folder, for its owner only, and looks whether there is room for the names.
pub fn prepare(folder: &Path, recording: RecordingId) -> Result<(), DeliverError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| DeliverError::Io(folder.to_owned(), error))?;
    for path in [folder.join(media_name(recording)), folder.join(BUNDLE_FILE)] {
        // A link to nowhere is there, too.
        if path.symlink_metadata().is_ok() {
            return Err(DeliverError::Exists(path));
        }
        let hidden = hidden(&path);
        if hidden.symlink_metadata().is_ok() {
            return Err(DeliverError::Left(hidden));
        }
    }
    Ok(())
}

/// Name of a recording's media file.
pub fn media_name(recording: RecordingId) -> String {
    format!("{recording}.mkv")
}

/// Exports a recording that is open, whichever way it was opened, and ends the access. `now`: unix time in milliseconds.
pub fn deliver(
    reader: Reader,
    access: Access,
    job: &Job,
    now: &dyn Fn() -> u64,
) -> Result<Delivered, DeliverError> {
    let mut members = 0;
    let delivered = deliver_open(reader, &access, job, now, &mut members);
    let ended = access.end(members, now());
    let delivered = delivered?;
    ended.map_err(DeliverError::End)?;
    Ok(delivered)
}

fn deliver_open(
    reader: Reader,
    access: &Access,
    job: &Job,
    now: &dyn Fn() -> u64,
    members: &mut u64,
) -> Result<Delivered, DeliverError> {
    let index = reader.index().clone();
    let facts = index.facts();
    let name = media_name(facts.recording);
    let mut media = Hidden::make(job.folder.join(&name))?;
    let remuxed = remux(reader, &mut media.file, job.skip_damaged);
    *members = remuxed.members;
    let made = remuxed.made?;
    let folder =
        fs::canonicalize(job.folder).map_err(|error| DeliverError::Io(job.folder.to_owned(), error))?;
    let destination = match job.server {
        Some(server) => server.url().to_owned(),
        None => format!("file://{}", folder.display()),
    };
    let copy = Copy {
        by: job.by.clone(),
        format: Id::new("matroska").map_err(|_| DeliverError::Random)?,
        sha256: made.sha256,
        bytes: made.bytes,
        destination: Text::lossy(&destination),
        recipient: job.recipient.map(|recipient| recipient.id().clone()),
        purpose: Id::new(job.purpose.code()).ok(),
    };
    let (appended, entry) = access.exported(copy, now()).map_err(DeliverError::Log)?;
    let media = media.publish()?;
    let started = facts.started;
    let url = job
        .media_url
        .map(|base| format!("{}/{name}", base.trim_end_matches('/')));
    let document = Document {
        facts,
        root: index.root(),
        finished: index.is_finished(),
        recorded: (started, started.saturating_add(index.duration_ns() / 1_000_000)),
        media: &made,
        name: &name,
        url: url.as_deref().unwrap_or(&name),
        permitted: job.permitted,
        papers: job.papers,
        purpose: job.purpose,
        patient: job.patient,
        recipient: job.recipient,
        encounter: job.encounter,
        author: job.author,
        custodian: job.custodian,
        kind: job.kind,
        by: job.by,
        logged: LogEntry {
            log: facts.log_key,
            index: appended.index,
            entry: &entry,
        },
        host: &host(),
        destination: &destination,
    };
    let bundle = bundle(&document).ok_or(DeliverError::Random)?;
    let mut file = Hidden::make(job.folder.join(BUNDLE_FILE))?;
    let text = format!("{:#}\n", bundle.json);
    let path = file.path.clone();
    file.file
        .write_all(text.as_bytes())
        .and_then(|()| file.file.sync_all())
        .map_err(|error| DeliverError::Io(path, error))?;
    let path = file.publish()?;
    let taken = match job.server {
        None => Vec::new(),
        Some(server) => server.post(&bundle).map_err(|error| DeliverError::Post {
            error: Box::new(error),
            folder: job.folder.to_owned(),
            entry: appended.index,
        })?,
    };
    Ok(Delivered {
        media,
        made,
        bundle: path,
        entry: appended.index,
        taken,
    })
}

/// This machine's name.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// A file under a hidden name, which is deleted unless it is published.
struct Hidden {
    file: File,
    path: PathBuf,
    /// The name that it shall have.
    wanted: PathBuf,
    published: bool,
}

fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

impl Hidden {
    fn make(wanted: PathBuf) -> Result<Self, DeliverError> {
        let path = hidden(&wanted);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => DeliverError::Left(path.clone()),
            _ => DeliverError::Io(path.clone(), error),
        })?;
        Ok(Self {
            file,
            path,
            wanted,
            published: false,
        })
    }

    /// Gives it its name, which nothing has.
    fn publish(mut self) -> Result<PathBuf, DeliverError> {
        let failed = |error: rustix::io::Errno| match error {
            rustix::io::Errno::EXIST => DeliverError::Exists(self.wanted.clone()),
            error => DeliverError::Io(self.wanted.clone(), error.into()),
        };
        renameat_with(CWD, &self.path, CWD, &self.wanted, RenameFlags::NOREPLACE).map_err(failed)?;
        self.published = true;
        let folder = self.wanted.parent().unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| DeliverError::Io(folder.to_owned(), error))?;
        Ok(self.wanted.clone())
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}
