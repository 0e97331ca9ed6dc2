//! Which decisions count at the station: pure, with the time passed in. Every file counts, is a custodian's no, or is a
//! misuse that is told and logged.

use age::x25519::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Asked;
use super::decision::{Unverified, Verdict, bound};
use crate::age_file;
use crate::audit::{Id, Text};
use crate::bundle::{Escrow, EscrowFacts, Share, ShareError, combine};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::recording::Facts;

/// Most subsets of shares that are tried where some are wrong.
const MAX_TRIES: usize = 10_000;

/// What is not allowed, or does not do. Its nick stands first in the log's entry, and stays the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// Not what `approve` or `deny` writes.
    #[error("it is no custodian's decision ({0})")]
    Unreadable(String),
    /// Nobody in the file of custodians.
    #[error("it says that it is of {0}, who is no custodian of this recording")]
    UnknownCustodian(Digest),
    /// Not signed by whom it names.
    #[error("it has not the signature of custodian {0}: it is forged, or was changed on its way")]
    BadSignature(Digest),
    /// For another recording.
    #[error("custodian {by} decided about recording {recording}, and not about this one")]
    AnotherRecording {
        /// Who.
        by: Digest,
        /// The recording of the decision.
        recording: RecordingId,
    },
    /// For another request for the same recording: an approval that was given before.
    #[error(
        "custodian {by} decided about request {access}, and not about this one: each request needs its own approvals"
    )]
    AnotherRequest {
        /// Who.
        by: Digest,
        /// The request of the decision.
        access: Id,
    },
    /// The custodian was shown something else than the log has.
    #[error("custodian {0} was shown a request that says something else than the log")]
    ChangedRequest(Digest),
    /// The requester's own.
    #[error("custodian {0} is who asks: nobody approves their own request")]
    OwnApproval(Digest),
    /// The share does not open with the station's key, or is bound to another request.
    #[error("the share of custodian {by} {why}")]
    DamagedShare {
        /// Who.
        by: Digest,
        /// What is wrong.
        why: String,
    },
    /// The share says itself that it is of something else.
    #[error("the share of custodian {by} is not of this recording: {why}")]
    AnotherShare {
        /// Who.
        by: Digest,
        /// Of what it is.
        why: String,
    },
    /// The same custodian again.
    #[error("there is another approval of custodian {0}: each counts once")]
    Twice(Digest),
    /// The custodian said no before.
    #[error("custodian {0} has said no to this request: the log has it")]
    Withdrawn(Digest),
    /// The share was put together with others and is wrong.
    #[error(
        "the share of custodian {0} does not give the recording's key together with the others: it is damaged or forged"
    )]
    WrongShare(Digest),
    /// None of them together give the key.
    #[error("the shares do not give the recording's key: at least one of them is damaged or forged")]
    WrongShares,
    /// Not enough.
    #[error("{needed} approvals of different custodians are needed, and {given} count")]
    TooFew {
        /// M.
        needed: u8,
        /// So many count.
        given: usize,
    },
    /// Over, or the station's clock was set back.
    #[error(
        "the request does not count any more: it was open until {expires} ms, and now it is {now} ms (unix time). Ask again"
    )]
    Expired {
        /// Until when.
        expires: u64,
        /// Now.
        now: u64,
    },
    /// It was opened by this request before.
    #[error("request {0} has opened the recording already, and opens it once: ask again")]
    Replayed(Id),
    /// The log has no such request.
    #[error(
        "the audit log has no request for this recording with this station key: what is not logged is not opened"
    )]
    NotRequested,
    /// The custodians' file was exchanged.
    #[error(
        "the file of custodians is not this recording's: its fingerprint is {given}, and the recording says {named}"
    )]
    AnotherEscrow {
        /// Of the file.
        given: Digest,
        /// In recording.json.
        named: Digest,
    },
    /// A share's file in the recording is not the dealer's. Not sent to its custodian.
    #[error("{name} {why}: its custodian cannot approve. It is left out of the request")]
    ShareFile {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Misuse {
    /// Its word in the log.
    pub fn nick(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::UnknownCustodian(_) => "unknown-custodian",
            Self::BadSignature(_) => "bad-signature",
            Self::AnotherRecording { .. } => "another-recording",
            Self::AnotherRequest { .. } => "another-request",
            Self::ChangedRequest(_) => "changed-request",
            Self::OwnApproval(_) => "own-approval",
            Self::DamagedShare { .. } => "damaged-share",
            Self::AnotherShare { .. } => "another-share",
            Self::Twice(_) => "twice",
            Self::Withdrawn(_) => "withdrawn",
            Self::WrongShare(_) => "wrong-share",
            Self::WrongShares => "wrong-shares",
            Self::TooFew { .. } => "too-few",
            Self::Expired { .. } => "expired",
            Self::Replayed(_) => "replayed",
            Self::NotRequested => "not-requested",
            Self::AnotherEscrow { .. } => "another-escrow",
            Self::ShareFile { .. } => "share-file",
        }
    }

    /// As the log has it.
    pub fn reason(&self) -> Text {
        Text::lossy(&format!("{}: {self}", self.nick()))
    }
}

/// A file that was handed in as a decision.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Its name, for whoever reads the refusal.
    pub name: String,
    /// What is in it. Nothing: it cannot be read, or is too long.
    pub bytes: Option<Vec<u8>>,
}

/// What decisions are held against.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What the log says is asked.
    pub asked: &'a Asked,
    /// The recording's facts.
    pub facts: &'a Facts,
    /// Its escrow.
    pub escrow: &'a EscrowFacts,
    /// Its custodians, who have that escrow's fingerprint.
    pub custodians: &'a Escrow,
}

/// An approval that counts, with its share in memory.
#[derive(Debug)]
pub struct Approval {
    /// Whose.
    pub custodian: Digest,
    /// The file that it came in.
    pub name: String,
    /// Secret.
    pub share: Share,
}

/// A custodian's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Whose.
    pub custodian: Digest,
    /// Why.
    pub reason: Text,
}

/// What became of the files.
#[derive(Debug, Default)]
pub struct Judged {
    /// Of different custodians.
    pub approvals: Vec<Approval>,
    /// Of different custodians. They count against that custodian's own approval, and against no other's: one alone
    /// cannot keep M others from opening.
    pub denials: Vec<Denial>,
    /// By the file that it came in.
    pub misuses: Vec<(String, Misuse)>,
}

enum One {
    Approval(Digest, Share),
    Denial(Denial),
}

/// Judges all files with the station's one-time key.
pub fn judge(case: &Case<'_>, key: &Identity, files: &[Submitted]) -> Judged {
    let mut judged = Judged::default();
    for Submitted { name, bytes } in files {
        match judge_one(case, key, bytes.as_deref()) {
            Err(misuse) => judged.misuses.push((name.clone(), misuse)),
            Ok(One::Denial(denial)) => {
                if !judged.denials.contains(&denial) {
                    judged.denials.push(denial);
                }
            }
            Ok(One::Approval(custodian, share)) => {
                let is_there = judged.approvals.iter().any(|known| known.custodian == custodian);
                if is_there {
                    judged.misuses.push((name.clone(), Misuse::Twice(custodian)));
                } else {
                    let name = name.clone();
                    judged.approvals.push(Approval {
                        custodian,
                        name,
                        share,
                    });
                }
            }
        }
    }
    let denials = &judged.denials;
    let denied = |who: &Digest| denials.iter().any(|denial| denial.custodian == *who);
    judged.approvals.retain(|approval| !denied(&approval.custodian));
    judged
}

fn judge_one(case: &Case<'_>, key: &Identity, bytes: Option<&[u8]>) -> Result<One, Misuse> {
    let Case {
        asked,
        facts,
        escrow,
        custodians,
    } = *case;
    let unreadable = |why: &str| Misuse::Unreadable(Text::lossy(why).to_string());
    let bytes = bytes.ok_or_else(|| unreadable("no file that can be read, or too long"))?;
    let unverified = Unverified::decode(bytes).map_err(|why| unreadable(&why))?;
    let by = unverified.unverified().custodian;
    let (index, custodian) = custodians.find(&by).ok_or(Misuse::UnknownCustodian(by))?;
    let decision = unverified
        .by(custodian.signing())
        .ok_or(Misuse::BadSignature(by))?;
    if decision.recording != asked.recording {
        let recording = decision.recording;
        return Err(Misuse::AnotherRecording { by, recording });
    }
    if decision.access != asked.access {
        let access = decision.access.clone();
        return Err(Misuse::AnotherRequest { by, access });
    }
    if decision.request != asked.digest {
        return Err(Misuse::ChangedRequest(by));
    }
    let (share, sealed) = match &decision.verdict {
        Verdict::Deny { reason } => {
            return Ok(One::Denial(Denial {
                custodian: by,
                reason: reason.clone(),
            }));
        }
        Verdict::Approve { share, sealed } => (*share, sealed),
    };
    if asked.is_by(custodian) {
        return Err(Misuse::OwnApproval(by));
    }
    let damaged = |why: String| Misuse::DamagedShare { by, why };
    let sealed = STANDARD
        .decode(sealed)
        .map_err(|_| damaged("is no base64".to_owned()))?;
    let text = age_file::open(&sealed, std::slice::from_ref(key)).map_err(|why| damaged(why.to_string()))?;
    let plaintext = text
        .strip_prefix(bound(&asked.digest, &[]).as_slice())
        .ok_or_else(|| damaged("was sealed for another request".to_owned()))?;
    let found = Share::decode(plaintext).map_err(|why| damaged(why.to_string()))?;
    found
        .is_of(&facts.recording, &facts.public, escrow, index)
        .map_err(|why| Misuse::AnotherShare { by, why })?;
    if share != index {
        let why = format!("the decision says share {share}");
        return Err(Misuse::AnotherShare { by, why });
    }
    Ok(One::Approval(by, found))
}

/// Puts the shares of approvals together to the recording's identity. Where some are wrong, and there are more than are
/// needed, those that give the key are found, and the others are told.
pub fn put_together(
    approvals: &[Approval],
    escrow: &EscrowFacts,
) -> Result<(Identity, Vec<(String, Misuse)>), Misuse> {
    let needed = usize::from(escrow.m);
    if approvals.len() < needed {
        return Err(Misuse::TooFew {
            needed: escrow.m,
            given: approvals.len(),
        });
    }
    let combine_some = |some: &[usize]| -> Result<Identity, ShareError> {
        combine(
            some.iter()
                .filter_map(|at| approvals.get(*at))
                .map(|approval| &approval.share),
        )
    };
    let mut some: Vec<usize> = (0..needed).collect();
    for _ in 0..MAX_TRIES {
        if let Ok(identity) = combine_some(&some) {
            let rest = some.get(1..).unwrap_or_default();
            let mut wrong = Vec::new();
            for (at, approval) in approvals.iter().enumerate() {
                // With all but one of those that are right, a right one gives the key, too.
                let with: Vec<usize> = rest.iter().copied().chain([at]).collect();
                if !some.contains(&at) && combine_some(&with).is_err() {
                    let misuse = Misuse::WrongShare(approval.custodian);
                    wrong.push((approval.name.clone(), misuse));
                }
            }
            return Ok((identity, wrong));
        }
        if !next(&mut some, approvals.len()) {
            break;
        }
    }
    Err(Misuse::WrongShares)
}

/// The next so many of `of`, in their order. False: those were the last.
fn next(some: &mut [usize], of: usize) -> bool {
    let count = some.len();
    for place in (0..count).rev() {
        let Some(at) = some.get(place).copied().filter(|at| *at < of - count + place) else {
            continue;
        };
        for (slot, value) in some.iter_mut().skip(place).zip(at + 1..) {
            *slot = value;
        }
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_is_tried_once() {
        let mut some = vec![0, 1];
        let mut all = vec![some.clone()];
        while next(&mut some, 4) {
            all.push(some.clone());
        }
        assert_eq!(all, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
        assert!(!next(&mut [0, 1, 2], 3));
    }
}
