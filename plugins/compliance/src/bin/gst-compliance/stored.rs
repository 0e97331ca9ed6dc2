//! What commands have in common that look into a store: where it is, and a folder that goes away.

use std::error::Error;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gstcompliance::audit::Note;
use gstcompliance::retention::RetentionError;
use gstcompliance::store::{
    Access, Address, Bucket, Finding, StoreError, Stored, fetch_log, fetch_recording, recordings, size,
    spool_with, wait,
};

/// So often a request that failed is made again.
const RETRIES: usize = 3;

#[derive(Debug, Default, clap::Args)]
pub struct Store {
    /// File that says where the store is and who you are there, in lines NAME=VALUE (AWS_ENDPOINT_URL, AWS_REGION,
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …), readable by you only. What it does not say the environment does, then
    /// AWS_PROFILE in the files of the AWS tools, then the machine's role.
    #[arg(long, value_name = "FILE")]
    store_credentials: Option<PathBuf>,
    /// Where the keys of the recordings are, if not at PREFIX-keys.
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    key_location: Option<Address>,
}

/// Is this argument a place in a store?
pub fn is_store(path: &Path) -> bool {
    path.to_str().is_some_and(Address::is_meant)
}

/// The place that an argument names.
pub fn address(path: &Path) -> Result<Address, Box<dyn Error>> {
    Ok(path.to_string_lossy().parse::<Address>()?)
}

impl Store {
    pub fn access(&self) -> Result<Access, StoreError> {
        self.store_credentials
            .as_deref()
            .map_or_else(|| Ok(Access::environment()), Access::read)
    }

    pub fn credentials(&self) -> Option<PathBuf> {
        self.store_credentials.clone()
    }

    pub fn keys(&self) -> Option<Address> {
        self.key_location.clone()
    }

    pub fn bucket(&self, address: &Address) -> Result<Bucket, StoreError> {
        Bucket::open(address, &self.access()?, RETRIES)
    }

    /// The recording at an address; none: the address ends with no recording's id.
    pub fn recording(&self, address: &Address) -> Result<Option<Stored>, StoreError> {
        let Some((location, id)) = address.parent() else {
            return Ok(None);
        };
        let Ok(id) = id.parse() else { return Ok(None) };
        let keys = self.keys().unwrap_or_else(|| location.keys());
        Ok(Some(Stored {
            id,
            media: self.bucket(&location)?,
            keys: self.bucket(&keys)?,
        }))
    }

    /// Fetches the key files of recordings; all of a recording, where its custodians open it. `log`: the folder of the audit log.
    pub fn keys_of(
        &self,
        places: &[&PathBuf],
        log: &Path,
        with_media: bool,
    ) -> Result<Vec<Fetched>, Box<dyn Error>> {
        let mut fetched = Vec::new();
        for place in places {
            for of in self.recordings(place)?.0 {
                if let Some(spool) = spool_with(log, of.id) {
                    return Err(format!("{}: {}", of.url(), RetentionError::InSpool(spool)).into());
                }
                let temporary = match with_media {
                    true => to_temporary(&of, None)?.0,
                    false => {
                        let temporary = Temporary::new(None)?;
                        wait(of.fetch_keys(&temporary.folder()))?;
                        temporary
                    }
                };
                fetched.push(Fetched { of, temporary });
            }
        }
        Ok(fetched)
    }

    /// Fetches the log at an address to a folder that goes away.
    pub fn log(&self, address: &Address) -> Result<FetchedLog, Box<dyn Error>> {
        let temporary = Temporary::new(None)?;
        let (findings, seen) = wait(fetch_log(&self.bucket(address)?, &temporary.folder()))?;
        Ok(FetchedLog {
            temporary,
            seen,
            findings,
        })
    }

    /// The recording at an address, or all that are there. True: all.
    pub fn recordings(&self, path: &Path) -> Result<(Vec<Stored>, bool), Box<dyn Error>> {
        let address = address(path)?;
        if let Some(recording) = self.recording(&address)? {
            return Ok((vec![recording], false));
        }
        let media = self.bucket(&address)?;
        let keys = self.bucket(&self.keys().unwrap_or_else(|| address.keys()))?;
        let ids = wait(recordings(&media))?;
        if ids.is_empty() {
            return Err(format!("there are no recordings at {address}").into());
        }
        let of = |id| Stored {
            id,
            media: media.clone(),
            keys: keys.clone(),
        };
        Ok((ids.into_iter().map(of).collect(), true))
    }
}

/// A log of a store that is here for a while.
pub struct FetchedLog {
    pub temporary: Temporary,
    /// Older checkpoints.
    pub seen: Vec<Note>,
    /// What is not as it should be there.
    pub findings: Vec<Finding>,
}

/// A recording of a store whose key files are here for a while.
pub struct Fetched {
    of: Stored,
    temporary: Temporary,
}

impl Fetched {
    pub fn folder(&self) -> PathBuf {
        self.temporary.folder()
    }

    pub fn url(&self) -> String {
        self.of.url()
    }

    /// Brings the key files that are here now into the store; gives how many versions of others were deleted there.
    pub fn put_keys(&self) -> Result<u64, Box<dyn Error>> {
        let put = wait(self.of.put_keys(&self.folder()));
        let removed = put.map_err(|error| {
            format!("the audit log has it, and it is not complete in the store ({error}): run this again")
        })?;
        Ok(removed.versions)
    }
}

/// Fetches a recording to a folder that goes away, if there is room.
pub fn to_temporary(of: &Stored, below: Option<&Path>) -> Result<(Temporary, Vec<Finding>), Box<dyn Error>> {
    let temporary = Temporary::new(below)?;
    let needed = wait(size(&of.media, of.id))?;
    temporary.has_room(needed)?;
    let findings = wait(fetch_recording(&of.media, &of.keys, of.id, &temporary.folder()))?;
    Ok((temporary, findings))
}

/// A folder of one's own that goes away.
pub struct Temporary(PathBuf);

impl Temporary {
    pub fn new(below: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let below = below.map_or_else(std::env::temp_dir, Path::to_owned);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let path = below.join(format!("gst-compliance-{}-{now:x}", std::process::id()));
        // It must be new: nobody else has put anything there.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("{}: {error}. --tmp DIR names another place", path.display()))?;
        Ok(Self(path))
    }

    /// What is fetched is here.
    pub fn folder(&self) -> PathBuf {
        self.0.join("fetched")
    }

    pub fn has_room(&self, needed: u64) -> Result<(), Box<dyn Error>> {
        let Ok(of) = rustix::fs::statvfs(self.0.as_path()) else {
            return Ok(());
        };
        let room = of.f_bavail.saturating_mul(of.f_frsize);
        if needed > room {
            let place = self.0.parent().unwrap_or(&self.0).display();
            return Err(format!(
                "{needed} bytes are to be fetched, and {place} has room for {room}: give --tmp"
            )
            .into());
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Who cannot remove it has an error message no more use than this.
        let _ = fs::remove_dir_all(&self.0);
    }
}
