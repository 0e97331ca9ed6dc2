//! `gst-mls restore`: what a new device needs to take the place of a lost one, and what a person has to do for it.

use std::error::Error;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use gst_e2ee_common::age_file;
use gstmls::enrolment::{Certified, Enrolment, MAX_ENCODED};
use gstmls::identity::IdentityKey;
use gstmls::identity::issue::request_pem;
use gstmls::policy::Claim;
use gstmls::text::{date, harmless};

use crate::files::{self, NewFile, PRIVATE, PUBLIC};
use crate::output::{print, quoted};

/// Longest backup, in bytes: the enrolment, and what age adds to it for very many recipients.
const MAX_BACKUP: u64 = 2 * MAX_ENCODED as u64;

/// Open a backup on a new device, make a NEW key and a request for its certificate, and tell what comes next.
///
/// Writes DIR/key.pem and DIR/request.pem (as `gst-mls identity csr` does), DIR/ca.pem, and DIR/policy.json, which is
/// for reading. Nothing that exists is written over. The old key does not come back, and the lost device's certificate
/// must be denied in the room: it prints how.
///
/// Whoever knows a recipient can make a backup for it, so compare the fingerprint of the authority that is printed with
/// one that you know from elsewhere.
///
/// Example (recovery.txt is what age-keygen made):
///
///   gst-mls restore --identity recovery.txt ben.age --out ben-new
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Restore {
    /// Private key of one of the backup's recipients: a file that age-keygen made.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// The backup.
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// Folder for key.pem, request.pem, ca.pem and policy.json; it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Restore {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let enrolment = self.open()?;
        let key = IdentityKey::generate()?;
        let request = request_pem(&key)?;
        let key = key.to_pem()?;
        let policy = serde_json::to_string_pretty(&enrolment.policy)? + "\n";
        let [key_file, request_file, ca_file, policy_file] =
            ["key.pem", "request.pem", "ca.pem", "policy.json"].map(|name| self.out.join(name));
        files::create_new(&[
            NewFile::new(&key_file, &key, PRIVATE),
            NewFile::new(&request_file, &request, PUBLIC),
            NewFile::new(&ca_file, &enrolment.ca, PUBLIC),
            NewFile::new(&policy_file, &policy, PRIVATE),
        ])?;
        print(&explanation(&enrolment, &self.out)?)
    }

    fn open(&self) -> Result<Enrolment, Box<dyn Error>> {
        let identities = age_file::identities(&self.identity)?;
        let path = self.backup.display();
        let mut file = Vec::new();
        File::open(&self.backup)
            .and_then(|backup| backup.take(MAX_BACKUP + 1).read_to_end(&mut file))
            .map_err(|error| format!("{path} cannot be read: {error}"))?;
        if file.len() as u64 > MAX_BACKUP {
            return Err(format!("{path} has more than {MAX_BACKUP} bytes: it is no backup").into());
        }
        if file.starts_with(b"-----BEGIN AGE ENCRYPTED FILE") {
            return Err(format!(
                "{path} has age's text form (age -a): decrypt it with age -d, and encrypt it again without -a"
            )
            .into());
        }
        let text = age_file::open(&file, &identities).map_err(|error| format!("{path} {error}"))?;
        Enrolment::decode(&text).map_err(|error| format!("{path}: {}", harmless(&error.to_string())).into())
    }
}

/// What was restored, and what to do now. What stands in the backup came from outside: it is shown, and quoted in commands.
fn explanation(enrolment: &Enrolment, out: &Path) -> Result<String, Box<dyn Error>> {
    let word = |text: &str| quoted(&harmless(text));
    let file = |name: &str| quoted(&out.join(name).display().to_string());
    let Certified {
        subject,
        operator,
        roles,
        root,
        certificate,
    } = &enrolment.identity;
    let roles: Vec<_> = roles.iter().map(|role| role.word()).collect();
    let authorities = enrolment.authorities()?;

    let mut text = format!(
        "Restored the enrolment of {} {} in room {}, as it was at {}.\n\n\
         New private key, keep it secret: {}\n\
         Request for its certificate:     {}\n\
         Certificates of the authorities: {}\n\
         Policy at that time, to read:    {}\n\n\
         A backup does not prove who made it. Compare with a fingerprint that you have from elsewhere:\n",
        roles.join(" and "),
        harmless(subject),
        harmless(&enrolment.room),
        date(enrolment.made),
        file("key.pem"),
        file("request.pem"),
        file("ca.pem"),
        file("policy.json"),
    );
    for facts in &authorities {
        let name = facts.name.as_deref().unwrap_or("(no usable name)");
        let issuer = if facts.fingerprint == *root {
            ", which issued the old certificate"
        } else {
            ""
        };
        writeln!(
            text,
            "  {}  authority {}{issuer}",
            facts.fingerprint,
            harmless(name)
        )?;
    }

    let operator = operator
        .as_ref()
        .map(|operator| format!(" --operator {}", word(operator)));
    write!(
        text,
        "\nWhat comes next:\n\n\
         1. Somebody in the room denies the old certificate, if that was not done yet (SOCKET: the own control-socket).\n\
         \x20  While the lost device is a member:\n\
         \x20    gst-mls room remove {certificate} --socket SOCKET\n\
         \x20  Else:\n\
         \x20    gst-mls room set-policy also_deny={certificate} --socket SOCKET\n\
         2. Whoever holds the authority (DIR) makes sure that the request is yours, and issues the new certificate:\n\
         \x20    gst-mls identity issue --ca DIR --csr {} --role {} --id {}{} --out {}\n",
        file("request.pem"),
        roles.join(","),
        word(subject),
        operator.unwrap_or_default(),
        file("cert.pem"),
    )?;
    let (admitted, rights) = enrolment.bound_to_certificate();
    if !admitted.is_empty() {
        let entries: Vec<_> = admitted
            .iter()
            .map(|role| format!(r#"{{"role":"{role}","fingerprint":"NEW"}}"#))
            .collect();
        write!(
            text,
            "   The room admits the old certificate by its fingerprint. NEW, from gst-mls fingerprint {}, must be admitted:\n\
             \x20    gst-mls room set-policy 'also_admit=[{}]' --socket SOCKET\n",
            file("cert.pem"),
            entries.join(",")
        )?;
    }
    if !rights.is_empty() {
        let rights: Vec<_> = rights.iter().map(|act| act.to_string()).collect();
        writeln!(
            text,
            "   The old certificate holds rights by its fingerprint ({}): they must be given to the new one.",
            rights.join(", ")
        )?;
    }
    let setting = |name: &str, value: &str| word(&format!("{name}={value}"));
    write!(
        text,
        "3. The new device takes part with these settings of mlskeyring:\n\
         \x20    {} {} certificate-file={} private-key-file={} ca-file={}\n",
        setting("room", &enrolment.room),
        setting("delivery", &enrolment.delivery),
        file("cert.pem"),
        file("key.pem"),
        file("ca.pem"),
    )?;
    let claim = enrolment.policy.claim;
    if claim != Claim::Strict {
        writeln!(
            text,
            "   The room's claim was {claim}: it sends only if you accept that, with accept={claim}."
        )?;
    }
    text.push_str(
        "4. Compare codes with the others, by voice or eye to eye:\n\
         \x20    gst-mls room codes --socket SOCKET\n\
         5. Make a new backup: this one names the old certificate.\n",
    );
    Ok(text)
}
