//! The recorder's side of a store: what is sealed is told to the mirror, and how it stands with the store to the
//! application. Nothing here waits for the store but [`Stored::drain`], when all is over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::messages;
use super::settings::Settings;
use crate::ids::RecordingId;
use crate::recording::{Recording, Sealed};
use crate::store::{Address, LockMode, Mirror, Options, State, Status};

/// What is not well is told again so often.
const AGAIN: Duration = Duration::from_secs(10);

/// A recorder's part of a mirror.
pub struct Stored {
    mirror: Arc<Mirror>,
    /// So many bytes the spool may hold; none: recordings stay where they are, and only the log goes to a store.
    most: Option<u64>,
    wait: Duration,
    writes: Option<RecordingId>,
    told: Option<(State, Instant)>,
}

/// The local folders that are written to.
pub struct Folders {
    pub location: Option<PathBuf>,
    pub audit_log: Option<PathBuf>,
}

/// Where everything goes: local folders alone, or local folders that a mirror follows.
pub fn open(settings: &Settings) -> Result<(Folders, Option<Stored>), String> {
    let location = address("location", settings.location.as_ref())?;
    let audit_log = address("audit-log", settings.audit_log.as_ref())?;
    let keys = address("key-location", settings.key_location.as_ref())?;
    if location.is_none() {
        let wrong = [
            ("key-location", settings.key_location.is_some()),
            ("store-lock", settings.store_lock.mode().is_some()),
        ]
        .into_iter()
        .find(|(_, is_set)| *is_set);
        if let Some((wrong, _)) = wrong {
            return Err(format!(
                "{wrong} is for recordings in a store: set location to s3://BUCKET/PREFIX"
            ));
        }
    }
    if settings.key_location.is_some() && keys.is_none() {
        return Err("set key-location to a place in a store: s3://BUCKET/PREFIX".to_owned());
    }
    if location.is_none() && audit_log.is_none() {
        let folders = Folders {
            location: settings.location.clone(),
            audit_log: settings.audit_log.clone(),
        };
        return Ok((folders, None));
    }
    let spool = settings.spool.clone().ok_or(
        "set spool to a local directory: what goes to a store is written there first, and stays there while the store \
         is away",
    )?;
    let local = |address: &Option<Address>, setting: &Option<PathBuf>, folder: &str| match address {
        Some(_) => Some(spool.join(folder)),
        None => setting.clone(),
    };
    let folders = Folders {
        location: local(&location, &settings.location, "recordings"),
        audit_log: local(&audit_log, &settings.audit_log, "audit-log"),
    };
    let most = location.is_some().then_some(settings.spool_max_bytes);
    let options = Options {
        spool,
        location,
        keys,
        audit_log,
        lock: settings.store_lock.mode(),
        access: settings.store_credentials.clone(),
    };
    let stored = Stored {
        mirror: Mirror::shared(&options).map_err(|error| error.to_string())?,
        most,
        wait: settings.store_wait,
        writes: None,
        told: None,
    };
    Ok((folders, Some(stored)))
}

fn address(property: &str, value: Option<&PathBuf>) -> Result<Option<Address>, String> {
    let text = value.map(|path| path.to_string_lossy());
    let text = text.filter(|text| Address::is_meant(text));
    let address = text.map(|text| text.parse().map_err(|error| format!("{property}: {error}")));
    address.transpose()
}

impl Stored {
    /// So much of this recording is durable; `sealed` is what became so now.
    pub fn sealed(&mut self, recording: &Recording, sealed: &[Sealed]) {
        if self.most.is_some() {
            self.writes = Some(recording.id());
            let grown = sealed.iter().map(|sealed| sealed.bytes).sum();
            self.mirror
                .sealed(recording.id(), recording.manifest_bytes(), grown);
        }
    }

    /// The recording is written no more.
    pub fn released(&mut self) {
        if let Some(recording) = self.writes.take() {
            self.mirror.released(recording);
        }
    }

    /// Says why nothing more may go into the spool.
    pub fn is_full(&self) -> Option<String> {
        let most = self.most?;
        let holds = self.mirror.spool_bytes();
        let Status { trouble, .. } = (holds >= most).then(|| self.mirror.status())?;
        let why = trouble.unwrap_or_else(|| "the store takes it, but not fast enough".to_owned());
        Some(format!(
            "the spool holds {holds} bytes of recordings, and spool-max-bytes is {most}. What is in it is safe and goes to \
             the store when that takes it ({why}); recording can begin anew when there is room"
        ))
    }

    /// How it stands, and a message where that is news or something is not well for long.
    pub fn news(&mut self, now: Instant) -> (Status, Option<gst::Structure>) {
        let status = self.mirror.status();
        let is_news = match self.told {
            None => status.state != State::Ok || status.uploaded > 0,
            Some((state, _)) if state != status.state => true,
            Some((State::Ok, _)) => false,
            Some((_, told)) => now.saturating_duration_since(told) >= AGAIN,
        };
        let message = is_news.then(|| {
            self.told = Some((status.state, now));
            messages::store(&status)
        });
        (status, message)
    }

    /// Waits at the end for what is not in the store, as long as it may, and says how it stands then.
    pub fn drain(&mut self) -> Status {
        self.mirror.drain(self.wait);
        self.mirror.status()
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.released();
    }
}

impl super::StoreLock {
    /// As the store calls it.
    pub fn mode(self) -> Option<LockMode> {
        match self {
            Self::Bucket => None,
            Self::Governance => Some(LockMode::Governance),
            Self::Compliance => Some(LockMode::Compliance),
        }
    }
}
