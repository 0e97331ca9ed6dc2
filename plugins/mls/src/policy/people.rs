//! Who is admitted to a room, and who holds which right in it.
//!
//! Nobody is ever named by subject id alone: with two trusted roots, the second one could certify the same name. So a
//! subject id always stands beside the root that certified it.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::{Fingerprint, Identity, Role};

/// Longest subject id, in bytes.
const MAX_SUBJECT: usize = 128;

/// Whom an admission means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The holder of this one certificate.
    Certificate(Fingerprint),
    /// Any certificate of this root, or any that it issued to this subject id.
    Root {
        /// The root certificate.
        root: Fingerprint,
        /// Subject id.
        subject: Option<String>,
    },
}

impl Who {
    /// Is this identity meant?
    pub fn is(&self, identity: &Identity) -> bool {
        match self {
            Self::Certificate(fingerprint) => *fingerprint == identity.fingerprint,
            Self::Root { root, subject } => {
                *root == identity.root
                    && subject
                        .as_ref()
                        .is_none_or(|subject| *subject == identity.subject)
            }
        }
    }

    /// Does it mean everybody that `other` means, as far as the two entries alone can tell?
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Root { root, subject: None }, Self::Root { root: other, .. }) => root == other,
            _ => self == other,
        }
    }
}

/// Somebody may be a member in this role: `{ "role", "fingerprint" }`, or `{ "role", "root" }` for any certificate of
/// that root, or `{ "role", "root", "subject" }`.
///
/// A certificate with both roles needs an admission for each of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "AdmissionForm", into = "AdmissionForm")]
pub struct Admission {
    /// In which role.
    pub role: Role,
    /// Who.
    pub who: Who,
}

impl Admission {
    pub(super) fn validate(&self, roots: &[Fingerprint]) -> Result<(), &'static str> {
        match &self.who {
            Who::Certificate(_) => Ok(()),
            Who::Root { root, .. } if !roots.contains(root) => {
                Err("it names a root that is not among the room's `roots`")
            }
            Who::Root { subject, .. } => subject.as_deref().map_or(Ok(()), validate_subject),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdmissionForm {
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<Fingerprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
}

impl TryFrom<AdmissionForm> for Admission {
    type Error = &'static str;

    fn try_from(form: AdmissionForm) -> Result<Self, Self::Error> {
        let who = match (form.fingerprint, form.root, form.subject) {
            (Some(fingerprint), None, None) => Who::Certificate(fingerprint),
            (None, Some(root), subject) => Who::Root { root, subject },
            _ => {
                return Err(
                    "an admission names either the `fingerprint` of a certificate, or a `root` and, if wanted, a `subject`",
                );
            }
        };
        Ok(Self { role: form.role, who })
    }
}

impl From<Admission> for AdmissionForm {
    fn from(admission: Admission) -> Self {
        let (fingerprint, root, subject) = match admission.who {
            Who::Certificate(fingerprint) => (Some(fingerprint), None, None),
            Who::Root { root, subject } => (None, Some(root), subject),
        };
        Self {
            role: admission.role,
            fingerprint,
            root,
            subject,
        }
    }
}

/// Something that a member may do to the group, beside renewing its own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Add members.
    Add,
    /// Remove members, and deny their certificates.
    Remove,
    /// Switch recording on.
    Recording,
    /// Change the policy.
    Policy,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Add, Self::Remove, Self::Recording, Self::Policy];
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Recording => "recording",
            Self::Policy => "policy",
        })
    }
}

/// Who may commit what. Recording *off*, the own leaf's update and the departure of a member that asked for it belong
/// to every participant and stand in no list. Whoever may change the policy may give himself everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// May add members.
    pub add: Right,
    /// May remove members.
    pub remove: Right,
    /// May switch recording on.
    pub recording: Right,
    /// May change the policy.
    pub policy: Right,
}

impl Rights {
    /// Who holds this one.
    pub fn of(&self, act: Act) -> &Right {
        match act {
            Act::Add => &self.add,
            Act::Remove => &self.remove,
            Act::Recording => &self.recording,
            Act::Policy => &self.policy,
        }
    }

    pub(super) fn of_mut(&mut self, act: Act) -> &mut Right {
        match act {
            Act::Add => &mut self.add,
            Act::Remove => &mut self.remove,
            Act::Recording => &mut self.recording,
            Act::Policy => &mut self.policy,
        }
    }
}

/// Who holds a right: `"participants"`, or a list, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// Every participant.
    Participants,
    /// These, where they are participants.
    Holders(Vec<Holder>),
}

impl Right {
    const PARTICIPANTS: &'static str = "participants";

    /// Is this identity among the holders? (Does not look at its roles.)
    pub fn is_held_by(&self, identity: &Identity) -> bool {
        match self {
            Self::Participants => true,
            Self::Holders(holders) => holders.iter().any(|holder| holder.is(identity)),
        }
    }

    pub(super) fn validate(&self, roots: &[Fingerprint]) -> Result<(), &'static str> {
        match self {
            Self::Participants => Ok(()),
            Self::Holders(holders) => holders.iter().try_for_each(|holder| holder.validate(roots)),
        }
    }
}

impl Serialize for Right {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Participants => serializer.serialize_str(Self::PARTICIPANTS),
            Self::Holders(holders) => holders.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Right {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Right;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"participants\" or a list of holders")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Right, E> {
                if text == Right::PARTICIPANTS {
                    Ok(Right::Participants)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Right, A::Error> {
                Deserialize::deserialize(value::SeqAccessDeserializer::new(list)).map(Right::Holders)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// One holder of a right: the fingerprint of a certificate, or `{ "root", "subject" }`.
///
/// In a file a bare subject id does as well, where the room trusts one root only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// The holder of this one certificate. A renewed certificate is another one.
    Certificate(Fingerprint),
    /// Whoever that root certified under this subject id.
    Subject {
        /// The root certificate; none only in a file, before the room's only root is filled in.
        root: Option<Fingerprint>,
        /// Subject id.
        subject: String,
    },
}

impl Holder {
    /// Is this identity meant?
    pub fn is(&self, identity: &Identity) -> bool {
        match self {
            Self::Certificate(fingerprint) => *fingerprint == identity.fingerprint,
            Self::Subject { root, subject } => *root == Some(identity.root) && *subject == identity.subject,
        }
    }

    pub(super) fn complete(&mut self, only_root: Option<Fingerprint>) {
        if let Self::Subject { root, .. } = self {
            *root = root.or(only_root);
        }
    }

    fn validate(&self, roots: &[Fingerprint]) -> Result<(), &'static str> {
        match self {
            Self::Certificate(_) => Ok(()),
            Self::Subject { root: None, .. } => Err(
                "the room trusts several roots: write { \"root\", \"subject\" } instead of a subject id alone",
            ),
            Self::Subject { root: Some(root), .. } if !roots.contains(root) => {
                Err("it names a root that is not among the room's `roots`")
            }
            Self::Subject { subject, .. } => validate_subject(subject),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectForm {
    root: Fingerprint,
    subject: String,
}

impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Certificate(fingerprint) => fingerprint.serialize(serializer),
            Self::Subject { root: None, subject } => serializer.serialize_str(subject),
            Self::Subject {
                root: Some(root),
                subject,
            } => SubjectForm {
                root: *root,
                subject: subject.clone(),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Holder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Holder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fingerprint, a subject id, or an object with `root` and `subject`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Holder, E> {
                Ok(match text.parse() {
                    Ok(fingerprint) => Holder::Certificate(fingerprint),
                    Err(_) => Holder::Subject {
                        root: None,
                        subject: text.to_owned(),
                    },
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Holder, A::Error> {
                let form = SubjectForm::deserialize(value::MapAccessDeserializer::new(map))?;
                Ok(Holder::Subject {
                    root: Some(form.root),
                    subject: form.subject,
                })
            }
        }
        deserializer.deserialize_any(Form)
    }
}

fn validate_subject(subject: &str) -> Result<(), &'static str> {
    if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
        Err("a subject id has 1 to 128 bytes of printable text")
    } else {
        Ok(())
    }
}
