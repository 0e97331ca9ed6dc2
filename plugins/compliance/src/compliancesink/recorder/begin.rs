//! How a recording begins: under a key bundle of its own, or where a crash left one of the same room.

use std::path::Path;

use gst_e2ee_common::room_state::RoomState;

use super::{Fault, Recorder, facts};
use crate::attestation::{Attestation, PURPOSE};
use crate::audit::Event;
use crate::audit::entry::Cut;
use crate::bundle::{Bundle, BundleError, take_next};
use crate::compliancesink::admission::unix_ms;
use crate::compliancesink::journal::id;
use crate::compliancesink::stored::Stored;
use crate::compliancesink::{messages, start};
use crate::gate::Refusal;
use crate::ids::RecordingId;
use crate::recording::facts::{Attest, MAX_FILE};
use crate::recording::{
    Claim, Facts, KeyHolders, Left, RECORDING_FILE, Recording, RecordingError, Recovery, Resume, Start,
};

impl Recorder {
    /// Once it is known which room this is, goes on with the recording of it that a crash left without an end. What is
    /// torn is cut; media comes in only when all gates agree.
    pub(super) fn recover(&mut self) -> Result<(), Fault> {
        if self.has_recovered {
            return Ok(());
        }
        let room = self.session.admission.room();
        let room_id = room.as_ref().and_then(|room| room.room_id.clone());
        if room_id.is_none() && self.session.admission.require_room() {
            return Ok(());
        }
        self.has_recovered = true;
        for path in start::recordings(&self.places.location, &*self.disk) {
            let Some(facts) = self.left_of(&path, room_id.as_deref()) else {
                continue;
            };
            match self.resume(&path, &facts)? {
                Ok((recording, recovery, of)) => {
                    self.report_recovery(&recording, &recovery)?;
                    self.session
                        .admission
                        .readers(facts::readers(&of.recipients, of.escrow.as_ref()));
                    self.recovered = Some(recovery.last_ns);
                    self.recording = Some(recording);
                    self.tell_mirror(&[]);
                    return Ok(());
                }
                // Another recorder of this machine is at it, or it has ended in the meantime.
                Err(RecordingError::InUse(_) | RecordingError::Ended(_)) => {}
                // It stays as it is, for gst-compliance verify to tell of; this call gets a recording of its own.
                Err(error) => self.report.warning(&error.to_string()),
            }
        }
        Ok(())
    }

    /// Goes on with a recording that nobody else writes. The log is asked for those only: most that have no end are under
    /// way.
    fn resume(
        &mut self,
        path: &Path,
        facts: &Facts,
    ) -> Result<Result<(Recording, Recovery, KeyHolders), RecordingError>, Fault> {
        let left = match Left::lock(path, self.journal.signer(), self.disk.clone()) {
            Ok(left) => left,
            Err(error) => return Ok(Err(error)),
        };
        let resume = Resume {
            time: unix_ms(),
            known: self.journal.known_root(facts.recording)?,
        };
        // They may be others than it was begun for: its key can have been wrapped to others since.
        let holders = match self.holders(path, facts)? {
            Ok(holders) => holders,
            Err(error) => return Ok(Err(error)),
        };
        let resumed = left.resume(resume);
        Ok(resumed.map(|(recording, recovery)| (recording, recovery, holders)))
    }

    /// Who holds the key of a recording that was left.
    fn holders(&mut self, path: &Path, facts: &Facts) -> Result<Result<KeyHolders, RecordingError>, Fault> {
        let rewraps = self.journal.known_rewraps(facts.recording)?;
        let damaged = |why: String| RecordingError::Damaged {
            path: path.to_owned(),
            why,
        };
        let Some((_, file)) = self.read_facts(path) else {
            return Ok(Err(damaged(format!("{RECORDING_FILE} cannot be read"))));
        };
        let holders = KeyHolders::read(path, facts, &file, rewraps);
        Ok(holders.map_err(|error| damaged(error.to_string())))
    }

    /// The facts of a recording of this room and this audit log that has no end.
    fn left_of(&self, path: &Path, room: Option<&str>) -> Option<Facts> {
        if crate::recording::is_finished(path, &*self.disk).unwrap_or(true) {
            return None;
        }
        self.read_facts(path)
            .map(|(facts, _)| facts)
            .filter(|facts| facts.room.as_deref() == room && facts.log_key == self.journal.key())
    }

    /// The facts, and the file that they are read from.
    fn read_facts(&self, path: &Path) -> Option<(Facts, Vec<u8>)> {
        let mut file = self.disk.open(&path.join(RECORDING_FILE)).ok()?;
        let length = file.length().ok().filter(|length| *length <= MAX_FILE)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        let read = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(read);
        Facts::decode(&bytes).ok().map(|(facts, _)| (facts, bytes))
    }

    fn report_recovery(&mut self, recording: &Recording, recovery: &Recovery) -> Result<(), Fault> {
        self.journal.set_recording(recording.id());
        self.report.recording(recording.id());
        let number = |tar: &str| tar.split('-').next().and_then(|number| number.parse().ok());
        self.journal.note(Event::Recovered {
            lines: recovery.root.lines,
            root: recovery.root.root,
            at_ns: recovery.last_ns,
            cuts: recovery
                .cuts
                .iter()
                .filter_map(|cut| {
                    Some(Cut {
                        track: number(&cut.tar)?,
                        bytes: cut.bytes,
                    })
                })
                .collect(),
        });
        self.flush()
    }

    /// All gates agree but that there are no keys: takes a bundle and begins the recording.
    pub(super) fn take_keys(&mut self) -> Result<(), Fault> {
        if let Some(full) = self.stored.as_ref().and_then(Stored::is_full) {
            // It passes when the store comes back; no key is wasted meanwhile.
            if self.spool_trouble.replace(full.clone()).is_none() {
                self.report.post(messages::paused(None, "spool-full", &full));
            }
            return Ok(());
        }
        self.spool_trouble = None;
        let room = self.session.admission.room();
        let fits = |bundle: &Bundle| facts::fits(bundle, room.as_ref());
        match take_next(&self.places.keys, Some(self.places.dealer), &fits) {
            Ok(bundle) => {
                self.keys_trouble = None;
                self.begin(&bundle, room.as_ref())
            }
            Err(error) => {
                self.no_keys(&error);
                Ok(())
            }
        }
    }

    fn no_keys(&mut self, error: &BundleError) {
        let trouble = error.to_string();
        if self.keys_trouble.as_ref() != Some(&trouble) {
            self.report
                .post(messages::paused(None, Refusal::NoKeys.nick(), &trouble));
            self.keys_trouble = Some(trouble);
        }
    }

    fn begin(&mut self, bundle: &Bundle, room: Option<&RoomState>) -> Result<(), Fault> {
        let claim = facts::claim(room);
        let start = Start {
            time: unix_ms(),
            room: room.and_then(|room| room.room_id.clone()),
            recorder: facts::recorder(room).map(|(subject, _)| subject),
            policy: room.and_then(|room| room.policy_digest.as_ref()?.parse().ok()),
            claim,
            consent: room.and_then(|room| room.consent.clone()),
            retention_days: facts::retention_days(self.places.retention, room),
            attest: (claim != Claim::Unattested).then(|| self.attest(room)),
        };
        self.note_start(bundle, &start, room);
        // In the log before there is a recording. A recording that could not be made is in it with its failure.
        self.flush()?;
        let (location, signer) = (&self.places.location, self.journal.signer());
        let recording = Recording::create(location, bundle, start, signer, self.disk.clone())?;
        self.report.recording(recording.id());
        self.recording = Some(recording);
        self.tell_mirror(&[]);
        self.session
            .admission
            .readers(facts::readers(bundle.recipients(), bundle.escrow()));
        Ok(())
    }

    /// The certified key's word for the audit log's key.
    fn attest(&self, room: Option<&RoomState>) -> Attest {
        let source = self.session.admission.source().cloned();
        let certificates = room.map(|room| room.certificates.clone()).unwrap_or_default();
        Box::new(move |bytes| {
            if certificates.is_empty() {
                return Err("the key source shows no certificate of the recorder".to_owned());
            }
            let signature = source.and_then(|source| source.sign(PURPOSE, bytes));
            let attestation = signature.and_then(|signature| Attestation::new(certificates, &signature));
            attestation.ok_or_else(|| {
                "the key source does not sign for the recorder, so nobody would vouch for the recording"
                    .to_owned()
            })
        })
    }

    fn note_start(&mut self, bundle: &Bundle, start: &Start, room: Option<&RoomState>) {
        let recording: RecordingId = bundle.id();
        self.journal.set_recording(recording);
        let unattested = || "unattested".to_owned();
        let recorder = id(&start.recorder.clone().unwrap_or_else(unattested));
        let room_id = id(&start.room.clone().unwrap_or_else(unattested));
        let epoch = room.map_or(0, |room| room.epoch);
        if let (Some(recorder), Some(room_id)) = (recorder, room_id) {
            self.journal
                .note(facts::recorder(room).map(|(_, certificate)| Event::RecorderIn {
                    recorder: recorder.clone(),
                    certificate,
                    epoch,
                }));
            self.journal.note(Event::Started {
                recorder,
                room: room_id,
                epoch,
                claim: facts::logged_claim(start.claim),
                policy: start.policy,
                consent: facts::reference(room),
                recipients: bundle.recipients().to_vec(),
                custodians: facts::custodians(bundle.escrow()),
                retention_days: start.retention_days,
            });
        }
        self.journal.note(facts::consent(None, room));
    }
}
