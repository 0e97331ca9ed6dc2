//! `gst-compliance approve` and `deny`: a custodian's decision, on the custodian's own machine.

use std::error::Error;
use std::path::PathBuf;

use gstcompliance::audit::{Kind, Text, VerifierKey};
use gstcompliance::breakglass::Asked;
use gstcompliance::breakglass::check::{check, deny};
use gstcompliance::breakglass::custodian::CustodianKey;
use gstcompliance::breakglass::request::{MAX_FILE, Request};
use gstcompliance::bundle::Escrow;
use gstcompliance::recording::Facts;
use gstcompliance::signing::PublicKey;

use crate::clock::{date, now};
use crate::custodian_key::KeyArgs;
use crate::files::read;
use crate::request::write_new;

/// As a custodian: see what a request asks for, and approve it.
///
/// Without --out nothing is decided: the request is checked, and what it asks is printed. Read it, ask the requester by
/// another way whether it is theirs, and call it again with --out.
///
/// Checked are: that the request stands in the audit log of --log, that the recording names this log, that the request has
/// not expired, that it is not your own, and that your share is this recording's and no other's. Your share leaves this
/// machine only encrypted to the opening station, for this one request.
#[derive(Debug, clap::Args)]
pub struct Approve {
    #[command(flatten)]
    decide: Decide,
    /// File for your approval, to send back; it is made, and must not exist. Without it nothing is decided.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// As a custodian: say no to a request, with a reason.
///
/// Your share is not used, and your no does not keep the other custodians from opening: it takes back your own approval of
/// this request, if there is one, and stands in the audit log for good. Say no, too, where `approve` refuses: so that the
/// log has it.
#[derive(Debug, clap::Args)]
pub struct Deny {
    #[command(flatten)]
    decide: Decide,
    /// Why. It stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// File for your no, to send back; it is made, and must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Decide {
    /// The request that you were sent.
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
    /// The audit log's public key: 64 hex digits, or the content of the log's file vkey. Have it from elsewhere, once: not
    /// from whoever sends the request.
    #[arg(long, value_name = "KEY", value_parser = parse_log)]
    log: PublicKey,
    /// The file of custodians that the recordings' keys were made for (keys prepare --escrow).
    #[arg(long, value_name = "FILE")]
    custodians: PathBuf,
}

fn parse_log(text: &str) -> Result<PublicKey, String> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let key: VerifierKey = text
        .trim_end()
        .parse()
        .map_err(|_| "expected 64 hex digits, or NAME+ID+KEY as the log's file vkey has it".to_owned())?;
    if key.kind() != Kind::Log || !key.is_named_by_key() {
        return Err("is no audit log's key".to_owned());
    }
    Ok(*key.key())
}

/// What a decision is made from.
struct Given {
    request: Request,
    custodians: Escrow,
    key: Box<dyn CustodianKey>,
}

impl Decide {
    fn read(&self) -> Result<Given, Box<dyn Error>> {
        let bytes = read(&self.request, MAX_FILE)?;
        let request =
            Request::decode(&bytes).map_err(|error| format!("{} {error}", self.request.display()))?;
        Ok(Given {
            request,
            custodians: Escrow::read(&self.custodians)?,
            key: self.key.open()?,
        })
    }
}

impl Approve {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let Given {
            request,
            custodians,
            key,
        } = self.decide.read()?;
        let checked = check(request, &self.decide.log, &custodians, &*key, now())?;
        print!("{}", shown(checked.asked(), Some(&checked.verified().facts)));
        let escrow = &checked.verified().escrow;
        println!(
            "  your share {} of {}; {} custodians together open it",
            checked.index(),
            escrow.n,
            escrow.m
        );
        match &self.out {
            None => println!(
                "NOTHING IS DECIDED YET: to approve, call it again with --out FILE; to refuse, gst-compliance deny."
            ),
            Some(out) => {
                write_new(out, &checked.approve(&*key, now())?)?;
                println!("APPROVED: send {} to the opening station.", out.display());
            }
        }
        Ok(())
    }
}

impl Deny {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let Given {
            request,
            custodians,
            key,
        } = self.decide.read()?;
        let reason = Text::new(&self.reason).map_err(|error| format!("--reason: {error}"))?;
        let (asked, decision) = deny(&request, &self.decide.log, &custodians, &*key, reason, now())?;
        print!("{}", shown(&asked, None));
        write_new(&self.out, &decision)?;
        println!("DENIED: send {} to the opening station.", self.out.display());
        Ok(())
    }
}

/// What is asked, for whoever decides.
fn shown(asked: &Asked, facts: Option<&Facts>) -> String {
    let mut text = "This request is in the audit log:\n".to_owned();
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {value}\n"));
    line("request", asked.access.to_string());
    line("recording", asked.recording.to_string());
    if let Some(facts) = facts {
        let room = Text::lossy(facts.room.as_deref().unwrap_or("unknown"));
        line("made", format!("{}, room {room}", date(facts.started)));
    }
    line("who", asked.requester.to_string());
    line("why", asked.reason.to_string());
    line("ticket", asked.ticket.to_string());
    line("asked", date(asked.time));
    line("until", date(asked.expires));
    line("opened for", asked.recipient.to_string());
    text
}
