//! What a custodian's machine checks before the custodian says yes or no. It has the request, the log's public key, the
//! file of custodians and the own key, and no network.

use zeroize::Zeroizing;

use super::Asked;
use super::custodian::{CustodianKey, KeyError};
use super::decision::{self, DecideError};
use super::request::{Request, RequestError, Verified};
use crate::audit::Text;
use crate::bundle::holders::fingerprint;
use crate::bundle::{Custodian, Escrow, EscrowFacts, Share, ShareError};
use crate::signing::PublicKey;

/// Why a custodian's program does not approve.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request itself.
    #[error("the request {0}")]
    Request(#[from] RequestError),
    /// The file of custodians is another one.
    #[error(
        "the file of custodians is not this recording's: its fingerprint is {given}, and the recording says {named}"
    )]
    AnotherEscrow {
        /// Of the file.
        given: crate::digest::Digest,
        /// In recording.json.
        named: crate::digest::Digest,
    },
    /// The key is nobody's in the file.
    #[error("this key is no custodian's: {0} does not stand in the file of custodians")]
    NotACustodian(String),
    /// In the file with another signing key.
    #[error(
        "this key signs with {own}, and the file of custodians says {named}: decisions of it would not count"
    )]
    AnotherSigningKey {
        /// Of the key.
        own: PublicKey,
        /// In the file.
        named: PublicKey,
    },
    /// Nobody approves what they ask for.
    #[error("who asks is this custodian: nobody approves their own request")]
    Own,
    /// Too late, or a clock was set.
    #[error(
        "the request does not count now: it was asked at {asked} ms and ends at {expires} ms, and here it is {now} ms (unix time)"
    )]
    Expired {
        /// When it was asked.
        asked: u64,
        /// When it ends.
        expires: u64,
        /// Now.
        now: u64,
    },
    /// The share's file does not open with the own key.
    #[error("the own share {0}")]
    Share(KeyError),
    /// It opens, and is no share.
    #[error("the own share {0}")]
    NoShare(ShareError),
    /// It opens, and says itself that it belongs elsewhere.
    #[error("the own share is not of this recording: {0}. Somebody put it in the place of the right one")]
    ShareOfAnother(String),
    /// The decision cannot be made.
    #[error(transparent)]
    Decide(#[from] DecideError),
}

/// A request that this custodian may approve.
pub struct Checked {
    verified: Verified,
    index: u8,
    share: Zeroizing<Vec<u8>>,
}

/// The custodian with this key, and the number of their share.
fn find<'a>(custodians: &'a Escrow, key: &dyn CustodianKey) -> Result<(u8, &'a Custodian), Refusal> {
    let found = custodians.find(&fingerprint(key.recipient()));
    let (index, custodian) = found.ok_or_else(|| Refusal::NotACustodian(key.recipient().to_string()))?;
    if *custodian.signing() != key.signing() {
        return Err(Refusal::AnotherSigningKey {
            own: key.signing(),
            named: *custodian.signing(),
        });
    }
    Ok((index, custodian))
}

fn is_of(custodians: &Escrow, escrow: &EscrowFacts) -> Result<(), Refusal> {
    let given = custodians.facts();
    if given == *escrow {
        return Ok(());
    }
    Err(Refusal::AnotherEscrow {
        given: given.fingerprint,
        named: escrow.fingerprint,
    })
}

/// Checks a request, up to the own share's own text. `time`: now, unix time in milliseconds.
pub fn check(
    request: Request,
    log: &PublicKey,
    custodians: &Escrow,
    key: &dyn CustodianKey,
    time: u64,
) -> Result<Checked, Refusal> {
    let verified = request.verify(log)?;
    is_of(custodians, &verified.escrow)?;
    let (index, custodian) = find(custodians, key)?;
    let asked = &verified.asked;
    if asked.is_by(custodian) {
        return Err(Refusal::Own);
    }
    if !asked.counts_at(time) {
        return Err(Refusal::Expired {
            asked: asked.time,
            expires: asked.expires,
            now: time,
        });
    }
    let share = key.open(verified.share(index)?).map_err(Refusal::Share)?;
    let text = Share::decode(&share).map_err(Refusal::NoShare)?;
    text.is_of(
        &verified.facts.recording,
        &verified.facts.public,
        &verified.escrow,
        index,
    )
    .map_err(Refusal::ShareOfAnother)?;
    Ok(Checked {
        verified,
        index,
        share,
    })
}

impl Checked {
    /// What is asked.
    pub fn asked(&self) -> &Asked {
        &self.verified.asked
    }

    /// The request, and the recording's facts.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The number of the custodian's share.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Yes. `time`: now, unix time in milliseconds.
    pub fn approve(&self, key: &dyn CustodianKey, time: u64) -> Result<Vec<u8>, Refusal> {
        Ok(decision::approve(
            self.asked(),
            self.index,
            &self.share,
            key,
            time,
        )?)
    }
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked")
            .field("asked", self.asked())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// No. A request can be denied whatever else is wrong with it, as long as the log has it. `time`: now, unix time in
/// milliseconds.
pub fn deny(
    request: &Request,
    log: &PublicKey,
    custodians: &Escrow,
    key: &dyn CustodianKey,
    reason: Text,
    time: u64,
) -> Result<(Asked, Vec<u8>), Refusal> {
    let asked = request.asked(log)?;
    find(custodians, key)?;
    let bytes = decision::deny(&asked, reason, key, time)?;
    Ok((asked, bytes))
}
