//! A report as text for a person.

use std::fmt::{self, Write};

use super::{Report, Seer};
use crate::identity::Role;
use crate::policy::Claim;
use crate::text::{columns, date, plural, roles, word, wrapped};

/// The report as a person reads it. Says nothing about whether the report is to be believed: its verifier does.
pub fn for_people(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    let signer = &report.signer;
    writeln!(
        out,
        "Posture of one endpoint's room, as {} sees it ({}{})",
        signer.id,
        roles(&signer.roles),
        operated(signer.operator.as_deref()),
    )?;
    writeln!(
        out,
        "Made {}, valid until {}",
        date(report.issued_at),
        date(report.expires_at)
    )?;
    if let Some(nonce) = &report.nonce {
        writeln!(out, "For the nonce {nonce}")?;
    }
    writeln!(out)?;
    field(out, "Can servers see the media?", servers(report))?;
    field(out, "Who can?", &who(report))?;
    field(out, "Claim", &claim(report))?;
    field(out, "Recording", &recording(report))?;
    if report.recording.on || report.consent.is_some() {
        field(
            out,
            "Consent",
            report.consent.as_deref().unwrap_or("no reference is given"),
        )?;
    }
    if report.claim != Claim::Strict {
        let kept = report
            .retention_days
            .map_or_else(|| "no end is promised".to_owned(), |days| format!("{days} days"));
        field(out, "Recordings are kept", &kept)?;
    }
    field(
        out,
        "Verified by people",
        if report.verified {
            "yes: codes were compared at this endpoint"
        } else {
            "no: nobody has compared codes; the roster is as good as the certificate authority"
        },
    )?;
    field(out, "Endpoint's state", &word(&report.state))?;
    field(
        out,
        "Epoch",
        &format!("{}, code {}", report.epoch, report.epoch_code),
    )?;
    field(out, "Group", &report.group_id)?;
    field(out, "Policy", &report.policy_digest)?;
    field(
        out,
        "Cipher suites",
        &format!("MLS {}, SFrame {}", report.mls_suite, report.sframe_suite),
    )?;
    writeln!(out)?;
    writeln!(out, "Key holders ({}):", report.key_holders.len())?;
    let mut table = vec![["leaf", "id", "roles", "operator", "certificate (SHA-256)"].map(str::to_owned)];
    table.extend(report.key_holders.iter().map(|holder| {
        [
            holder.leaf.to_string(),
            holder.id.clone(),
            roles(&holder.roles),
            holder.operator.clone().unwrap_or_else(|| "-".to_owned()),
            holder.fingerprint.to_string(),
        ]
    }));
    out.push_str(&columns(&table));
    list(
        out,
        "Recipients, who can each open recordings alone",
        &report.recipients,
    )?;
    if let Some(escrow) = &report.escrow {
        writeln!(
            out,
            "Custodians: any {} of {} together can open a recording ({})",
            escrow.m, escrow.n, escrow.fingerprint
        )?;
    }
    list(out, "Certificate authorities of the room", &report.roots)?;
    writeln!(out)?;
    writeln!(out, "{}", wrapped(&report.meaning, 100))
}

fn field(out: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "{name:<27} {value}")
}

fn list(out: &mut String, name: &str, entries: &[impl fmt::Display]) -> fmt::Result {
    if entries.is_empty() {
        return Ok(());
    }
    writeln!(out, "{name} ({}):", entries.len())?;
    for entry in entries {
        writeln!(out, "  {entry}")?;
    }
    Ok(())
}

fn servers(report: &Report) -> &'static str {
    match report.servers_can_see_media {
        Some(false) => "no: nobody has keys but those listed below",
        Some(true) => "YES",
        None => "not known: this endpoint has no current keys of the room",
    }
}

fn who(report: &Report) -> String {
    let count = |role: Role| {
        report
            .key_holders
            .iter()
            .filter(|holder| holder.roles.contains(&role))
            .count()
    };
    let who: Vec<_> = report
        .who_can_see_media
        .iter()
        .map(|seer| match seer {
            Seer::Participants => plural(count(Role::Participant), "participant"),
            Seer::Recorders => plural(count(Role::Recorder), "recorder"),
            Seer::Recipients => format!("{} of recordings", plural(report.recipients.len(), "recipient")),
            Seer::Custodians => "custodians of recordings, together".to_owned(),
        })
        .collect();
    if who.is_empty() {
        "nobody".to_owned()
    } else {
        who.join(", ")
    }
}

fn claim(report: &Report) -> String {
    let accepted = if report.accepted {
        "accepted"
    } else {
        "NOT accepted, so that it sends nothing"
    };
    format!(
        "{} (this endpoint accepts {}: {accepted})",
        report.claim, report.accept
    )
}

fn recording(report: &Report) -> String {
    let mut text = if report.recording.on { "ON" } else { "off" }.to_owned();
    if let Some(since) = report.recording.since {
        text.push_str(&format!(" since {}", date(since)));
    }
    if !report.recording.on && report.who_can_see_media.contains(&Seer::Recorders) {
        text.push_str(" (a recorder is present and promises not to record)");
    }
    text
}

fn operated(operator: Option<&str>) -> String {
    operator.map_or_else(String::new, |operator| format!(", operated by {operator}"))
}
