//! `gst-compliance drill`: break-glass, tried on a recording that nobody needs.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use gstcompliance::access::Opening;
use gstcompliance::audit::{Id, Log};
use gstcompliance::breakglass::drill::{hold, make};
use gstcompliance::bundle::{DEALER_FILE, Escrow};
use gstcompliance::signing::PublicKey;

use crate::clock::now;
use crate::files::{decisions, read};
use crate::open::station_key;

/// Try break-glass on a canary: a recording of nothing, whose key was dealt to the same custodians as any other.
///
/// A drill is four steps, with the custodians as in earnest:
///
///   gst-compliance drill make --keys KEYS --location DIR --audit-log LOG
///   gst-compliance request DIR/ID …
///   gst-compliance approve …                        (each custodian, on their own machine)
///   gst-compliance drill open DIR/ID --approvals …
///
/// What came of it stands in the audit log (`audit show LOG --kind drill`), also where it failed.
#[derive(Debug, clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub enum Drill {
    /// Use up a key bundle for a canary. Run it where the audit log is.
    Make {
        /// Folder of the key bundles, as compliancesink has it: one that is for custodians is used up.
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// Folder under which the canary is made, as compliancesink has it.
        #[arg(long, value_name = "DIR")]
        location: PathBuf,
        /// Folder of the audit log.
        #[arg(long, value_name = "DIR")]
        audit_log: PathBuf,
    },
    /// Open the canary by the custodians' approvals, compare what comes out, keep nothing of it, and log the result.
    ///
    /// Ends with 1 where it failed. It opens no recording but a canary.
    Open {
        /// The canary's folder.
        #[arg(value_name = "REC")]
        recording: PathBuf,
        /// What the custodians sent back: files, or folders with them.
        #[arg(long, value_name = "DIR|FILE", num_args = 1.., required = true)]
        approvals: Vec<PathBuf>,
        /// This station's one-time key of the request.
        #[arg(long, value_name = "FILE")]
        station_key: PathBuf,
        /// The file of custodians that the keys were made for (keys prepare --escrow).
        #[arg(long, value_name = "FILE")]
        custodians: PathBuf,
        /// Folder of the audit log.
        #[arg(long, value_name = "DIR")]
        audit_log: PathBuf,
        /// Who holds the drill: an opaque id, no name. It stands in the log for good.
        #[arg(long, value_name = "ID")]
        by: String,
    },
}

impl Drill {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Make {
                keys,
                location,
                audit_log,
            } => {
                let path = keys.join(DEALER_FILE);
                let dealer = String::from_utf8(read(&path, 1024)?)
                    .ok()
                    .and_then(|text| text.trim_end().parse::<PublicKey>().ok())
                    .ok_or_else(|| format!("{} is no dealer's public key", path.display()))?;
                let log = Log::open_existing(&audit_log)?;
                fs::create_dir_all(&location)
                    .map_err(|error| format!("{} cannot be made: {error}", location.display()))?;
                let canary = make(&keys, dealer, &location, &log, now())?;
                log.close()?;
                println!("{}", canary.display());
                Ok(())
            }
            Self::Open {
                recording,
                approvals,
                station_key: key,
                custodians,
                audit_log,
                by,
            } => {
                let by = Id::new(&by).map_err(|error| format!("--by: {error}"))?;
                let key = station_key(&key)?;
                let custodians = Escrow::read(&custodians)?;
                let files = decisions(&approvals)?;
                let opening = Opening::prepare(&recording, &audit_log)?;
                let found = hold(opening, &key, &custodians, &files, &by, now())?;
                println!("PASSED: {found}.");
                Ok(())
            }
        }
    }
}
