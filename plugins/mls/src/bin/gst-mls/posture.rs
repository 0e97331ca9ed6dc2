//! `gst-mls posture`: signed statements about rooms, to make, to check and to read.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gstmls::control::{Query, Reply, Request, ask};
use gstmls::identity::{Fingerprint, read_certificates};
use gstmls::posture::{MAX_FILE, Report, Signed, Verifier, for_people};
use gstmls::text::harmless;

use crate::output::{print, print_json};
use crate::time::now;

/// Signed reports of who can see a room's media: the file that mlskeyring keeps at posture-file.
#[derive(Debug, clap::Subcommand)]
pub enum Posture {
    /// Check a report and print it.
    ///
    /// Needs no connection to anybody: the report, the authority's certificate and this machine's clock are enough.
    Verify {
        /// The report (-: standard input).
        file: PathBuf,
        /// Certificates (PEM) of the authorities that are trusted to name members.
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        /// The report must carry this nonce: it was made after the nonce was chosen.
        #[arg(long)]
        nonce: Option<String>,
        /// The report must be about the room of this name.
        #[arg(long, value_name = "NAME")]
        room: Option<String>,
        /// Print the report for a program, as one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a report WITHOUT checking who made it: one from a file, or a new one from a running pipeline.
    Show {
        /// The report (-: standard input).
        #[arg(required_unless_present = "socket", conflicts_with = "socket")]
        file: Option<PathBuf>,
        /// The control-socket of the mlskeyring in the running pipeline, which makes a new report.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// What a verifier wants to find in the new report.
        #[arg(long, requires = "socket", conflicts_with = "file")]
        nonce: Option<String>,
        /// Print it as JSON with its signature, as in posture-file, for somebody else to verify.
        #[arg(long)]
        json: bool,
    },
}

impl Posture {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Verify {
                file,
                ca,
                nonce,
                room,
                json,
            } => {
                let roots: Vec<_> = read_certificates(&ca)?
                    .iter()
                    .map(|der| Fingerprint::of(der))
                    .collect();
                let verifier = Verifier {
                    roots: &roots,
                    now: now()?,
                    nonce: nonce.as_deref(),
                    room: room.as_deref(),
                };
                let report = read(&file)?.verify(&verifier).map_err(|error| {
                    let file = file.display();
                    format!("{file} is not to be believed: {}", harmless(&error.to_string()))
                })?;
                if json {
                    return print_json(&report);
                }
                show(
                    &report,
                    "GENUINE: signed by the endpoint that it names, and not expired.",
                )
            }
            Self::Show {
                file,
                socket,
                nonce,
                json,
            } => {
                let signed = match (file, socket) {
                    (Some(file), _) => read(&file)?,
                    (None, Some(socket)) => request(&socket, nonce)?,
                    (None, None) => return Err("a file or a socket is needed".into()),
                };
                // Before anything of it is printed: a report that can be read has no text that does more than that.
                let report = signed
                    .unverified()
                    .map_err(|error| harmless(&error.to_string()))?;
                if json {
                    return print(&String::from_utf8_lossy(&signed.encode()));
                }
                show(
                    &report,
                    "NOT CHECKED: gst-mls posture verify says whether to believe this.",
                )
            }
        }
    }
}

fn show(report: &Report, heading: &str) -> Result<(), Box<dyn Error>> {
    print(&format!("{heading}\n\n{}", for_people(report)))
}

fn read(path: &Path) -> Result<Signed, Box<dyn Error>> {
    let most = MAX_FILE as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let path = path.display();
    read.map_err(|error| format!("{path} cannot be read: {error}"))?;
    Ok(Signed::decode(&bytes).map_err(|error| format!("{path}: {}", harmless(&error.to_string())))?)
}

fn request(socket: &Path, nonce: Option<String>) -> Result<Signed, Box<dyn Error>> {
    match ask(socket, &Request::Ask(Query::Posture { nonce }))? {
        Reply::Ok(answer) => Ok(serde_json::from_value(answer)
            .map_err(|_| "the keyring's answer is no posture report: is it of another version?")?),
        Reply::Error(sentence) => Err(harmless(&sentence).into()),
    }
}
