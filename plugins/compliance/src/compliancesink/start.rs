//! READY→PAUSED: what a recorder needs is looked at before the first frame comes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gst_e2ee_common::key_source::{self, KeySource};

use super::admission::Admission;
use super::journal::Journal;
use super::recorder::{Places, Recorder};
use super::report::Report;
use super::session::Session;
use super::settings::Settings;
use super::stored;
use super::worker::Worker;
use crate::bundle::DEALER_FILE;
use crate::recording::Disk;
use crate::signing::PublicKey;

/// Starts a recorder. The error says what is missing.
pub fn start(
    element: &gst::Element,
    settings: &Settings,
    disk: Arc<dyn Disk>,
    report: Report,
) -> Result<(Arc<Session>, Worker), String> {
    let (folders, stored) = stored::open(settings)?;
    let places = places(settings, folders.location)?;
    let source = find_source(element, settings)?;
    let log = folders
        .audit_log
        .ok_or("set audit-log to the directory of the audit log: nothing is recorded that is not logged")?;
    let journal = Journal::open(log, settings.log_unavailable).map_err(|error| error.to_string())?;
    let admission = Admission::new(settings.require_room, source);
    let session = Arc::new(Session::new(settings, admission));
    let recorder = Recorder::new(session.clone(), places, journal, stored, disk, report);
    let worker = Worker::start(session.clone(), recorder)?;
    Ok((session, worker))
}

fn places(settings: &Settings, location: Option<PathBuf>) -> Result<Places, String> {
    let location = location.ok_or("set location to the directory for recordings")?;
    fs::create_dir_all(&location).map_err(|error| format!("location {}: {error}", location.display()))?;
    let keys = settings
        .keys
        .clone()
        .ok_or("set keys to the directory of key bundles (gst-compliance keys prepare makes some)")?;
    let dealer_file = settings.dealer.clone().unwrap_or_else(|| keys.join(DEALER_FILE));
    Ok(Places {
        dealer: dealer(&dealer_file)?,
        location,
        keys,
        consent: settings.consent_file.clone(),
        retention: settings.retention,
    })
}

fn dealer(path: &Path) -> Result<PublicKey, String> {
    let named = |error: &dyn std::fmt::Display| {
        format!(
            "the dealer's public key {}: {error}. gst-compliance keys prepare writes it beside the key bundles; the \
             property dealer names it elsewhere",
            path.display()
        )
    };
    let text = fs::read_to_string(path).map_err(|error| named(&error))?;
    text.trim_end().parse().map_err(|error| named(&error))
}

/// The key source, where one is given or a room is required.
fn find_source(element: &gst::Element, settings: &Settings) -> Result<Option<KeySource>, String> {
    let id = &settings.keyring;
    let found = match settings.key_source.clone() {
        Some(object) => KeySource::new(object).map(Some),
        None => key_source::find(element, id),
    };
    let found = found.map_err(|error| format!("the keyring \"{id}\" is not a usable key source: {error}"))?;
    if found.is_none() && settings.require_room {
        return Err(format!(
            "there is no room to record: put mlskeyring into the pipeline, or give a key source by the property \
             key-source or by the context gst.sframe.keyring/{id}. Tests without a room set require-room=false"
        ));
    }
    Ok(found)
}

/// Folder names that can be recordings.
pub fn recordings(location: &Path, disk: &dyn Disk) -> Vec<PathBuf> {
    let names = disk.list(location).unwrap_or_default();
    let is_recording = |name: &String| name.parse::<crate::ids::RecordingId>().is_ok();
    names
        .iter()
        .filter(|name| is_recording(name))
        .map(|name| location.join(name))
        .collect()
}
