//! Making bundles: what the dealer does, away from the recorder.
//!
//! A bundle appears under its name only when it stands on the disk as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use age::x25519::Identity;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::statement::share_name;
use super::{
    BundleError, DEALER_FILE, EscrowFacts, FileFacts, Holders, KEY_FILE, SHARES, STATEMENT_FILE, Statement,
    read_bounded, shares,
};
use crate::age_file::{identity_text, seal};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::signing::Signer;

/// Most bundles that are made at once.
pub const MAX_COUNT: u32 = 10_000;

/// Makes so many bundles in `out`, which is made if it does not exist, and `out/dealer.pub`. Bundles that are there
/// already stay; those of another dealer are an error.
pub fn prepare(
    out: &Path,
    holders: &Holders,
    count: u32,
    dealer: &dyn Signer,
) -> Result<Vec<RecordingId>, BundleError> {
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(BundleError::Making(format!(
            "1 to {MAX_COUNT} bundles can be made at once"
        )));
    }
    make_folder(out)?;
    name_dealer(out, dealer)?;
    let made = (0..count).map(|_| make(out, holders, dealer)).collect();
    sync(out)?;
    made
}

fn name_dealer(out: &Path, dealer: &dyn Signer) -> Result<(), BundleError> {
    let path = out.join(DEALER_FILE);
    let line = format!("{}\n", dealer.public());
    match read_bounded(&path, 1024) {
        Ok(known) if known == line.as_bytes() => Ok(()),
        Ok(_) => Err(BundleError::file(
            &path,
            "names another dealer: choose another folder, or the dealer key of these bundles",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(&path, line.as_bytes()),
        Err(error) => Err(BundleError::io(&path)(error)),
    }
}

fn make(out: &Path, holders: &Holders, dealer: &dyn Signer) -> Result<RecordingId, BundleError> {
    let making = BundleError::Making;
    let mut id = [0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| making("the system gives no random numbers".to_owned()))?;
    let id = RecordingId::from_bytes(id);
    let identity = Identity::generate();
    let (recipients, escrow, files) = wrap(holders, id, &identity).map_err(making)?;
    let statement = Statement {
        version: 1,
        recording: id,
        public: identity.to_public().to_string(),
        recipients,
        escrow,
        files: files
            .iter()
            .map(|(name, bytes)| FileFacts::new(name, bytes))
            .collect(),
    };
    let statement = statement.encode(dealer).map_err(making)?;

    let temporary = out.join(format!(".{id}.new"));
    make_folder(&temporary)?;
    if statement_has_shares(&files) {
        make_folder(&temporary.join(SHARES))?;
    }
    for (name, bytes) in files.iter().chain([&(STATEMENT_FILE.to_owned(), statement)]) {
        write(&temporary.join(name), bytes)?;
    }
    if statement_has_shares(&files) {
        sync(&temporary.join(SHARES))?;
    }
    sync(&temporary)?;
    let place = out.join(id.to_string());
    fs::rename(&temporary, &place).map_err(BundleError::io(&place))?;
    Ok(id)
}

fn statement_has_shares(files: &[(String, Vec<u8>)]) -> bool {
    files.iter().any(|(name, _)| name != KEY_FILE)
}

/// Fingerprints of recipients, or an escrow; and the files, with their names.
type Wrapped = (Vec<Digest>, Option<EscrowFacts>, Vec<(String, Vec<u8>)>);

/// Wraps the identity for its holders.
pub(crate) fn wrap(holders: &Holders, id: RecordingId, identity: &Identity) -> Result<Wrapped, String> {
    match holders {
        Holders::Recipients(recipients) => {
            let secret = identity_text(identity);
            // As age-keygen writes it, so that the age tool takes it as it is.
            let text = Zeroizing::new(format!(
                "# recording: {id}\n# public key: {}\n{}\n",
                identity.to_public(),
                secret.as_str()
            ));
            let key = seal(recipients.keys(), text.as_bytes(), 0).map_err(|e| e.to_string())?;
            Ok((recipients.fingerprints(), None, vec![(KEY_FILE.to_owned(), key)]))
        }
        Holders::Escrow(escrow) => {
            let facts = escrow.facts();
            let plaintexts: Result<Vec<_>, _> = shares::deal(identity, id, facts.m, facts.n)
                .iter()
                .map(shares::Share::encode)
                .collect();
            let plaintexts = plaintexts.map_err(|e| e.to_string())?;
            shares::test(&plaintexts, facts.m, identity)?;
            let files: Result<Vec<_>, String> = (1..=facts.n)
                .zip(escrow.custodians())
                .zip(&plaintexts)
                .map(|((index, custodian), plaintext)| {
                    let file = seal([custodian.recipient()], plaintext, 0).map_err(|e| e.to_string())?;
                    Ok((share_name(index), file))
                })
                .collect();
            Ok((Vec::new(), Some(facts), files?))
        }
    }
}

fn make_folder(path: &Path) -> Result<(), BundleError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(BundleError::io(path))
}

/// Everything in a bundle is public or wrapped: everybody may read it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(BundleError::io(path))
}

fn sync(folder: &Path) -> Result<(), BundleError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(BundleError::io(folder))
}
