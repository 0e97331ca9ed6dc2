//! `gst-mls ca`: a certificate authority of one's own.

use std::error::Error;
use std::path::{Path, PathBuf};

use gstmls::identity::issue::{Authority, Validity, certificate_pem};
use gstmls::identity::{IdentityKey, read_certificates, read_key};

use crate::files::{self, NewFile, PRIVATE, PUBLIC};
use crate::time::{date, now};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";

/// Make a certificate authority.
#[derive(Debug, clap::Subcommand)]
pub enum Ca {
    /// Make a certificate authority: DIR/ca.pem to give to everybody, DIR/ca-key.pem to keep.
    ///
    /// Whoever has ca-key.pem can make participants and recorders of any room that trusts ca.pem.
    New(New),
}

#[derive(Debug, clap::Args)]
pub struct New {
    /// Name of the organisation, as people will see it.
    #[arg(long)]
    name: String,
    /// Days for which it can issue, and for which what it issued is valid at most.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Folder for ca.pem and ca-key.pem; it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write over an authority that is already there. Nothing that it issued can be renewed then.
    #[arg(long)]
    force: bool,
}

impl Ca {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::New(new) => new.run(),
        }
    }
}

impl New {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let validity = Validity::days(now()?, self.days);
        let authority = Authority::root(&self.name, IdentityKey::generate()?, validity)?;
        let key = authority.key().to_pem()?;
        let certificate = certificate_pem(authority.root_certificate())?;
        let [certificate_file, key_file] = [CERTIFICATE, KEY].map(|name| self.out.join(name));
        files::create(
            &[
                NewFile::new(&key_file, &key, PRIVATE),
                NewFile::new(&certificate_file, &certificate, PUBLIC),
            ],
            self.force,
        )?;
        println!(
            "Made the certificate authority \"{}\", valid until {}.",
            self.name,
            date(validity.until)
        );
        println!("Certificate, for everybody:  {}", certificate_file.display());
        println!("Private key, keep it secret: {}", key_file.display());
        println!("Fingerprint: {}", authority.fingerprint());
        Ok(())
    }
}

/// The authority in a folder that `ca new` made, or that somebody put together: the certificates in ca.pem are the
/// authority's own first, the root last.
pub fn load(folder: &Path) -> Result<Authority, Box<dyn Error>> {
    let certificates = read_certificates(&folder.join(CERTIFICATE))?;
    let key = read_key(&folder.join(KEY))?;
    Authority::new(certificates, key).map_err(|error| format!("{}: {error}", folder.display()).into())
}
