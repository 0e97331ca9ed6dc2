//! What the command says.

use std::error::Error;
use std::io::{self, Write};

use serde::Serialize;

/// A command line that cannot be meant.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// Prints text. Whoever reads only its beginning (`| head`) does no wrong.
pub fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a value for a program, in one line.
pub fn print_json(value: &impl Serialize) -> Result<(), Box<dyn Error>> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}
