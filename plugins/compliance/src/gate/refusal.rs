//! Why nothing is recorded, for a person: what is missing and what to do.

use crate::consent::ConsentRefusal;

/// Why a recording does not run, or a frame is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody says anything of a room.
    #[error(
        "there is no room: put a mlskeyring that joins one into the pipeline, with the same id as the property keyring"
    )]
    NoRoom,
    /// The key source breaks the contract.
    #[error("what the key source says of the room cannot be understood: {0}")]
    RoomUnreadable(String),
    /// The key source leaves something away.
    #[error(
        "the key source does not say the room's {0} in a way that is known here: a recorder needs one that does, as \
         mlskeyring"
    )]
    Unsaid(&'static str),
    /// Not a member yet.
    #[error("this endpoint is not in the room yet: wait, or see mlskeyring's messages")]
    Joining,
    /// Nothing was heard of the room for too long.
    #[error(
        "the room is stale: nothing was heard of it for too long; look at the delivery and at whether the others run"
    )]
    Stale,
    /// Left, or removed.
    #[error(
        "this endpoint is not in the room any more: it left or was removed; the recording has ended, and a new one \
         begins with a new start"
    )]
    Evicted,
    /// The group is another one than the one that was recorded.
    #[error(
        "the room was made anew: a recording is of one group; this one has ended, and a new one begins with a new start"
    )]
    OtherRoom,
    /// Not a recorder in this room.
    #[error(
        "this endpoint is no recorder in this room: its certificate needs the role recorder (gst-mls identity new --role \
         recorder), and the room's policy must admit it (admit, role recorder)"
    )]
    NotARecorder,
    /// The claim rules out recording.
    #[error(
        "the room's claim is strict: nobody records in it; change the claim to recorded or escrow in its policy"
    )]
    StrictRoom,
    /// The room says that it is not recorded.
    #[error("recording is off in the room: switch it on (gst-mls room set-recording on)")]
    Off,
    /// The key source said two things of one epoch.
    #[error(
        "the key source changed what it says of an epoch while it lasts: it must begin a new epoch for that"
    )]
    EpochChanged,
    /// Nothing is known of the frame's epoch.
    #[error("nothing is known of the epoch in which the frame was sealed")]
    UnknownEpoch,
    /// The consent does not permit it.
    #[error(transparent)]
    Consent(#[from] ConsentRefusal),
    /// The room names no consent.
    #[error(
        "the room's policy names no consent: put the reference to the one in consent-file there (consent), so that all \
         members see under which it records"
    )]
    NoReference,
    /// The room names another consent.
    #[error(
        "the room's policy names another consent than consent-file: give the recorder that one, or put the reference to \
         this one into the policy (a changed resource has another reference)"
    )]
    OtherConsent,
    /// Somebody could open the recording whom the policy does not name.
    #[error(
        "the key bundle lets somebody open the recording whom the room's policy does not name in recipients: add them \
         there, or prepare keys for the policy's recipients only"
    )]
    UndisclosedRecipient,
    /// The bundle's custodians are not those of the policy.
    #[error(
        "the key bundle's custodians are not those of the room's policy (escrow: fingerprint, m, n): prepare keys for \
         them, or change the policy"
    )]
    UndisclosedEscrow,
    /// No bundle was taken.
    #[error(
        "there are no keys to record under: prepare some (gst-compliance keys prepare) and set the property keys"
    )]
    NoKeys,
    /// All gates agree, and the recording was not told to begin yet.
    #[error("the recording is about to begin")]
    Starting,
}

impl Refusal {
    /// A stable name for programs, in kebab case.
    pub const fn nick(&self) -> &'static str {
        match self {
            Self::NoRoom => "no-room",
            Self::RoomUnreadable(_) => "room-unreadable",
            Self::Unsaid(_) => "room-unsaid",
            Self::Joining => "room-joining",
            Self::Stale => "room-stale",
            Self::Evicted => "room-evicted",
            Self::OtherRoom => "room-other",
            Self::NotARecorder => "not-a-recorder",
            Self::StrictRoom => "room-strict",
            Self::Off => "recording-off",
            Self::EpochChanged => "epoch-changed",
            Self::UnknownEpoch => "epoch-unknown",
            Self::Consent(refusal) => refusal.nick(),
            Self::NoReference => "consent-not-named",
            Self::OtherConsent => "consent-other",
            Self::UndisclosedRecipient => "recipient-undisclosed",
            Self::UndisclosedEscrow => "escrow-undisclosed",
            Self::NoKeys => "no-keys",
            Self::Starting => "starting",
        }
    }

    /// Does it end the recording for good?
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Evicted | Self::OtherRoom)
    }
}
