//! `gst-mls identity`: keys and certificates of endpoints.

use std::error::Error;
use std::path::PathBuf;

use gstmls::identity::issue::{
    Subject, Validity, certificate_pem, chain_pem, random_id, request_pem, requested_key,
};
use gstmls::identity::{Identity, IdentityKey, Role};

use crate::ca;
use crate::files::{self, NewFile, PRIVATE, PUBLIC};
use crate::time::{date, now};

/// Make keys and certificates of endpoints.
#[derive(Debug, clap::Subcommand)]
pub enum IdentityCommand {
    /// Make a key and its certificate in one step: DIR/cert.pem, DIR/key.pem, DIR/ca.pem.
    ///
    /// The three files are certificate-file, private-key-file and ca-file of mlskeyring.
    New(New),
    /// Make a key and a request for a certificate: DIR/key.pem, DIR/request.pem.
    ///
    /// For an endpoint whose key shall never be elsewhere. Give request.pem to whoever holds the authority; that one
    /// runs `gst-mls identity issue`, and says who you are and what you may be.
    Csr(Csr),
    /// Issue a certificate for the key of a request (PKCS#10, PEM), which `identity csr` or another tool made.
    ///
    /// The request proves only that its sender has the key. Its names are left aside: subject id, operator and roles
    /// are what you say here. The file that is made has the endpoint's certificate and its issuers.
    Issue(Issue),
}

/// Whom a certificate is for.
#[derive(Debug, clap::Args)]
struct Certified {
    /// Folder of the authority, as `gst-mls ca new` makes it.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// What the endpoint may be: participant, recorder, or both with a comma.
    #[arg(long, required = true, value_delimiter = ',', value_name = "ROLE[,ROLE]")]
    role: Vec<Role>,
    /// Subject id; a random one if it is not given. It is no secret: whoever carries the room's messages sees it.
    #[arg(long)]
    id: Option<String>,
    /// Organisation that operates the endpoint, as people will see it.
    #[arg(long)]
    operator: Option<String>,
    /// Days for which the certificate is valid, within those of the authority.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Debug, clap::Args)]
pub struct New {
    #[command(flatten)]
    certified: Certified,
    /// Folder for cert.pem, key.pem and ca.pem; it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write over an identity that is already there.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub struct Csr {
    /// Folder for key.pem and request.pem; it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write over a key that is already there.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub struct Issue {
    #[command(flatten)]
    certified: Certified,
    /// The request.
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// File for the certificate and its issuers.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write over a file that is already there.
    #[arg(long)]
    force: bool,
}

impl IdentityCommand {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::New(new) => new.run(),
            Self::Csr(csr) => csr.run(),
            Self::Issue(issue) => issue.run(),
        }
    }
}

/// A certificate that was issued.
struct Issued {
    chain: String,
    root: String,
    identity: Identity,
}

impl Certified {
    fn issue(self, public_key: &[u8; 32]) -> Result<Issued, Box<dyn Error>> {
        let authority = ca::load(&self.ca)?;
        let id = self.id.map_or_else(random_id, Ok)?;
        let subject = Subject {
            id,
            operator: self.operator,
            roles: self.role,
        };
        let now = now()?;
        let (chain, identity) = authority.issue(public_key, &subject, Validity::days(now, self.days))?;
        if identity.not_after < now {
            let ended = date(identity.not_after);
            return Err(format!("{}: the authority ended at {ended}.", self.ca.display()).into());
        }
        Ok(Issued {
            chain: chain_pem(&chain)?,
            root: certificate_pem(authority.root_certificate())?,
            identity,
        })
    }
}

fn tell(identity: &Identity) {
    let roles: Vec<_> = identity.roles.iter().map(|role| role.word()).collect();
    let roles = roles.join(" and ");
    let until = date(identity.not_after);
    println!(
        "Made the identity of {roles} {}, valid until {until}.",
        identity.subject
    );
    println!("Fingerprint: {}", identity.fingerprint);
}

impl New {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let key = IdentityKey::generate()?;
        let issued = self.certified.issue(key.public())?;
        let key = key.to_pem()?;
        let [certificate_file, key_file, ca_file] =
            ["cert.pem", "key.pem", "ca.pem"].map(|name| self.out.join(name));
        files::create(
            &[
                NewFile::new(&key_file, &key, PRIVATE),
                NewFile::new(&certificate_file, &issued.chain, PUBLIC),
                NewFile::new(&ca_file, &issued.root, PUBLIC),
            ],
            self.force,
        )?;
        tell(&issued.identity);
        println!(
            "For mlskeyring: certificate-file={} private-key-file={} ca-file={}",
            certificate_file.display(),
            key_file.display(),
            ca_file.display()
        );
        Ok(())
    }
}

impl Csr {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let key = IdentityKey::generate()?;
        let request = request_pem(&key)?;
        let key = key.to_pem()?;
        let [key_file, request_file] = ["key.pem", "request.pem"].map(|name| self.out.join(name));
        files::create(
            &[
                NewFile::new(&key_file, &key, PRIVATE),
                NewFile::new(&request_file, &request, PUBLIC),
            ],
            self.force,
        )?;
        println!("Private key, keep it secret: {}", key_file.display());
        println!("Request for a certificate:   {}", request_file.display());
        println!(
            "Whoever holds the authority now runs: gst-mls identity issue --ca DIR --csr request.pem --role …"
        );
        Ok(())
    }
}

impl Issue {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let path = self.csr.display();
        let text =
            std::fs::read_to_string(&self.csr).map_err(|error| format!("{path} cannot be read: {error}"))?;
        let public_key = requested_key(&text).map_err(|error| format!("{path}: {error}"))?;
        let issued = self.certified.issue(&public_key)?;
        files::create(&[NewFile::new(&self.out, &issued.chain, PUBLIC)], self.force)?;
        tell(&issued.identity);
        println!("For mlskeyring: certificate-file={}", self.out.display());
        Ok(())
    }
}
