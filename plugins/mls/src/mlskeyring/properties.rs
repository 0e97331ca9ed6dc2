//! The properties of `mlskeyring`, as `gst-inspect-1.0` shows them.

use gst::glib;
use gst::prelude::*;

use super::settings::{LEAST_CONTENT, LEAST_SILENCE, MAX_SILENCE, MOST_REPLICAS};
use super::{Claim, State};
use crate::delivery::KEPT_CONTENT;

/// All of them.
pub fn properties() -> Vec<glib::ParamSpec> {
    let text = |name: &'static str, nick: &'static str, blurb: &'static str| {
        glib::ParamSpecString::builder(name)
            .nick(nick)
            .blurb(blurb)
            .mutable_ready()
            .build()
    };
    let with_default =
        |name: &'static str, nick: &'static str, blurb: &'static str, default: &'static str| {
            glib::ParamSpecString::builder(name)
                .nick(nick)
                .blurb(blurb)
                .default_value(Some(default))
                .mutable_ready()
                .build()
        };
    vec![
        with_default(
            "id",
            "Keyring id",
            "Which keyring this is in the pipeline: sframeenc and sframedec name it in their property keyring",
            "default",
        ),
        text("room", "Room", "Name of the room, the same for all its members; never leaves this machine"),
        text(
            "certificate-file",
            "Certificate",
            "This endpoint's X.509 certificate with its role (PEM, Ed25519), issuers behind it; `gst-mls identity new` \
             makes one",
        ),
        text(
            "private-key-file",
            "Private key",
            "The certificate's key (PKCS#8 PEM, Ed25519), readable by its owner alone",
        ),
        text(
            "ca-file",
            "Trusted CA",
            "Root certificates that this endpoint trusts (PEM); it joins no room that trusts others",
        ),
        text(
            "state-file",
            "State",
            "Encrypted database with the room's state. Default: below the user's state directory, by room and certificate",
        ),
        text(
            "state-key-file",
            "Key of the state",
            "File with the key of state-file (64 hex digits, mode 0600), or credential:NAME for a systemd credential. \
             Default: made at the first start",
        ),
        with_default(
            "delivery",
            "Delivery",
            "What carries the room's messages: sqlite:PATH (processes of one machine; without PATH below the user's runtime \
             directory), nats://[user:password@|token@]HOST:PORT[,HOST:PORT...] (NATS servers with JetStream; tls:// to insist \
             on TLS; write % @ , / in a password as %25 %40 %2C %2F; reads as *** afterwards) or app (signals message-ready \
             and process-message)",
            "sqlite:",
        ),
        text(
            "nats-credentials-file",
            "NATS credentials",
            "Who this endpoint is to the NATS servers: a credentials file (.creds) or an nkey's seed, readable by its owner \
             alone. Instead of a login in delivery",
        ),
        text(
            "nats-ca-file",
            "NATS CA",
            "Root certificates (PEM) that the NATS servers' certificates come from; insists on TLS. Default: those of the \
             system",
        ),
        text(
            "nats-certificate-file",
            "NATS client certificate",
            "Certificate (PEM) that the NATS servers ask for, issuers behind it; insists on TLS. Needs nats-key-file",
        ),
        text(
            "nats-key-file",
            "NATS client key",
            "Key of nats-certificate-file (PEM), readable by its owner alone",
        ),
        glib::ParamSpecUInt::builder("nats-replicas")
            .nick("NATS replicas")
            .blurb(
                "On how many servers of a NATS cluster the log of a new room is kept: 3 survive the loss of one, 5 of two",
            )
            .minimum(1)
            .maximum(MOST_REPLICAS)
            .default_value(1)
            .mutable_ready()
            .build(),
        text(
            "display-name",
            "Own name",
            "What this endpoint calls itself in the room, at most 64 bytes; members alone see it, sealed, and nobody certifies \
             it",
        ),
        glib::ParamSpecBoolean::builder("message-padding")
            .nick("Pad messages")
            .blurb("Pad what msg_sink pads send to a power of two, so that who carries it learns the order of its size only")
            .default_value(true)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("message-storage")
            .nick("Stored messages")
            .blurb(
                "Bytes of what msg_sink pads send that the delivery keeps of this room for members that are away, sealed; the \
                 oldest beyond that are forgotten. Nothing for delivery=app",
            )
            .minimum(LEAST_CONTENT)
            .default_value(KEPT_CONTENT)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("create")
            .nick("Create the room")
            .blurb("Create the room if it does not exist, under policy-file")
            .mutable_ready()
            .build(),
        text(
            "policy-file",
            "Policy",
            "Policy of a room that is created (JSON). Default: claim strict, admits every participant that the own CA \
             certifies",
        ),
        glib::ParamSpecEnum::builder::<Claim>("accept")
            .nick("Weakest claim")
            .blurb("Weakest claim of the room under which this endpoint sends; under a weaker one it sends nothing")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("rekey-interval")
            .nick("Rekey interval")
            .blurb("Commit an update of the own keys after so long, in nanoseconds; 0: only when somebody comes or goes")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("max-silence")
            .nick("Longest silence")
            .blurb(
                "Without an authenticated sign of life from the room for so long, in nanoseconds, nothing is sent (state \
                 stale)",
            )
            .minimum(LEAST_SILENCE.nseconds())
            .maximum(gst::ClockTime::from_seconds(3600).nseconds())
            .default_value(MAX_SILENCE.nseconds())
            .mutable_ready()
            .build(),
        text(
            "control-socket",
            "Control socket",
            "Path of a Unix socket through which `gst-mls room` reaches this room; made with mode 0600",
        ),
        text(
            "posture-file",
            "Posture report",
            "File in which the signed posture report is kept current (JSON, replaced atomically, removed when this endpoint \
             is out of the room)",
        ),
        glib::ParamSpecEnum::builder::<State>("state")
            .nick("State")
            .blurb("Where this endpoint stands with the room")
            .read_only()
            .build(),
        glib::ParamSpecUInt64::builder("epoch")
            .nick("Epoch")
            .blurb("Epoch of the group (RFC 9420 §8)")
            .read_only()
            .build(),
        glib::ParamSpecString::builder("epoch-code")
            .nick("Epoch code")
            .blurb("30 digits that all members of this epoch see alike, for people to compare")
            .read_only()
            .build(),
        gst::ParamSpecArray::builder("members")
            .nick("Members")
            .blurb("Everybody who has keys: mls-member structures with leaf, id, operator, roles, fingerprint, own, display-name")
            .read_only()
            .build(),
        gst::ParamSpecArray::builder("recorders")
            .nick("Recorders")
            .blurb("Ids of the members that are certified as recorders")
            .read_only()
            .build(),
        glib::ParamSpecBoolean::builder("recording")
            .nick("Recording")
            .blurb("Does the group say that it is being recorded?")
            .read_only()
            .build(),
        glib::ParamSpecString::builder("posture")
            .nick("Posture report")
            .blurb("The signed posture report (JSON), as in posture-file")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb(
                "epoch, members, commits-merged, commits-won, commits-lost (own ones, made again), refused, malformed, \
                 resyncs, messages-sent, messages-received, messages-dropped (nothing took them off a msg_src pad in time)",
            )
            .read_only()
            .build(),
    ]
}
