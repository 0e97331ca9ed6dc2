//! `gst-mls backup`: an endpoint's enrolment, encrypted to people who can restore it.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use gst_e2ee_common::age_file::{self, NotARecipient, Recipient};
use gstmls::control::Query;
use gstmls::enrolment::Enrolment;
use gstmls::identity::{complete, read_certificates};
use gstmls::room::Status;

use crate::files::{self, NewFile, PRIVATE};
use crate::output::print;
use crate::room::Target;
use crate::time::now;

/// Longest file of recipients, in bytes.
const MAX_RECIPIENTS_FILE: u64 = 64 << 10;

/// Save an endpoint's enrolment in a room, encrypted to age recipients, for when its device is lost.
///
/// Enrolment: the room's name, its delivery, its policy as the endpoint sees it now, the authorities' certificates,
/// and what to ask the authority for (subject id, operator, roles, fingerprint of the certificate). Nothing in it is a
/// key or lets anybody into a room: `gst-mls restore` makes a new key and needs a new certificate. So one backup is
/// enough for as long as the certificate and the room's address stay the same.
///
/// Example (recovery.txt is for restoring, and to be kept away from the device):
///
///   age-keygen -o recovery.txt
///   age-keygen -y recovery.txt > recipients
///   gst-mls backup --socket ben/control --certificate ben/cert.pem --ca ben/ca.pem --to recipients --out ben.age
///
/// The file is an age file of version 1: `age -d -i recovery.txt ben.age` prints the enrolment as JSON.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Backup {
    #[command(flatten)]
    target: Target,
    /// certificate-file of the same mlskeyring (PEM).
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// ca-file of the same mlskeyring (PEM).
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Who can open the backup, each alone: recipients of age (age1…), or files with one on each line.
    #[arg(long, required = true, num_args = 1.., value_name = "RECIPIENT|FILE")]
    to: Vec<String>,
    /// The backup, a file that only its owner may read.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write over a backup that is already there.
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let mut recipients = Vec::new();
        for word in &self.to {
            recipients.extend(read_recipients(word)?);
        }
        let roots = read_certificates(&self.ca)?;
        let now = now()?;
        let (_, own) = complete(&read_certificates(&self.certificate)?, &roots, now).map_err(|error| {
            let [certificate, ca] = [&self.certificate, &self.ca].map(|path| path.display());
            format!("{certificate} does not hold against {ca}: {error}")
        })?;
        let status: Status = self.target.answer(Query::Status)?;
        let delivery: String = self.target.answer(Query::Delivery)?;
        let enrolment = Enrolment::new(&status, &delivery, &own, &roots, now)?;

        let file = age_file::seal(&recipients, &enrolment.encode()?, 0)?;
        let backup = NewFile {
            path: self.out.clone(),
            content: &file,
            mode: PRIVATE,
        };
        files::create(&[backup], self.force)?;
        let readers = gstmls::text::plural(recipients.len(), "recipient");
        let out = self.out.display();
        print(&format!(
            "Saved the enrolment of {} in room {} to {out}, for {readers}. There is no key in it.\n\
             To be denied if this device is lost: {}\n",
            own.subject, enrolment.room, own.fingerprint
        ))
    }
}

/// A recipient, or those in a file.
fn read_recipients(word: &str) -> Result<Vec<Recipient>, Box<dyn Error>> {
    match age_file::recipient(word) {
        Ok(recipient) => return Ok(vec![recipient]),
        // What was meant as a recipient is not looked for as a file. A private key is not repeated.
        Err(error @ NotARecipient::Private) => return Err(format!("what stands behind --to {error}").into()),
        Err(error) if word.starts_with("age1") => return Err(format!("{word} {error}").into()),
        Err(_) => {}
    }
    let mut text = String::new();
    File::open(word)
        .and_then(|file| file.take(MAX_RECIPIENTS_FILE + 1).read_to_string(&mut text))
        .map_err(|error| format!("{word} is no age recipient, and as a file it cannot be read: {error}"))?;
    if text.len() as u64 > MAX_RECIPIENTS_FILE {
        return Err(format!("{word} has more than {MAX_RECIPIENTS_FILE} bytes").into());
    }
    let lines = text.lines().map(str::trim).enumerate();
    let found: Result<Vec<_>, String> = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(place, line)| {
            age_file::recipient(line).map_err(|error| format!("{word}: line {} {error}", place + 1))
        })
        .collect();
    let found = found?;
    if found.is_empty() {
        return Err(format!("{word} names no recipient: nobody could open the backup").into());
    }
    Ok(found)
}
