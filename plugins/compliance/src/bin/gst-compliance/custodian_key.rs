//! Where a custodian's key is: in a file, or on a PKCS#11 token.

use std::path::PathBuf;

use gstcompliance::breakglass::custodian::{CustodianKey, FileKey, KeyError};
use gstcompliance::breakglass::token::{Place, TokenKey};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("key").required(true).args(["identity", "pkcs11_module"]))]
pub struct KeyArgs {
    /// The custodian's age identity (as age-keygen writes it), readable for its owner only.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Instead of --identity: the PKCS#11 module (a shared library) of the token that has the key.
    #[arg(long, value_name = "LIBRARY", requires_all = ["token", "pin_file"])]
    pkcs11_module: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    token: Option<String>,
    /// A file with the token's PIN, readable for its owner only.
    #[arg(long, value_name = "FILE", requires = "pkcs11_module")]
    pin_file: Option<PathBuf>,
}

impl KeyArgs {
    /// The key.
    pub fn open(&self) -> Result<Box<dyn CustodianKey>, KeyError> {
        match (&self.identity, self.token()) {
            (Some(identity), _) => Ok(Box::new(FileKey::read(identity)?)),
            (None, Some(place)) => Ok(Box::new(TokenKey::open(&place)?)),
            (None, None) => Err(KeyError::Use(
                "--identity or --pkcs11-module is needed".to_owned(),
            )),
        }
    }

    /// The token, where it is on one.
    pub fn token(&self) -> Option<Place> {
        Some(Place {
            module: self.pkcs11_module.clone()?,
            token: self.token.clone()?,
            pin_file: self.pin_file.clone()?,
        })
    }
}
