//! `gst-compliance export`: a recording for the medical record, as a media file and a FHIR Bundle.

use std::error::Error;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use gst::glib;
use gstcompliance::access::{Opening, Purpose, identities};
use gstcompliance::audit::Text;
use gstcompliance::export::deliver::{Job, deliver, prepare};
use gstcompliance::export::{Paper, Papers, PurposeOfUse, Reference, Server, Wanted, judge, papers};
use gstcompliance::recording::TrackId;

/// Export a recording for the medical record: one Matroska file and a FHIR R4 transaction Bundle about it.
///
/// What leaves is PLAINTEXT. That is what this command is for: from then on whoever has the file answers for it, and
/// nothing here can take it back. It is written for you only (mode 0600), under its name only when it is whole.
///
/// The Bundle has a DocumentReference (with the file's URL, size and hash), Provenance, an AuditEvent, and the Consent.
/// Tracks go as they were recorded, on one clock; Matroska takes all codecs of a recording, MP4 would not.
///
/// First the consent is asked. The recording's own (--consent) must be the one under which it was recorded, and it, or
/// the patient's authorisation (--authorization), must permit `disclose` to this recipient for this purpose now. A
/// refusal stands in the audit log and says what is missing. Then the access is logged, and before the file has its name
/// or anything is sent, the copy: hash, size, destination, recipient, purpose.
///
/// What the patient asks for (--purpose PATRQT) carries the authorisation: the signed request.
///
/// 42 CFR Part 2 (records of substance use treatment, United States) applies with --part2, or where the consent has a
/// label of it (42CFRPart2, ETH, SUD, …). Then what permits must be a FHIR Consent that names patient, recipient,
/// purpose, date, who gave it, and its end; the notice of §2.32 goes along, and a copy of the consent or what explains it
/// (--explanation). This is no legal advice: whether a disclosure is lawful no program can say.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The recording's folder.
    #[arg(value_name = "REC")]
    recording: PathBuf,
    /// Where the Bundle goes: a folder (bundle.json, next to the media file), or the base URL of a FHIR server, to which
    /// it is posted as well.
    #[arg(long, value_name = "DIR|URL")]
    fhir: String,
    /// Folder for the files where --fhir is a URL; it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the media file will be found: this URL with the file's name behind it. Needed where --fhir is a URL, because
    /// the media itself is not sent: copy it there.
    #[arg(long, value_name = "URL")]
    media_url: Option<String>,
    /// File with the server's bearer token (mode 0600).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// CAs (PEM) that the server's certificate must come from, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Your age identity (as age-keygen writes it): that of a recipient of the recording.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// The track, as `verify` numbers it; several times for several. All of them if it is not given.
    #[arg(long, value_name = "N")]
    track: Vec<u32>,
    /// Leave out what is damaged or cut off. Without it a recording that is not whole is not exported.
    #[arg(long)]
    skip_damaged: bool,
    /// Who you are: an opaque id, no name. It stands in the log for good.
    #[arg(long, visible_alias = "by", value_name = "ID")]
    reader: String,
    /// Why you export it. It stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The case that this belongs to. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    ticket: String,
    /// Folder of the audit log that the recording names.
    #[arg(long, value_name = "DIR")]
    audit_log: PathBuf,
    /// Whose recording it is, as the records system names the patient.
    #[arg(long, value_name = "Patient/ID", value_parser = |text: &str| reference(text, &["Patient"]))]
    patient: Reference,
    /// Who gets it, as the consent names them. It stands in the log for good. With PATRQT the patient, if nobody is named.
    #[arg(long, value_name = "REFERENCE", value_parser = |text: &str| reference(text, &WHO))]
    recipient: Option<Reference>,
    /// For what: a code of HL7's v3-ActReason, such as TREAT, PATRQT, HRESCH.
    #[arg(long, value_name = "CODE")]
    purpose: PurposeOfUse,
    /// The encounter that was recorded.
    #[arg(long, value_name = "Encounter/ID", value_parser = |text: &str| reference(text, &["Encounter"]))]
    encounter: Option<Reference>,
    /// Who answers for the document; the recorder if nobody does.
    #[arg(long, value_name = "REFERENCE", value_parser = |text: &str| reference(text, &WHO))]
    author: Option<Reference>,
    /// Who keeps the document.
    #[arg(long, value_name = "Organization/ID", value_parser = |text: &str| reference(text, &["Organization"]))]
    custodian: Option<Reference>,
    /// What kind of document it is, for DocumentReference.type: a code system and a code, such as
    /// http://loinc.org|11488-4.
    #[arg(long = "type", value_name = "SYSTEM|CODE", value_parser = kind)]
    kind: Option<(String, String)>,
    /// The consent under which it was recorded (FHIR R4 Consent, JSON), as it was then.
    #[arg(long, value_name = "FILE")]
    consent: Option<PathBuf>,
    /// What the patient authorises beyond that: a FHIR R4 Consent, which is judged; or a signed document (PDF, JPEG, PNG,
    /// text), for which you vouch. It goes along.
    #[arg(long, value_name = "FILE")]
    authorization: Option<PathBuf>,
    /// A text that explains the scope of the consent, which goes along instead of copies of the consents (42 CFR
    /// §2.32(b) allows either). The consents are judged in any case.
    #[arg(long, value_name = "FILE")]
    explanation: Option<PathBuf>,
    /// 42 CFR Part 2 applies, whatever the consent's labels say.
    #[arg(long)]
    part2: bool,
}

/// Who can act or get something, in R4.
const WHO: [&str; 6] = [
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "RelatedPerson",
    "Organization",
    "Device",
];

fn reference(text: &str, kinds: &[&str]) -> Result<Reference, String> {
    let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
    match kinds.contains(&reference.resource_type()) {
        true => Ok(reference),
        false => Err(format!("refers to none of: {}", kinds.join(", "))),
    }
}

fn kind(text: &str) -> Result<(String, String), String> {
    let parts = text
        .split_once('|')
        .filter(|(system, code)| system.contains(':') && !code.is_empty());
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    match parts {
        Some((system, code)) if is_plain => Ok((system.to_owned(), code.to_owned())),
        _ => Err("is written SYSTEM|CODE, such as http://loinc.org|11488-4".to_owned()),
    }
}

impl Export {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let (folder, server) = self.destination()?;
        let papers = Papers {
            consent: self.consent.as_deref().map(papers::consent).transpose()?,
            authorization: self.authorization.as_deref().map(Paper::load).transpose()?,
            explanation: self.explanation.as_deref().map(papers::explanation).transpose()?,
        };
        let purpose = Purpose::new(&self.reader, &self.reason, &self.ticket)?;
        let keys = identities(&self.identity)?;
        let opening = Opening::prepare(&self.recording, &self.audit_log)?;
        if let Some(shortened) = opening.shortened() {
            if !self.skip_damaged {
                return Err(format!("{shortened}. --skip-damaged exports what is there").into());
            }
            eprintln!("gst-compliance: {shortened}");
        }
        let own = self.purpose.is_patient_s().then_some(&self.patient);
        let recipient = self.recipient.as_ref().or(own);
        let index = opening.index();
        let (started, lasts) = (index.facts().started, index.duration_ns() / 1_000_000);
        let wanted = Wanted {
            reference: index.facts().consent.as_deref(),
            recorded: (started, started.saturating_add(lasts)),
            now: now(),
            zone: zone(),
            purpose: self.purpose,
            patient: &self.patient,
            recipient,
            encounter: self.encounter.as_ref(),
            part2: self.part2,
        };
        let permitted = match judge(&wanted, &papers) {
            Ok(permitted) => permitted,
            Err(refusal) => {
                let reason = Text::lossy(&format!("export for {}: {refusal}", self.purpose));
                opening.refuse(purpose.reader(), reason, now())?;
                return Err(refusal.into());
            }
        };
        prepare(&folder, index.facts().recording)?;
        gst::init()?;
        let by = purpose.reader().clone();
        let tracks = self.track.iter().copied().map(TrackId).collect();
        let (reader, access) = opening.unlock(&keys, &purpose, tracks, now())?;
        let job = Job {
            folder: &folder,
            server: server.as_ref(),
            media_url: self.media_url.as_deref(),
            skip_damaged: self.skip_damaged,
            permitted: &permitted,
            papers: &papers,
            purpose: self.purpose,
            patient: &self.patient,
            recipient,
            encounter: self.encounter.as_ref(),
            author: self.author.as_ref(),
            custodian: self.custodian.as_ref(),
            kind: self
                .kind
                .as_ref()
                .map(|(system, code)| (system.as_str(), code.as_str())),
            by: &by,
        };
        let delivered = deliver(reader, access, &job, &now)?;
        for remark in &permitted.remarks {
            println!("Note: {remark}.");
        }
        if permitted.part2 {
            println!("42 CFR Part 2: the notice goes along, and the consent or its explanation.");
        }
        let made = &delivered.made;
        println!(
            "{}: {} bytes, SHA-256 {}",
            delivered.media.display(),
            made.bytes,
            made.sha256
        );
        if made.damaged > 0 {
            println!("NOT WHOLE: {} damaged members are left out.", made.damaged);
        }
        println!(
            "{}: entry {} of the audit log",
            delivered.bundle.display(),
            delivered.entry
        );
        for taken in &delivered.taken {
            println!("{}: {}", taken.name, taken.location);
        }
        println!("It is plaintext, and yours to protect.");
        Ok(())
    }

    /// The folder for the files, and the server.
    fn destination(&self) -> Result<(PathBuf, Option<Server>), Box<dyn Error>> {
        let is_url = |text: &str| text.contains("://");
        if let Some(base) = &self.media_url
            && (!is_url(base) || base.contains(['?', '#', ' ']))
        {
            return Err(format!("--media-url {base} is no URL that a name can stand behind").into());
        }
        if !is_url(&self.fhir) {
            let only = [
                (self.out.is_some(), "--out"),
                (self.token_file.is_some(), "--token-file"),
                (self.ca_file.is_some(), "--ca-file"),
            ];
            if let Some((_, option)) = only.into_iter().find(|(given, _)| *given) {
                return Err(format!("{option} is for a FHIR server, and --fhir is a folder").into());
            }
            return Ok((PathBuf::from(&self.fhir), None));
        }
        let server = Server::new(&self.fhir, self.token_file.as_deref(), self.ca_file.as_deref())?;
        let out = self
            .out
            .clone()
            .ok_or("--fhir is a URL: say with --out where the files go")?;
        if self.media_url.is_none() {
            return Err("--fhir is a URL: say with --media-url where the media file will be found".into());
        }
        Ok((out, Some(server)))
    }
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds by which this machine's clock is ahead of UTC.
fn zone() -> i32 {
    let zone = glib::DateTime::now_local().map_or(0, |now| now.utc_offset().as_seconds());
    i32::try_from(zone).unwrap_or(0)
}
