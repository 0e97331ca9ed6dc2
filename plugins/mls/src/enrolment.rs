//! What the successor of a lost device must know to take part in a room again: the enrolment.
//!
//! JSON, which `gst-mls backup` encrypts as one age file. It names the room and how to reach it, the authorities to trust,
//! the policy as it was last seen, and what to ask an authority for. It must never hold a key or anything of a group's
//! state: who opens it knows of the room, and gets nowhere with it. A restored device makes a key of its own.
//!
//! An age file does not say who made it. So nothing is believed because it stands here: the form is checked, and what
//! matters is shown to a person.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::identity::issue::{IssueError, chain_pem};
use crate::identity::{Facts, Fingerprint, Identity, Role, describe, is_plain};
use crate::policy::{Act, Holder, Policy, Right, Who};
use crate::room::Status;

/// Version of the form that is written here.
pub const VERSION: u32 = 1;
/// Longest enrolment, in bytes: a policy has at most 64 kB, and certificates of authorities some.
pub const MAX_ENCODED: usize = 512 << 10;

/// Longest name of a room and longest address of a delivery, in bytes.
const MAX_TEXT: usize = 4096;
/// Most authorities: a room trusts no more roots.
const MAX_AUTHORITIES: usize = 16;

/// One endpoint's enrolment in one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Version of this form: 1.
    pub version: u32,
    /// Unix time in seconds at which it was written down.
    pub made: u64,
    /// Name of the room: the property `room`.
    pub room: String,
    /// How its messages are carried: the property `delivery`, without a login.
    pub delivery: String,
    /// Certificates of the authorities that the endpoint trusts, PEM: the content of `ca-file`.
    pub ca: String,
    /// Whom the authority knows it as.
    pub identity: Certified,
    /// The room's policy as it was last seen. For reading: the one in the group is in force.
    pub policy: Policy,
}

/// What a certificate said, and what a new one is to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certified {
    /// Subject id: the common name.
    pub subject: String,
    /// Organisation that operates the endpoint.
    pub operator: Option<String>,
    /// Certified roles, at least one.
    pub roles: Vec<Role>,
    /// The root certificate of the authority, which is one of `ca`.
    pub root: Fingerprint,
    /// The certificate that is to be denied once its device is lost.
    pub certificate: Fingerprint,
}

/// Why there is no enrolment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// More than [`MAX_ENCODED`] bytes.
    #[error("it has more than {MAX_ENCODED} bytes")]
    TooLong,
    /// Of another version.
    #[error("it has version {0}, and this software knows version {VERSION} only: take a newer gst-mls")]
    Version(u32),
    /// No JSON of this form.
    #[error("it is no enrolment: {0}")]
    Unreadable(String),
    /// A field that cannot be so.
    #[error("its field `{0}` {1}")]
    Field(&'static str, String),
    /// The endpoint has seen no policy yet.
    #[error("the endpoint is not in the room yet: wait until `gst-mls room status` says ready")]
    NotInRoom,
    /// Another endpoint's certificate.
    #[error(
        "the certificate is not the one that the endpoint in the room has: name the files of the same mlskeyring"
    )]
    OtherCertificate,
    /// The library.
    #[error(transparent)]
    Encoding(#[from] IssueError),
}

impl Enrolment {
    /// Writes down at `made` (unix time in seconds) how `own` takes part in the room that `status` tells of. `roots`: the
    /// authorities (DER) that it trusts.
    pub fn new(
        status: &Status,
        delivery: &str,
        own: &Identity,
        roots: &[Vec<u8>],
        made: u64,
    ) -> Result<Self, EnrolmentError> {
        let policy = status.policy.clone().ok_or(EnrolmentError::NotInRoom)?;
        let member = status.members.iter().find(|member| member.own);
        let member = member.ok_or(EnrolmentError::NotInRoom)?;
        if member.fingerprint != own.fingerprint.to_string() {
            return Err(EnrolmentError::OtherCertificate);
        }
        let enrolment = Self {
            version: VERSION,
            made,
            room: status.room.clone(),
            delivery: without_login(delivery),
            ca: chain_pem(roots)?,
            identity: Certified {
                subject: own.subject.clone(),
                operator: own.operator.clone(),
                roles: own.roles.clone(),
                root: own.root,
                certificate: own.fingerprint,
            },
            policy,
        };
        enrolment.check()?;
        Ok(enrolment)
    }

    /// Its JSON, made to be read by a person as well.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolmentError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| EnrolmentError::Unreadable(error.to_string()))?;
        bytes.push(b'\n');
        if bytes.len() > MAX_ENCODED {
            return Err(EnrolmentError::TooLong);
        }
        Ok(bytes)
    }

    /// Reads and checks what [`Enrolment::encode`] wrote. A field that is not known is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        /// Read first, because another version may have other fields.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }

        if bytes.len() > MAX_ENCODED {
            return Err(EnrolmentError::TooLong);
        }
        let unreadable = |error: serde_json::Error| EnrolmentError::Unreadable(error.to_string());
        let Versioned { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if version != VERSION {
            return Err(EnrolmentError::Version(version));
        }
        let enrolment: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        enrolment.check()?;
        Ok(enrolment)
    }

    fn check(&self) -> Result<(), EnrolmentError> {
        let wrong = |field, reason: &str| Err(EnrolmentError::Field(field, reason.to_owned()));
        for (field, text) in [("room", &self.room), ("delivery", &self.delivery)] {
            if text.is_empty() || text.len() > MAX_TEXT || text.contains(char::is_control) {
                return wrong(
                    field,
                    "is empty, too long, or has characters that cannot be printed",
                );
            }
        }
        let Certified {
            subject,
            operator,
            roles,
            root,
            ..
        } = &self.identity;
        if !is_plain(subject) || operator.as_ref().is_some_and(|operator| !is_plain(operator)) {
            return wrong(
                "identity",
                "has a name that is not 1 to 128 bytes of printable text",
            );
        }
        if roles.is_empty() {
            return wrong("identity", "has no role");
        }
        if !self.authorities()?.iter().any(|facts| facts.fingerprint == *root) {
            return wrong("identity", "names a root that is not in `ca`");
        }
        self.policy
            .validate()
            .map_err(|error| EnrolmentError::Field("policy", format!("is none: {error}")))?;
        if !self.policy.room.is_of(&self.room) {
            return wrong("policy", "is another room's");
        }
        Ok(())
    }

    /// What the certificates in `ca` say.
    pub fn authorities(&self) -> Result<Vec<Facts>, EnrolmentError> {
        let wrong = |reason: &str| EnrolmentError::Field("ca", reason.to_owned());
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.ca.as_bytes())
            .map(|der| der.ok().and_then(|der| describe(&der).ok()))
            .take(MAX_AUTHORITIES + 1)
            .map(|facts| facts.filter(|facts| facts.authority).ok_or(()))
            .collect();
        let found = found.map_err(|()| wrong("holds something else than certificates of authorities"))?;
        if found.is_empty() || found.len() > MAX_AUTHORITIES {
            return Err(wrong("holds none or more than 16 certificates"));
        }
        Ok(found)
    }

    /// The roles and rights that the policy gives to the old certificate itself. A new one does not have them, whoever
    /// it is issued to.
    pub fn bound_to_certificate(&self) -> (Vec<Role>, Vec<Act>) {
        let old = self.identity.certificate;
        let admitted = self.policy.admit.iter();
        let roles = admitted
            .filter(|admission| admission.who == Who::Certificate(old))
            .map(|admission| admission.role)
            .collect();
        let holds = |act: &Act| match self.policy.rights.of(*act) {
            Right::Participants => false,
            Right::Holders(holders) => holders.contains(&Holder::Certificate(old)),
        };
        (roles, Act::ALL.into_iter().filter(holds).collect())
    }
}

/// The address without what stands before an `@`: who may use a server is no part of an enrolment.
fn without_login(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKey;
    use crate::identity::issue::{Authority, Subject, Validity};
    use crate::policy::{Claim, RoomTag, fixtures};
    use crate::room::{State, member_of};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: u64 = fixtures::NOW;

    /// Ben, in the room `visit`, with his authority.
    fn ben() -> (Status, Identity, Authority) {
        let validity = Validity::days(NOW, 30);
        let ca = Authority::root("Clinic", IdentityKey::from_seed(&[1; 32]), validity).unwrap();
        let key = IdentityKey::from_seed(&[2; 32]);
        let subject = Subject {
            id: "ben".into(),
            operator: Some("Ward 3".into()),
            roles: vec![Role::Participant],
        };
        let (_, own) = ca.issue(key.public(), &subject, validity).unwrap();
        let policy = Policy {
            room: RoomTag::new("visit", [7; 16]),
            ..fixtures::strict()
        };
        let status = Status {
            state: State::Ready,
            room: "visit".into(),
            group_id: "00".into(),
            epoch: 3,
            epoch_code: String::new(),
            members: vec![member_of(1, &own, true)],
            policy: Some(policy),
            policy_digest: String::new(),
            accept: Claim::Strict,
            accepted: true,
            verified: false,
            recording_since: None,
            counters: Default::default(),
        };
        (status, own, ca)
    }

    fn enrolment() -> Enrolment {
        let (status, own, ca) = ben();
        let roots = [ca.root_certificate().to_vec()];
        Enrolment::new(&status, "sqlite:/run/rooms", &own, &roots, NOW).unwrap()
    }

    /// With one of its fields (`/`-separated) replaced.
    fn with(field: &str, value: Value) -> Result<Enrolment, EnrolmentError> {
        let mut json = serde_json::to_value(enrolment()).unwrap();
        let (parent, name) = field.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[name] = value;
        Enrolment::decode(json.to_string().as_bytes())
    }

    #[test]
    fn what_is_written_is_read_again_in_any_order_of_its_fields() {
        let enrolment = enrolment();
        assert_eq!(enrolment.identity.subject, "ben");
        assert_eq!(
            Enrolment::decode(&enrolment.encode().unwrap()),
            Ok(enrolment.clone())
        );
        // As a tool would write it that sorts by name.
        let sorted = serde_json::to_value(&enrolment).unwrap().to_string();
        assert_eq!(Enrolment::decode(sorted.as_bytes()), Ok(enrolment));
    }

    #[test]
    fn who_is_not_in_the_room_or_has_another_certificate_has_no_enrolment() {
        let (status, own, ca) = ben();
        let roots = [ca.root_certificate().to_vec()];
        let new = |status: &Status, own: &Identity| Enrolment::new(status, "app", own, &roots, NOW);
        let nowhere = Status {
            policy: None,
            members: Vec::new(),
            ..status.clone()
        };
        assert_eq!(new(&nowhere, &own), Err(EnrolmentError::NotInRoom));
        let removed = Status {
            members: Vec::new(),
            ..status.clone()
        };
        assert_eq!(new(&removed, &own), Err(EnrolmentError::NotInRoom));
        let other = Identity {
            fingerprint: fixtures::fp(9),
            ..own.clone()
        };
        assert_eq!(new(&status, &other), Err(EnrolmentError::OtherCertificate));
        let other =
            Authority::root("Other", IdentityKey::from_seed(&[3; 32]), Validity::days(NOW, 30)).unwrap();
        let other = [other.root_certificate().to_vec()];
        assert!(matches!(
            Enrolment::new(&status, "app", &own, &other, NOW),
            Err(EnrolmentError::Field("identity", _))
        ));
    }

    #[test]
    fn what_cannot_be_so_is_refused_and_named() {
        let certificate = {
            let (_, _, ca) = ben();
            let key = IdentityKey::from_seed(&[4; 32]);
            let subject = Subject {
                id: "x".into(),
                operator: None,
                roles: vec![Role::Participant],
            };
            let (chain, _) = ca.issue(key.public(), &subject, Validity::days(NOW, 1)).unwrap();
            chain_pem(&chain[..1]).unwrap()
        };
        for (field, value, expected) in [
            ("/version", json!(2), "version 2"),
            ("/version", json!("1"), "no enrolment"),
            ("/extra", json!(1), "unknown field `extra`"),
            ("/room", json!(""), "`room`"),
            ("/room", json!("a\nb"), "`room`"),
            ("/room", json!("other"), "another room's"),
            ("/delivery", json!("x".repeat(MAX_TEXT + 1)), "`delivery`"),
            ("/ca", json!(""), "none or more than 16"),
            (
                "/ca",
                json!(certificate),
                "something else than certificates of authorities",
            ),
            ("/ca", json!(enrolment().ca.repeat(17)), "none or more than 16"),
            ("/identity/subject", json!("\u{202e}neb"), "printable"),
            ("/identity/operator", json!("\u{1b}[2J"), "printable"),
            ("/identity/roles", json!([]), "no role"),
            ("/identity/roles", json!(["observer"]), "observer"),
            ("/identity/root", json!(fixtures::fp(9)), "not in `ca`"),
            ("/identity/key", json!("x"), "unknown field `key`"),
            ("/policy/roots", json!([]), "`policy` is none"),
            ("/policy", json!(null), "no enrolment"),
        ] {
            let error = with(field, value.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{field} {value}: {error}");
        }
        assert_eq!(
            Enrolment::decode(&vec![b' '; MAX_ENCODED + 1]),
            Err(EnrolmentError::TooLong)
        );
    }

    #[test]
    fn nothing_in_the_address_lets_anybody_use_a_server() {
        for (address, kept) in [
            ("sqlite:", "sqlite:"),
            ("sqlite:/run/me@here/rooms", "sqlite:/run/me@here/rooms"),
            ("sqlite:///run/me@here", "sqlite:///run/me@here"),
            ("app", "app"),
            ("nats://host:4222", "nats://host:4222"),
            ("nats://ben:p@ss@host:4222/a@b", "nats://host:4222/a@b"),
            ("nats://token@host", "nats://host"),
        ] {
            assert_eq!(without_login(address), kept);
        }
    }

    #[test]
    fn what_hangs_on_the_old_certificate_is_told() {
        let mut enrolment = enrolment();
        assert_eq!(enrolment.bound_to_certificate(), (vec![], vec![]));
        let old = enrolment.identity.certificate;
        enrolment.policy.admit = vec![fixtures::only(Role::Participant, old)];
        enrolment.policy.rights.remove = Right::Holders(vec![Holder::Certificate(old)]);
        enrolment.policy.rights.add = Right::Participants;
        enrolment.policy.rights.policy = fixtures::holders(&["ben"]);
        assert_eq!(
            enrolment.bound_to_certificate(),
            (vec![Role::Participant], vec![Act::Remove])
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Enrolment::decode(&bytes).is_err());
        }

        #[test]
        fn a_changed_byte_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = enrolment().encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = Enrolment::decode(&bytes) {
                prop_assert!(Enrolment::decode(&read.encode().unwrap()).is_ok());
            }
        }
    }
}
