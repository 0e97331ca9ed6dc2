//! The posture report: what an endpoint states about its room, signed with its identity key, for whoever asks "who
//! can see the media?" and was not there.
//!
//! - this file: the report, and what makes it consistent in itself
//! - `signed`: its signature, its file, its verification
//! - `people`: its text for a person
//!
//! A report is derived from live state alone and must never state more than that: it is one endpoint's view of the
//! roster, and it says so in its own text. Nothing in it is secret.

mod people;
mod signed;

pub use people::for_people;
pub use signed::{MAX_FILE, Signed, Verifier, WriteError, verify};

use serde::{Deserialize, Serialize};

use crate::identity::{Fingerprint, Identity, IdentityError, Role, is_plain};
use crate::policy::{Claim, Escrow, RoomTag};
use crate::room::{Member, State, Status};

/// Version of the form.
pub const VERSION: u32 = 1;

/// Longest time between a report's making and its expiry, in seconds: one day.
pub const MAX_LIFETIME: u64 = 24 * 60 * 60;

/// Longest nonce, in bytes of printable text.
pub const MAX_NONCE: usize = 128;

/// What the report means, in the report: whoever reads one field must find its limits beside it.
pub const MEANING: &str = "This is one endpoint's view of the room in this epoch, drawn from the group's state and the \
    members' certificates. servers_can_see_media is about what carries the media and the room's messages (relays, \
    SFUs, delivery services): false means that nobody has keys beyond those listed here as key_holders, recipients \
    and escrow; null means that this endpoint cannot say. A recorder that an organisation runs is a key holder and is \
    listed as one. Everybody listed can open what their entry says, and can pass on what they see. Which of the \
    listed members is whom is as sure as the certificate authority, and as sure as people only where verified is true.";

/// What a room's state does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Unix time in seconds.
    pub now: u64,
    /// Seconds until the report expires, 1 to [`MAX_LIFETIME`]; it never outlives the signer's certificate.
    pub lifetime: u64,
    /// What a verifier wants to find in it, at most [`MAX_NONCE`] bytes of printable text.
    pub nonce: Option<String>,
    /// MLS cipher suite of the group (IANA number).
    pub mls_suite: u16,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// Subject id of its certificate.
    pub id: String,
    /// Its certified roles.
    pub roles: Vec<Role>,
    /// Organisation that operates it, where the certificate names one.
    pub operator: Option<String>,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the root certificate that its chain ends in.
    pub root: Fingerprint,
}

/// A member of the group: it has the keys of this epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyHolder {
    /// Its leaf in the ratchet tree (RFC 9420 §4.1).
    pub leaf: u32,
    /// Subject id of its certificate.
    pub id: String,
    /// Its certified roles.
    pub roles: Vec<Role>,
    /// Organisation that operates it, where the certificate names one.
    pub operator: Option<String>,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
}

/// Kinds of those who can open something of this room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seer {
    /// Participants in the roster open the media.
    Participants,
    /// Recorders in the roster open the media.
    Recorders,
    /// The recordings' recipients open recordings, each alone.
    Recipients,
    /// The custodians open recordings, so many together.
    Custodians,
}

/// Is the room recorded?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// On or off. Off is a recorder's promise as long as it is a key holder.
    pub on: bool,
    /// Unix time in seconds of the last change that this endpoint saw.
    pub since: Option<u64>,
}

/// What an endpoint states about its room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this form: 1.
    pub version: u32,
    /// What the report means and what it cannot promise: [`MEANING`].
    pub meaning: String,
    /// Unix time in seconds at which it was made.
    pub issued_at: u64,
    /// Unix time in seconds after which it says nothing any more.
    pub expires_at: u64,
    /// The verifier's nonce, where one was given.
    pub nonce: Option<String>,
    /// Who signs it.
    pub signer: Signer,
    /// Where the signer stands with its room.
    pub state: State,
    /// Salt and digest of the room's name: who knows the name can check it, nobody can read it.
    pub room: RoomTag,
    /// MLS group id, hex.
    pub group_id: String,
    /// Epoch of the group.
    pub epoch: u64,
    /// The epoch's code, as on the members' screens.
    pub epoch_code: String,
    /// The room's claim.
    pub claim: Claim,
    /// Weakest claim under which the signer sends.
    pub accept: Claim,
    /// Does the claim meet it? Where not, the signer sends nothing.
    pub accepted: bool,
    /// Can what carries the media see it? False: nobody has keys beyond those listed here. Null: the signer has no
    /// current keys, so it cannot say.
    pub servers_can_see_media: Option<bool>,
    /// Who can see something, in short.
    pub who_can_see_media: Vec<Seer>,
    /// Every member of the group, by leaf.
    pub key_holders: Vec<KeyHolder>,
    /// SHA-256 of the certificates (or keys) of everybody who can open recordings alone.
    pub recipients: Vec<Fingerprint>,
    /// Custodians who can open a recording together.
    pub escrow: Option<Escrow>,
    /// The recording state.
    pub recording: Recording,
    /// Salted hash of the consent, hex.
    pub consent: Option<String>,
    /// Recordings are kept for so many days; null: no end is promised.
    pub retention_days: Option<u32>,
    /// SHA-256 of the policy that all of this stands in, hex.
    pub policy_digest: String,
    /// SHA-256 of the root certificates that the room trusts.
    pub roots: Vec<Fingerprint>,
    /// MLS cipher suite (IANA number).
    pub mls_suite: u16,
    /// SFrame cipher suite (IANA number).
    pub sframe_suite: u16,
    /// Did people at this endpoint compare codes with everybody else in the room, and were they equal?
    pub verified: bool,
}

/// Why there is no report, or none to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostureError {
    /// There is no group yet.
    #[error("there is no room yet to report on")]
    NoRoom,
    /// The lifetime is out of bounds.
    #[error("a posture report lives for 1 to {MAX_LIFETIME} seconds")]
    Lifetime,
    /// The nonce is not printable or too long.
    #[error("a nonce is 1 to {MAX_NONCE} bytes of printable text")]
    BadNonce,
    /// The bytes are no report.
    #[error("this is no posture report: {0}")]
    Unreadable(String),
    /// The signer's certificate is not believed.
    #[error("the signer's certificate: {0}")]
    Certificate(#[from] IdentityError),
    /// The signature does not belong to it.
    #[error("the signature is wrong: the report was changed, or another key signed it")]
    Signature,
    /// Another certificate than the report names.
    #[error("it is signed by another endpoint than it names as its signer")]
    AnotherSigner,
    /// Two statements that cannot both be true.
    #[error("the report contradicts itself: {0}")]
    Contradiction(&'static str),
    /// Too old.
    #[error("the report has expired: ask for a new one")]
    Expired,
    /// From the future.
    #[error("the report was made in the future: one of the clocks is wrong")]
    Future,
    /// Another nonce.
    #[error(
        "the report does not carry the nonce that was asked for: it was made for somebody else, or earlier"
    )]
    Nonce,
    /// Another room.
    #[error("the report is about another room")]
    AnotherRoom,
}

impl Report {
    /// What this endpoint can state now.
    pub fn new(status: &Status, own: &Identity, options: &Options) -> Result<Self, PostureError> {
        let policy = status.policy.as_ref().ok_or(PostureError::NoRoom)?;
        if !(1..=MAX_LIFETIME).contains(&options.lifetime) {
            return Err(PostureError::Lifetime);
        }
        if options.nonce.as_deref().is_some_and(|nonce| !is_nonce(nonce)) {
            return Err(PostureError::BadNonce);
        }
        if own.not_after <= options.now {
            return Err(IdentityError::Expired.into());
        }
        let key_holders = status
            .members
            .iter()
            .map(KeyHolder::new)
            .collect::<Result<Vec<_>, _>>()?;
        let mut report = Self {
            version: VERSION,
            meaning: MEANING.to_owned(),
            issued_at: options.now,
            expires_at: options.now.saturating_add(options.lifetime).min(own.not_after),
            nonce: options.nonce.clone(),
            signer: Signer::new(own),
            state: status.state,
            room: policy.room.clone(),
            group_id: status.group_id.clone(),
            epoch: status.epoch,
            epoch_code: status.epoch_code.clone(),
            claim: policy.claim,
            accept: status.accept,
            accepted: status.accepted,
            servers_can_see_media: None,
            who_can_see_media: Vec::new(),
            key_holders,
            recipients: policy.recipients.clone(),
            escrow: policy.escrow.clone(),
            recording: Recording {
                on: policy.recording,
                since: status.recording_since,
            },
            consent: policy.consent.clone(),
            retention_days: policy.retention_days,
            policy_digest: status.policy_digest.clone(),
            roots: policy.roots.clone(),
            mls_suite: options.mls_suite,
            sframe_suite: policy.sframe_suite,
            verified: status.verified,
        };
        report.servers_can_see_media = report.servers();
        report.who_can_see_media = report.seers();
        report.check()?;
        Ok(report)
    }

    /// Its bytes, the one form that it has.
    pub fn encode(&self) -> Vec<u8> {
        // Cannot fail: there is no map with other keys than text. No bytes would be refused by everybody.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a report's bytes and checks that it is consistent in itself. It says nothing about who made it.
    pub fn decode(bytes: &[u8]) -> Result<Self, PostureError> {
        let report: Self =
            serde_json::from_slice(bytes).map_err(|e| PostureError::Unreadable(e.to_string()))?;
        // One form only: no second reading by software that takes another one of two equal fields.
        if report.encode() != bytes {
            return Err(PostureError::Unreadable(
                "it is not in its canonical form".to_owned(),
            ));
        }
        report.check()?;
        Ok(report)
    }

    /// `servers_can_see_media`. Media keys come out of the group's key schedule alone, and every leaf of the group is
    /// listed as a key holder: whoever has the current epoch knows that there is nobody else. Who has not (joining,
    /// stale, evicted) cannot know what the room is now. It is never derived as true: what carries the media and holds
    /// keys is in the roster, or it has none.
    fn servers(&self) -> Option<bool> {
        let current = matches!(self.state, State::Ready | State::Transition);
        (current && self.own_entry().is_some()).then_some(false)
    }

    fn seers(&self) -> Vec<Seer> {
        let role = |role: Role| self.key_holders.iter().any(|holder| holder.roles.contains(&role));
        [
            (Seer::Participants, role(Role::Participant)),
            (Seer::Recorders, role(Role::Recorder)),
            (Seer::Recipients, !self.recipients.is_empty()),
            (Seer::Custodians, self.escrow.is_some()),
        ]
        .into_iter()
        .filter_map(|(seer, there)| there.then_some(seer))
        .collect()
    }

    /// The signer among the key holders.
    pub fn own_entry(&self) -> Option<&KeyHolder> {
        self.key_holders
            .iter()
            .find(|holder| holder.fingerprint == self.signer.fingerprint)
    }

    /// Contradictions and things that no honest software writes.
    fn check(&self) -> Result<(), PostureError> {
        let contradiction = |what: &'static str| Err(PostureError::Contradiction(what));
        if self.version != VERSION {
            return Err(PostureError::Unreadable(
                "this software knows version 1 only".to_owned(),
            ));
        }
        if self.meaning != MEANING {
            return contradiction("its text about what it means is not that of version 1");
        }
        self.check_form()?;
        if self.expires_at <= self.issued_at || self.expires_at - self.issued_at > MAX_LIFETIME {
            return contradiction("it does not expire within a day of its making");
        }
        self.check_roster()?;
        if self.accepted != (self.claim <= self.accept) {
            return contradiction("whether its claim is accepted does not follow from the two claims");
        }
        self.check_claim()?;
        if self.servers_can_see_media != self.servers() {
            return contradiction("servers_can_see_media does not follow from the signer's state");
        }
        if self.who_can_see_media != self.seers() {
            return contradiction("who_can_see_media does not follow from the lists");
        }
        Ok(())
    }

    /// Text that people will read must be what it looks like.
    fn check_form(&self) -> Result<(), PostureError> {
        let unreadable = |what: &str| Err(PostureError::Unreadable(what.to_owned()));
        let names = [(&self.signer.id, &self.signer.operator)];
        let mut names = names
            .into_iter()
            .chain(self.key_holders.iter().map(|h| (&h.id, &h.operator)));
        if !names.all(|(id, operator)| is_plain(id) && operator.as_deref().is_none_or(is_plain)) {
            return unreadable("a name in it is not 1 to 128 bytes of printable text");
        }
        if self.nonce.as_deref().is_some_and(|nonce| !is_nonce(nonce)) {
            return Err(PostureError::BadNonce);
        }
        if !is_hex(&self.group_id, 2..=510)
            || !is_hex(&self.policy_digest, 64..=64)
            || self
                .consent
                .as_deref()
                .is_some_and(|consent| !is_hex(consent, 64..=128))
        {
            return unreadable("the group id, the policy's digest or the consent is not in hex digits");
        }
        let is_code = self.epoch_code.split(' ').count() == 6
            && self
                .epoch_code
                .split(' ')
                .all(|group| group.len() == 5 && group.bytes().all(|b| b.is_ascii_digit()));
        if !is_code {
            return unreadable("the epoch's code is not 30 digits in 6 groups");
        }
        Ok(())
    }

    fn check_roster(&self) -> Result<(), PostureError> {
        let contradiction = |what: &'static str| Err(PostureError::Contradiction(what));
        let holders = &self.key_holders;
        let roles = |roles: &[Role]| !roles.is_empty() && roles.is_sorted_by(|a, b| a < b);
        if !holders.is_sorted_by(|a, b| a.leaf < b.leaf) {
            return contradiction("two members are at one leaf, or the list is not in order");
        }
        if !roles(&self.signer.roles) || !holders.iter().all(|holder| roles(&holder.roles)) {
            return contradiction("somebody has no role, or one twice");
        }
        let mut fingerprints: Vec<_> = holders.iter().map(|holder| holder.fingerprint).collect();
        fingerprints.sort_unstable();
        if !fingerprints.is_sorted_by(|a, b| a < b) {
            return contradiction("one certificate is at two leaves");
        }
        match self.own_entry() {
            Some(own)
                if own.id != self.signer.id
                    || own.roles != self.signer.roles
                    || own.operator != self.signer.operator =>
            {
                contradiction("the signer's own entry describes somebody else")
            }
            None if matches!(self.state, State::Ready | State::Transition | State::Stale) => {
                contradiction("the signer is not in its own roster")
            }
            _ => Ok(()),
        }
    }

    /// What each claim rules out.
    fn check_claim(&self) -> Result<(), PostureError> {
        let contradiction = |what: &'static str| Err(PostureError::Contradiction(what));
        let recorders = self.seers().contains(&Seer::Recorders);
        match self.claim {
            Claim::Strict if recorders || self.recording.on => {
                contradiction("a strict room has a recorder or is recorded")
            }
            Claim::Strict | Claim::Escrow if !self.recipients.is_empty() => {
                contradiction("only a room with the claim recorded has recipients")
            }
            Claim::Strict | Claim::Recorded if self.escrow.is_some() => {
                contradiction("only a room with the claim escrow has one")
            }
            Claim::Escrow if self.escrow.is_none() => contradiction("the claim escrow needs one"),
            _ => match &self.escrow {
                Some(escrow) if !(1 <= escrow.m && escrow.m <= escrow.n) => {
                    contradiction("its escrow asks for more custodians than there are, or for none")
                }
                _ => Ok(()),
            },
        }
    }
}

impl Signer {
    fn new(identity: &Identity) -> Self {
        Self {
            id: identity.subject.clone(),
            roles: identity.roles.clone(),
            operator: identity.operator.clone(),
            fingerprint: identity.fingerprint,
            root: identity.root,
        }
    }
}

impl KeyHolder {
    fn new(member: &Member) -> Result<Self, PostureError> {
        Ok(Self {
            leaf: member.leaf,
            id: member.id.clone(),
            roles: member.roles.clone(),
            operator: member.operator.clone(),
            fingerprint: member
                .fingerprint
                .parse()
                .map_err(|_| PostureError::Unreadable("a member's fingerprint is none".to_owned()))?,
        })
    }
}

fn is_nonce(nonce: &str) -> bool {
    nonce.len() <= MAX_NONCE && is_plain(nonce)
}

fn is_hex(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len())
        && text.len().is_multiple_of(2)
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
