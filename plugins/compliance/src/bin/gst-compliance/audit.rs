//! `gst-compliance audit`: the audit log, to verify, read, sign and anchor.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use gstcompliance::audit::{
    AnchorError, Anchored, Entry, FolderError, InclusionProof, Item, Kind, Log, LogError, Note, NoteError,
    ProofError, Reader, Report, Request, VerifierKey, VerifyError, VerifyOptions, Witness, WitnessError,
    anchor, named_key, seen_by, verify,
};
use gstcompliance::ids::RecordingId;
use gstcompliance::signing::PublicKey;
use serde_json::json;

use super::clock::date;
use super::who::Who;

use crate::stored::{self, Store};

/// Longest file that is read whole, in bytes: proofs, requests, notes.
const MAX_FILE: u64 = 64 << 10;

/// The audit log: who recorded what, who opened it, when and why.
///
/// A LOG is the folder that compliancesink's audit-log names.
#[derive(Debug, clap::Subcommand)]
pub enum Audit {
    /// Check that a log is whole and unchanged, or say which entry is not, and up to where that is proved by whom.
    ///
    /// Ends with 0 where nothing is wrong, with 1 where something is. Needs no secret.
    ///
    /// With a proof instead of a LOG (made by `audit prove`): check that its entry is in the log of --key, and print it.
    Verify {
        /// The log's folder, s3://BUCKET/PREFIX of a log in a store, or a file with a proof (-: standard input).
        #[arg(value_name = "LOG|PROOF")]
        log: PathBuf,
        /// The log's public key (64 hex digits), known from elsewhere: from a recording's recording.json. Without it a
        /// log that was forged as a whole, key and all, looks genuine.
        #[arg(long, value_name = "HEX")]
        key: Option<PublicKey>,
        /// A witness that you trust: its folder, or the content of its file vkey. Its folder is better: it tells of a
        /// log that became shorter since. May be given several times.
        #[arg(long, value_name = "DIR|VKEY")]
        witness: Vec<String>,
        /// A checkpoint of this log that you kept: the log must still contain what it covers. May be given several
        /// times.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// Print the report for a program, as one line of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: Store,
    },
    /// Print what a log says, WITHOUT checking whether it is to be believed: `audit verify` does.
    Show {
        /// The log's folder.
        log: PathBuf,
        /// Only entries about this recording.
        #[arg(long, value_name = "ID")]
        recording: Option<RecordingId>,
        /// Only entries of this kind (`started`, `access-opened`, …). May be given several times.
        #[arg(long, value_name = "KIND")]
        kind: Vec<String>,
        /// Only the last so many.
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Print entries for a program, one line of JSON each.
        #[arg(long)]
        json: bool,
    },
    /// Print who could open which recording from when to when, as a log says, WITHOUT checking whether it is to be believed:
    /// `audit verify` does.
    ///
    /// Recipients and custodians are named by their fingerprints: of a recipient, `printf %s age1… | sha256sum`.
    Who(Who),
    Fhir(crate::audit_fhir::Fhir),
    /// Sign all that is in a log and print the signed checkpoint. Keep it elsewhere: `audit verify --checkpoint` then
    /// tells whether the log still contains what it covers.
    ///
    /// Needs the log's private key. A running recorder need not be stopped.
    Checkpoint {
        /// The log's folder.
        log: PathBuf,
    },
    /// Print a proof that an entry is in a log, for whoever knows the log's public key and does not have the log.
    ///
    /// Needs the log's private key where the entry is not signed yet. The proof contains the entry.
    Prove {
        /// The log's folder.
        log: PathBuf,
        /// The entry's number, as `audit show` prints it.
        #[arg(value_name = "N")]
        entry: u64,
    },
    /// Let a witness cosign a log: what is anchored cannot be changed or cut off unseen any more, not even by whoever
    /// holds the log's key.
    ///
    /// A witness that lies on the log's own machine proves little. With one on another machine:
    ///
    ///   gst-compliance audit anchor LOG --witness VKEY --request |
    ///     ssh WITNESS gst-compliance audit witness DIR |
    ///     gst-compliance audit anchor LOG --witness VKEY --add -
    #[command(verbatim_doc_comment)]
    Anchor(Anchor),
    /// Be a witness: read a request on standard input, and print the cosignature where the log only grew since the last
    /// time. A log that became shorter or another one is refused, and that is the alarm.
    ///
    /// Make a witness on another machine, run by somebody else than the recorder:
    ///
    ///   gst-compliance audit witness DIR --new
    ///   gst-compliance audit witness DIR --log VKEY      once for each log, with the content of its file vkey
    #[command(verbatim_doc_comment)]
    Witness {
        /// The witness's folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Make a witness, and print its public key: it is what verifiers trust.
        #[arg(long)]
        new: bool,
        /// Make a log known to the witness, by its public key.
        #[arg(long, value_name = "VKEY", conflicts_with = "new")]
        log: Option<VerifierKey>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Anchor {
    /// The log's folder.
    log: PathBuf,
    /// The witness: its folder, or the content of its file vkey where it is on another machine.
    #[arg(long, value_name = "DIR|VKEY")]
    witness: String,
    /// Print what the witness needs, for `audit witness` on its machine.
    #[arg(long, conflicts_with = "add")]
    request: bool,
    /// How many entries the witness saw before, where the log does not know it: the witness's error says it.
    #[arg(long, value_name = "N", requires = "request")]
    known: Option<u64>,
    /// The witness's answer, to be kept in the log (-: standard input).
    #[arg(long, value_name = "FILE")]
    add: Option<PathBuf>,
    /// Print the result for a program, as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Why a command did not do what it was asked, or what it found.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A command line that cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The report is printed already.
    #[error("{0} is NOT INTACT")]
    NotIntact(PathBuf),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log, from outside.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The log's file.
    #[error("audit log {0}")]
    Folder(#[from] FolderError),
    /// The witness.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// One of the two.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// A proof.
    #[error("{path}: {error}")]
    Proof {
        /// Where it is from.
        path: PathBuf,
        /// Why it proves nothing.
        error: ProofError,
    },
    /// A checkpoint or an answer.
    #[error("{path} {error}")]
    Note {
        /// Where it is from.
        path: PathBuf,
        /// Why it is none.
        error: NoteError,
    },
    /// A log in a store.
    #[error("{0}")]
    Store(String),
    /// Everything that could be read is printed.
    #[error("audit log {0} has entries that cannot be read: gst-compliance audit verify says which")]
    Unreadable(PathBuf),
    /// There is none of this number.
    #[error("audit log {0} has no entry {1}")]
    NoEntry(PathBuf, u64),
    /// Something that cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

impl AuditError {
    /// What the command ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

impl Audit {
    pub fn run(self) -> Result<(), AuditError> {
        match self {
            Self::Verify {
                log,
                key,
                witness,
                checkpoint,
                json,
                store,
            } if log.is_dir() || stored::is_store(&log) => {
                let mut options = VerifyOptions {
                    key,
                    ..VerifyOptions::default()
                };
                let (name, mut findings) = (log, Vec::new());
                let fetched = match stored::is_store(&name) {
                    true => {
                        let failed = |error: Box<dyn std::error::Error>| AuditError::Store(error.to_string());
                        let fetched = stored::address(&name).and_then(|address| store.log(&address));
                        let fetched = fetched.map_err(failed)?;
                        // Those that were signed before: who holds the key could have signed another past since.
                        options.seen.extend(fetched.seen);
                        findings = fetched.findings;
                        Some(fetched.temporary)
                    }
                    false => None,
                };
                let log = fetched
                    .as_ref()
                    .map_or_else(|| name.clone(), stored::Temporary::folder);
                for witness in &witness {
                    trust(witness, &log, &mut options)?;
                }
                for path in &checkpoint {
                    let note = Note::parse(&read(path)?);
                    let path = path.to_owned();
                    options
                        .seen
                        .push(note.map_err(|error| AuditError::Note { path, error })?);
                }
                let verified = verify_log(&log, &options, json);
                drop(fetched);
                if !json {
                    findings
                        .iter()
                        .try_for_each(|finding| print(&format!("  ! {finding}\n")))?;
                }
                match verified {
                    Err(AuditError::NotIntact(_)) => Err(AuditError::NotIntact(name)),
                    Ok(()) if !findings.is_empty() => Err(AuditError::NotIntact(name)),
                    verified => verified,
                }
            }
            Self::Verify { log, key, json, .. } => {
                let key = key.ok_or_else(|| {
                    let hint = "to verify a proof, say whose log it must be from: --key";
                    AuditError::Usage(format!("{} is no folder; {hint}", log.display()))
                })?;
                verify_proof(&log, &key, json)
            }
            Self::Show {
                log,
                recording,
                kind,
                last,
                json,
            } => {
                let wanted = |entry: &Entry| {
                    recording.is_none_or(|recording| entry.recording == Some(recording))
                        && (kind.is_empty() || kind.iter().any(|kind| kind == entry.event.kind()))
                };
                show(&log, wanted, last, json)
            }
            Self::Who(who) => who.run(),
            Self::Fhir(fhir) => fhir.run(),
            Self::Checkpoint { log } => print(&Log::open_existing(&log)?.checkpoint()?),
            Self::Prove { log, entry } => print(&Log::open_existing(&log)?.inclusion(entry)?.to_string()),
            Self::Anchor(anchor) => anchor.run(),
            Self::Witness { folder, new, log } => be_witness(&folder, new, log.as_ref()),
        }
    }
}

/// The witness's key, where it is given instead of a folder.
fn witness_key(witness: &str) -> Result<Option<VerifierKey>, AuditError> {
    match witness.trim().parse::<VerifierKey>() {
        Ok(key) if key.kind() == Kind::Witness => Ok(Some(key)),
        Ok(_) => Err(AuditError::Usage(format!(
            "{witness} is a log's key, not a witness's"
        ))),
        // A key that was not copied whole would be a strange folder.
        Err(error) if witness.contains('+') && !Path::new(witness).exists() => {
            Err(AuditError::Usage(format!("{witness} {error}")))
        }
        Err(_) => Ok(None),
    }
}

/// Adds a witness, and what it saw of the log where that is known.
pub(super) fn trust(witness: &str, log: &Path, options: &mut VerifyOptions) -> Result<(), AuditError> {
    if let Some(key) = witness_key(witness)? {
        options.witnesses.push(key);
        return Ok(());
    }
    // Whose log it is comes from the verifier if possible: what the folder says may be forged.
    let log = match options.key {
        Some(key) => VerifierKey::named(Kind::Log, key),
        None => named_key(log)?,
    };
    let (key, latest) = seen_by(Path::new(witness), &log)?;
    options.seen.extend(latest);
    options.witnesses.push(key);
    Ok(())
}

fn verify_log(log: &Path, options: &VerifyOptions, json: bool) -> Result<(), AuditError> {
    let report = verify(log, options)?;
    if json {
        let mut object = serde_json::to_value(&report)
            .map_err(io::Error::from)
            .map_err(output)?;
        if let Some(object) = object.as_object_mut() {
            object.insert("intact".to_owned(), report.is_intact().into());
        }
        print(&format!("{object}\n"))?;
    } else {
        print(&for_people(&report, options))?;
    }
    if report.is_intact() {
        Ok(())
    } else {
        Err(AuditError::NotIntact(log.to_owned()))
    }
}

/// `entries 5 to 7`.
fn range(from: u64, to: u64) -> String {
    match to.saturating_sub(from) {
        0 => "none".to_owned(),
        1 => format!("entry {from}"),
        _ => format!("entries {from} to {}", to - 1),
    }
}

fn for_people(report: &Report, options: &VerifyOptions) -> String {
    let mut text = if report.is_intact() {
        "INTACT: nothing is missing, changed or out of order, as far as the lines below say.\n"
    } else {
        "NOT INTACT\n"
    }
    .to_owned();
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {value}\n"));
    line("log", report.origin.clone());
    let pinned = if report.pinned {
        "as you said"
    } else {
        "as the log itself says: compare it with a recording's recording.json, or give --key"
    };
    line("key", format!("{} ({pinned})", report.key));
    line("entries", format!("{} ({} bytes)", report.entries, report.bytes));
    let anchored = if options.witnesses.is_empty() {
        "none: no witness was named (--witness)".to_owned()
    } else {
        let sure = "a witness saw them: nobody can have changed or removed any since";
        match report.anchored {
            0 => "none: no witness that was named cosigned what is here".to_owned(),
            anchored => format!("{}: {sure}", range(0, anchored)),
        }
    };
    line("anchored", anchored);
    let signed = report.signed.max(report.anchored);
    if signed > report.anchored {
        line(
            "unanchored",
            format!(
                "{}: signed by the log alone; whoever holds its key could have changed them or cut them off",
                range(report.anchored, signed)
            ),
        );
    }
    if report.entries > signed {
        let what = if report.is_intact() {
            "not signed yet; whoever can write the file could have changed them or cut more off"
        } else {
            "not proved by any signature"
        };
        line("unsigned", format!("{}: {what}", range(signed, report.entries)));
    }
    for anchor in &report.anchors {
        let (witness, time) = (&anchor.witness, date(anchor.time.saturating_mul(1000)));
        let holds = if anchor.holds {
            ""
        } else {
            ", which is NOT what is here"
        };
        line(
            "cosigned",
            format!("{} entries by {witness} at {time}{holds}", anchor.entries),
        );
    }
    for witness in &report.unknown_witnesses {
        line(
            "ignored",
            format!("a cosignature of {witness}, which you did not name"),
        );
    }
    if options.seen.is_empty() {
        line(
            "not known",
            "whether the log as a whole was put back to an older state: a witness's folder or a kept checkpoint tells"
                .to_owned(),
        );
    }
    for damage in &report.damages {
        text.push_str(&format!("  ! {damage}\n"));
    }
    if report.more_damages > 0 {
        text.push_str(&format!("  ! and {} more\n", report.more_damages));
    }
    text
}

fn verify_proof(path: &Path, key: &PublicKey, json: bool) -> Result<(), AuditError> {
    let proof = InclusionProof::parse(&read(path)?);
    let proof = proof.map_err(|error| AuditError::Proof {
        path: path.to_owned(),
        error,
    })?;
    let (entry, checkpoint) = proof.verify(key).map_err(|error| AuditError::Proof {
        path: path.to_owned(),
        error,
    })?;
    if json {
        return print(&format!(
            "{}\n",
            json!({ "index": proof.index, "size": checkpoint.size, "origin": checkpoint.origin, "entry": entry })
        ));
    }
    print(&format!(
        "PROVED: this entry is in the log {}, which had {} entries.\n{}",
        checkpoint.origin,
        checkpoint.size,
        entry_for_people(proof.index, &entry)
    ))
}

fn show(
    log: &Path,
    wanted: impl Fn(&Entry) -> bool,
    last: Option<usize>,
    json: bool,
) -> Result<(), AuditError> {
    if !json {
        print("NOT CHECKED: gst-compliance audit verify says whether to believe this.\n")?;
    }
    let mut lines = std::collections::VecDeque::new();
    for item in Reader::open(log)? {
        let line = match item? {
            Item::Entry {
                index,
                entry: Ok(entry),
                ..
            } if wanted(&entry) => {
                if json {
                    format!("{}\n", json!({ "index": index, "entry": entry }))
                } else {
                    entry_for_people(index, &entry)
                }
            }
            Item::Entry { entry: Ok(_), .. } => continue,
            Item::Entry {
                index,
                entry: Err(error),
                ..
            } if json => format!("{}\n", json!({ "index": index, "error": error.to_string() })),
            Item::Entry {
                index,
                entry: Err(error),
                ..
            } => format!("{index:>6}  ! {error}\n"),
            Item::Damage(damage) if json => format!("{}\n", json!({ "damage": damage })),
            Item::Damage(damage) => format!("        ! {damage}\n"),
        };
        match last {
            None => print(&line)?,
            Some(last) => {
                lines.push_back(line);
                if lines.len() > last {
                    lines.pop_front();
                }
            }
        }
    }
    lines.iter().try_for_each(|line| print(line))
}

/// One line: when, which recording, what, and its fields as `name=value`.
fn entry_for_people(index: u64, entry: &Entry) -> String {
    let recording = entry
        .recording
        .map_or_else(|| "-".repeat(32), |recording| recording.to_string());
    let mut text = format!(
        "{index:>6}  {}  {recording}  {}",
        date(entry.time),
        entry.event.kind()
    );
    let fields = serde_json::to_value(&entry.event).unwrap_or_default();
    for (name, value) in fields[entry.event.kind()].as_object().into_iter().flatten() {
        let value = match value {
            serde_json::Value::String(word) if !word.contains([' ', '"']) => word.clone(),
            value => value.to_string(),
        };
        // Writing to a string does not fail.
        let _ = write!(text, " {name}={value}");
    }
    text.push('\n');
    text
}

impl Anchor {
    fn run(self) -> Result<(), AuditError> {
        let key = witness_key(&self.witness)?;
        let witness = match key {
            Some(_) => None,
            None => Some(Witness::open(Path::new(&self.witness))?),
        };
        let key = key.as_ref().or(witness.as_ref().map(Witness::verifier_key));
        let log = Log::open_existing(&self.log)?;
        let anchored = match (key, &witness, &self.add) {
            (Some(key), ..) if self.request => {
                let known = match self.known {
                    Some(known) => known,
                    None => log.anchored(key)?.map_or(0, |note| note.unverified().size),
                };
                return print(&log.request(known)?.to_string());
            }
            (Some(key), _, Some(answer)) => add(&log, answer, key)?,
            (_, Some(witness), None) => anchor(&log, witness)?,
            _ => {
                let what =
                    "a witness on another machine is asked by --request, and its answer is kept by --add";
                return Err(AuditError::Usage(what.to_owned()));
            }
        };
        let Anchored { witness, size, time } = anchored;
        if self.json {
            return print(&format!(
                "{}\n",
                json!({ "witness": witness, "entries": size, "time": time })
            ));
        }
        let time = date(time.saturating_mul(1000));
        print(&format!(
            "Anchored: {size} entries, cosigned by {witness} at {time}.\n"
        ))
    }
}

/// Keeps a witness's answer: the checkpoint that it was asked about, with its cosignature.
fn add(log: &Log, path: &Path, witness: &VerifierKey) -> Result<Anchored, AuditError> {
    let note = Note::parse(&read(path)?).map_err(|error| AuditError::Note {
        path: path.to_owned(),
        error,
    })?;
    let (size, time) = log.add_cosignature(&note, witness)?;
    Ok(Anchored {
        witness: witness.name().to_owned(),
        size,
        time,
    })
}

fn be_witness(folder: &Path, new: bool, log: Option<&VerifierKey>) -> Result<(), AuditError> {
    if new {
        let witness = Witness::create(folder)?;
        return print(&format!("{}\n", witness.verifier_key()));
    }
    let witness = Witness::open(folder)?;
    if let Some(log) = log {
        witness.admit(log)?;
        return print(&format!("Known from now on: {}\n", log.name()));
    }
    let stdin = Path::new("-");
    let request =
        Request::parse(&read(stdin)?).map_err(|error| AuditError::Usage(format!("the input {error}")))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_err(|error| AuditError::Io("the clock".into(), io::Error::other(error)))?;
    let line = witness.cosign(&request, now.as_secs())?;
    let mut note = request.note;
    note.add(line);
    print(&note.to_string())
}

/// A file's text (-: standard input).
fn read(path: &Path) -> Result<String, AuditError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MAX_FILE).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(AuditError::Io(path.to_owned(), error)),
    }
}

/// Prints text. Whoever reads only its beginning (`| head`) does no wrong.
pub fn print(text: &str) -> Result<(), AuditError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(output(error)),
        _ => Ok(()),
    }
}

fn output(error: io::Error) -> AuditError {
    AuditError::Io("standard output".into(), error)
}
