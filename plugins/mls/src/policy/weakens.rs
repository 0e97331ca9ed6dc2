//! What a change of policy takes away from those who trusted the room.

use super::{Act, Fingerprint, Policy, Right};

/// What got weaker, in words; empty where nothing did.
///
/// Recording on or off is no part of it: it is a state under the claim, with a right of its own.
pub fn weakens(old: &Policy, new: &Policy) -> Vec<String> {
    let mut words = Vec::new();
    if new.claim > old.claim {
        words.push(format!("the claim goes from {} down to {}", old.claim, new.claim));
    }
    for admission in &new.admit {
        let covered =
            |before: &super::Admission| before.role == admission.role && before.who.covers(&admission.who);
        if !old.admit.iter().any(covered) {
            words.push(format!("more {}s are admitted", admission.role.word()));
        }
    }
    words.dedup();
    for fingerprint in missing(&old.deny, &new.deny) {
        words.push(format!("certificate {fingerprint} is not denied any more"));
    }
    for fingerprint in missing(&new.recipients, &old.recipients) {
        words.push(format!("new recipient of recordings {fingerprint}"));
    }
    for fingerprint in missing(&new.roots, &old.roots) {
        words.push(format!("new root certificate {fingerprint}"));
    }
    for act in Act::ALL {
        let wider = match (old.rights.of(act), new.rights.of(act)) {
            (Right::Participants, _) => false,
            (Right::Holders(_), Right::Participants) => true,
            (Right::Holders(before), Right::Holders(after)) => {
                after.iter().any(|holder| !before.contains(holder))
            }
        };
        if wider {
            words.push(format!("more members have the right `{act}`"));
        }
    }
    if new.escrow.is_some() && new.escrow != old.escrow {
        words.push("the escrow is another one".to_owned());
    }
    let longer = match (old.retention_days, new.retention_days) {
        (Some(before), Some(after)) => after > before,
        (before, None) => before.is_some(),
        (None, Some(_)) => false,
    };
    if longer {
        words.push("recordings are kept longer".to_owned());
    }
    if old.consent.is_some() && new.consent != old.consent {
        words.push("the consent under which the room records is gone or another one".to_owned());
    }
    if suite_strength(new.sframe_suite) < suite_strength(old.sframe_suite) {
        words.push(format!(
            "the SFrame cipher suite goes from {} down to {}",
            old.sframe_suite, new.sframe_suite
        ));
    }
    words
}

/// Those of `these` that are not among `those`.
fn missing<'a>(these: &'a [Fingerprint], those: &'a [Fingerprint]) -> impl Iterator<Item = &'a Fingerprint> {
    these.iter().filter(|fingerprint| !those.contains(fingerprint))
}

/// Orders the cipher suites by the length of the tag, then of the key. An unknown one is the weakest.
fn suite_strength(suite: u16) -> u8 {
    match suite {
        3 => 1,
        2 => 2,
        1 => 3,
        4 => 4,
        5 => 5,
        _ => 0,
    }
}
