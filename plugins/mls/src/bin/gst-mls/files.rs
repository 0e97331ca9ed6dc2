//! Files that a command makes: never in place of others without being told so, private keys for their owner only.

use std::error::Error;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Permissions of what is secret.
pub const PRIVATE: u32 = 0o600;
/// Permissions of what everybody may know.
pub const PUBLIC: u32 = 0o644;

/// A file to be made.
pub struct NewFile<'a> {
    pub path: PathBuf,
    pub content: &'a [u8],
    pub mode: u32,
}

impl<'a> NewFile<'a> {
    /// One with text.
    pub fn new(path: &Path, content: &'a str, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            content: content.as_bytes(),
            mode,
        }
    }
}

/// Makes the files, or none of them where one exists and `force` was not given.
pub fn create(files: &[NewFile<'_>], force: bool) -> Result<(), Box<dyn Error>> {
    if !force {
        refuse_existing(files, "Choose another place, or say --force.")?;
    }
    write_all(files, force)
}

/// Makes the files in a folder, or none of them where one exists.
pub fn create_new(files: &[NewFile<'_>]) -> Result<(), Box<dyn Error>> {
    refuse_existing(files, "Choose another folder.")?;
    write_all(files, false)
}

fn refuse_existing(files: &[NewFile<'_>], instead: &str) -> Result<(), Box<dyn Error>> {
    for NewFile { path, .. } in files {
        // A link that leads nowhere is in the way as well.
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(format!("{} exists already. {instead}", path.display()).into());
        }
    }
    Ok(())
}

fn write_all(files: &[NewFile<'_>], force: bool) -> Result<(), Box<dyn Error>> {
    for file in files {
        let path = file.path.display();
        write(file, force).map_err(|error| format!("{path} cannot be written: {error}"))?;
    }
    Ok(())
}

/// A file takes its name whole, after its content stands on the disk.
fn write(file: &NewFile<'_>, force: bool) -> io::Result<()> {
    let folder = match file.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Keys will lie there: a folder that is made here is its owner's.
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = file.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let path = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(&path)?;
    let written = open.write_all(file.content).and_then(|()| {
        // Whatever the umask left of it.
        open.set_permissions(Permissions::from_mode(file.mode))?;
        open.sync_all()?;
        if force {
            std::fs::rename(&path, &file.path)?;
        } else {
            rename_new(&path, &file.path)?;
        }
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // What is half written is of use to nobody; the error that matters is the one before.
        let _ = std::fs::remove_file(&path);
    }
    written
}

/// Gives a file its name, unless somebody else has it.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Network file systems do not know how, but have links.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}
