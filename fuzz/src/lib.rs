//! What the fuzz targets do, one module each: `run` feeds bytes to code that reads bytes from outside and asserts
//! what must hold, whatever they are. It returns what it has seen on the way, so that the deterministic run in
//! `tests/tests/corpus.rs` (which includes these files) notices when the seeds no longer reach something.

pub mod audit;
pub mod breakglass;
pub mod codec;
pub mod depayloader;
pub mod descriptor;
pub mod guard;
pub mod header;
mod input;
pub mod key_file;
pub mod matroska;
mod memory;
pub mod open;
pub mod packet;
pub mod recording;

/// Names of what happened in a run.
pub type Seen = std::collections::BTreeSet<&'static str>;
