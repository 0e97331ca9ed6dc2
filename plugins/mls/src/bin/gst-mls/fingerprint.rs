//! `gst-mls fingerprint`: what policies and people name certificates by.

use std::error::Error;
use std::path::PathBuf;

use gstmls::identity::{describe, read_certificates};

use crate::time::date;

/// Print the SHA-256 of each certificate in a file, and what the certificate says. Nothing is verified.
#[derive(Debug, clap::Args)]
pub struct Fingerprint {
    /// File with certificates (PEM).
    file: PathBuf,
}

impl Fingerprint {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        for certificate in read_certificates(&self.file)? {
            let facts = describe(&certificate).map_err(|_| {
                let file = self.file.display();
                format!("{file} holds a certificate that cannot be read.")
            })?;
            let what = if facts.authority {
                "authority".to_owned()
            } else if facts.roles.is_empty() {
                "without a role".to_owned()
            } else {
                let roles: Vec<_> = facts.roles.iter().map(|role| role.word()).collect();
                roles.join(" and ")
            };
            let name = facts.name.as_deref().unwrap_or("(no usable name)");
            let operator = facts.operator.map(|name| format!(", operated by {name}"));
            println!(
                "{}  {what} {name}{}, valid from {} until {}",
                facts.fingerprint,
                operator.unwrap_or_default(),
                date(facts.not_before),
                date(facts.not_after)
            );
        }
        Ok(())
    }
}
