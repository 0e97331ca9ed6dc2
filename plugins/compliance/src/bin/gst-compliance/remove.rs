//! `gst-compliance remove`: a recording's keys or its media leave the store for good.

use std::error::Error;

use gstcompliance::store::{Address, remove_keys, remove_media, wait};

use crate::stored::Store;

/// Remove a recording from a store with all its versions: its keys, its media, or both.
///
/// Without its keys a recording cannot be opened any more, by nobody who has no copy of them: that is the way for media
/// that is under a retention lock. What a lock holds is not removed, and the command says which object that is and ends
/// with 1.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The recording.
    #[arg(value_name = "s3://BUCKET/PREFIX/ID")]
    from: Address,
    /// Remove key.age and shares.
    #[arg(long, required_unless_present = "media")]
    keys: bool,
    /// Remove everything else.
    #[arg(long)]
    media: bool,
    #[command(flatten)]
    store: Store,
}

impl Remove {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let Some(recording) = self.store.recording(&self.from)? else {
            return Err(format!("{} does not end with a recording's id", self.from).into());
        };
        if self.keys {
            let removed = wait(remove_keys(&recording.keys, recording.id))?;
            println!("keys: {} versions removed", removed.versions);
        }
        if self.media {
            let removed = wait(remove_media(&recording.media, recording.id))?;
            println!("media: {} versions removed", removed.versions);
        }
        Ok(())
    }
}
