//! `gst-compliance consent`: does a consent permit recording, and how does a room's policy name it?

use std::error::Error;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use gst::glib;
use gstcompliance::consent::Consent as Document;
use ring::rand::{SecureRandom, SystemRandom};

/// Read a consent (FHIR R4 Consent, JSON) as compliancesink does, and print the reference to it for a room's policy.
///
/// Ends with 1 where it does not permit recording now, and says why. Nothing of its content is printed.
///
/// The reference is salted: each time another one, and every one of them is good. Put it into the field `consent` of the
/// policy file, or into a running room: gst-mls room set-policy 'consent="REFERENCE"' --socket SOCKET
#[derive(Debug, clap::Args)]
pub struct Consent {
    /// The consent.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Instead of printing a new reference, check that this one, from a room's policy, is of this consent as it is.
    #[arg(long, value_name = "REFERENCE")]
    reference: Option<String>,
}

impl Consent {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let zone = glib::DateTime::now_local().map_or(0, |now| now.utc_offset().as_seconds());
        let consent = Document::load(&self.file, i32::try_from(zone).unwrap_or(0))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        consent.judge(u64::try_from(since.as_millis())?)?;
        match &self.reference {
            Some(reference) if consent.matches(reference) => {
                println!("It permits recording now, and the reference is of it.");
                Ok(())
            }
            Some(_) => Err("the reference is of another consent, or of another state of this one".into()),
            None => {
                let mut salt = [0; 16];
                let filled = SystemRandom::new().fill(&mut salt);
                filled.map_err(|_| "the system gives no random numbers")?;
                println!("{}", consent.reference(&salt));
                Ok(())
            }
        }
    }
}
