//! `gst-compliance keys`: keys of recordings to come, made where keys are made and not on the recorder.

use std::error::Error;
use std::path::{Path, PathBuf};

use gstcompliance::audit::Id;
use gstcompliance::breakglass::custodian::{CustodianKey, public};
use gstcompliance::breakglass::token::make;
use gstcompliance::bundle::holders::fingerprint;
use gstcompliance::bundle::{DEALER_FILE, Escrow, Holders, Recipients, dealer, prepare};
use gstcompliance::signing::Signer;

use crate::custodian_key::KeyArgs;

/// Keys of recordings to come.
#[derive(Debug, clap::Subcommand)]
pub enum Keys {
    /// Make key bundles, each for one future recording: copy DIR to the recorder, it is compliancesink's `keys`.
    ///
    /// Run it where keys are made, never on the recorder, which gets public halves only. The private halves are wrapped
    /// to the recipients or dealt to the custodians, and kept nowhere.
    ///
    /// With --recipients, EACH recipient can open EACH of these recordings alone, unlogged, with the plain age tool.
    /// Where that is not acceptable, use --escrow: then only M of N custodians can, together.
    Prepare(Prepare),
    /// Print a custodian's line for the file of custodians: the public halves of the custodian's key. Run it on the custodian's
    /// own machine, and send the line to whoever makes the keys.
    ///
    /// The key is an age identity (age-keygen -o FILE) that the custodian keeps, and a copy of it in a safe place. It opens
    /// shares, and the key that signs decisions is derived from it. Or it is an X25519 and an Ed25519 key on a PKCS#11 token,
    /// of which there is no copy: a lost token is a lost share.
    Custodian(Custodian),
}

#[derive(Debug, clap::Args)]
pub struct Custodian {
    #[command(flatten)]
    key: KeyArgs,
    /// Make the keys first, on a token that has none: they never leave it, and there is no copy of them.
    #[arg(long, requires = "pkcs11_module")]
    make: bool,
    /// The id under which the same person would ask for a recording: nobody approves their own request.
    #[arg(long, value_name = "ID")]
    person: Option<Id>,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("holders").required(true).args(["recipients", "escrow"]))]
pub struct Prepare {
    /// Who can open the recordings, each alone: one age recipient a line (age1…, X25519), # comments.
    #[arg(long, value_name = "FILE")]
    recipients: Option<PathBuf>,
    /// Who can open them together: the first line is `2 of 3`, then three custodians, each as `keys custodian` prints it. Keep
    /// this file: requests are approved and recordings opened with it.
    #[arg(long, value_name = "FILE")]
    escrow: Option<PathBuf>,
    /// How many bundles. Each recording uses one up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// The dealer's private key, which signs the bundles; it is made if it does not exist. Keep it, and keep it here.
    #[arg(long, value_name = "FILE")]
    dealer_key: PathBuf,
    /// Folder for the bundles and dealer.pub; it is made if it does not exist. Bundles that are there stay.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Keys {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Prepare(prepare) => prepare.run(),
            Self::Custodian(custodian) => {
                let key: Box<dyn CustodianKey> = match custodian.key.token().filter(|_| custodian.make) {
                    Some(place) => Box::new(make(&place)?),
                    None => custodian.key.open()?,
                };
                println!("{}", public(&*key, custodian.person));
                Ok(())
            }
        }
    }
}

impl Prepare {
    /// The whole of DIR goes to the recorder.
    fn key_stays_here(&self) -> Result<(), Box<dyn Error>> {
        let folder = match self.dealer_key.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if let (Ok(folder), Ok(out)) = (folder.canonicalize(), self.out.canonicalize())
            && folder.starts_with(out)
        {
            let key = self.dealer_key.display();
            return Err(format!(
                "{key} would go to the recorder with the bundles: keep the dealer's key outside --out"
            )
            .into());
        }
        Ok(())
    }

    fn run(self) -> Result<(), Box<dyn Error>> {
        let holders = match (&self.recipients, &self.escrow) {
            (Some(file), None) => Holders::Recipients(Recipients::read(file)?),
            (None, Some(file)) => Holders::Escrow(Escrow::read(file)?),
            _ => return Err("either --recipients or --escrow is needed".into()),
        };
        self.key_stays_here()?;
        let key = dealer::load_or_make(&self.dealer_key)?;
        let made = prepare(&self.out, &holders, self.count, &key)?;
        let out = self.out.display();
        println!(
            "Made {} key bundles in {out}, each for one recording.",
            made.len()
        );
        println!("Dealer: {} ({out}/{DEALER_FILE})", key.public());
        match &holders {
            Holders::Recipients(recipients) => {
                println!("Fingerprints for `recipients` in the room's policy:");
                for recipient in recipients.keys() {
                    println!("  {}  {recipient}", fingerprint(recipient));
                }
            }
            Holders::Escrow(escrow) => {
                let facts = escrow.facts();
                println!("For `escrow` in the room's policy:");
                println!(
                    "  {{ \"fingerprint\": \"{}\", \"m\": {}, \"n\": {} }}",
                    facts.fingerprint, facts.m, facts.n
                );
            }
        }
        Ok(())
    }
}
