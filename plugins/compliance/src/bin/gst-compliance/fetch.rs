//! `gst-compliance fetch`: a recording or an audit log out of a store, as the local folder that it was.

use std::error::Error;
use std::path::PathBuf;

use gstcompliance::store::{Address, fetch_log, fetch_recording, wait};

use crate::stored::Store;

/// Bring a recording (s3://BUCKET/PREFIX/ID) or an audit log (s3://BUCKET/PREFIX) out of a store into a folder, byte for
/// byte as it was.
///
/// Every command that works on a recording's or a log's folder works on what was fetched: verify, open, export, report,
/// audit show. Nothing is verified here but that all objects are there. A log comes without its private key: what needs to
/// be written to the log, as `open` does, needs the recorder's own log folder.
#[derive(Debug, clap::Args)]
pub struct Fetch {
    /// The recording, or the log.
    #[arg(value_name = "s3://…")]
    from: Address,
    /// The folder to be made.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    store: Store,
}

impl Fetch {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let findings = match self.store.recording(&self.from)? {
            Some(recording) => wait(fetch_recording(
                &recording.media,
                &recording.keys,
                recording.id,
                &self.out,
            ))?,
            None => wait(fetch_log(&self.store.bucket(&self.from)?, &self.out))?.0,
        };
        println!("{}", self.out.display());
        for finding in &findings {
            println!("  ! {finding}");
        }
        if findings.is_empty() {
            Ok(())
        } else {
            Err(format!("{} is NOT WHOLE in the store", self.from).into())
        }
    }
}
