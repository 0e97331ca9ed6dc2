//! The dealer's key: Ed25519, in a file that only its owner can read. It never lies on the recorder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ed25519_dalek::SigningKey;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{BundleError, read_bounded};

/// Reads the dealer's key, or makes it where there is no file: the seed (RFC 8032 §5.1.5) as 64 hex digits and a line
/// feed, 0600.
pub fn load_or_make(path: &Path) -> Result<SigningKey, BundleError> {
    match load(path) {
        Err(BundleError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            make(path)?;
            // Whoever was first with the file, all go on with the same key.
            load(path)
        }
        result => result,
    }
}

fn load(path: &Path) -> Result<SigningKey, BundleError> {
    let text = read_bounded(path, 65)
        .map(Zeroizing::new)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => BundleError::file(path, "is no dealer's key"),
            _ => BundleError::io(path)(error),
        })?;
    let mode = fs::metadata(path)
        .map_err(BundleError::io(path))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let why = "can be read by others than its owner: make a new key, or say chmod 600 if nobody did";
        return Err(BundleError::file(path, why));
    }
    let mut seed = Zeroizing::new([0; 32]);
    text.strip_suffix(b"\n")
        .and_then(|hex| hex::decode_to_slice(hex, &mut *seed).ok())
        .ok_or_else(|| BundleError::file(path, "is no dealer's key"))?;
    Ok(SigningKey::from_bytes(&seed))
}

fn make(path: &Path) -> Result<(), BundleError> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(&mut *seed)
        .map_err(|_| BundleError::Making("the system gives no random numbers".to_owned()))?;
    // Sized once: text that grows leaves its old bytes behind.
    let mut text = Zeroizing::new([b'\n'; 65]);
    let (digits, _) = text.split_at_mut(64);
    hex::encode_to_slice(*seed, digits).map_err(|error| BundleError::Making(error.to_string()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let made = write(&temporary, &*text)
        // Unlike a rename, a link never takes the place of a key that another process has made meanwhile.
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        });
    // The first error is the one to tell.
    let _ = fs::remove_file(&temporary);
    made.and_then(|()| File::open(folder)?.sync_all())
        .map_err(BundleError::io(path))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
