//! Opening with a fixed key: nothing opens that was not sealed with it, and no bytes upset it.

use super::Seen;
use super::input::Input;
use gst_e2ee_common::cipher_suite::CipherSuite;
use gstsframe::frame::{Lead, MAX_LEAD, OpenError, OpenKey, SealKey};
use std::sync::LazyLock;

const KID: u64 = 0x3e9;
const BASE_KEY: &[u8] = b"a key that is known to everybody";

struct Keys {
    seal: SealKey,
    open: OpenKey,
}

static KEYS: LazyLock<Vec<Keys>> = LazyLock::new(|| {
    CipherSuite::ALL
        .into_iter()
        .filter_map(|suite| {
            Some(Keys {
                seal: SealKey::derive(suite, KID, BASE_KEY).ok()?,
                open: OpenKey::derive(suite, KID, BASE_KEY).ok()?,
            })
        })
        .collect()
});

fn seal(keys: &Keys, ctr: u64, clear_len: usize, frame: &[u8]) -> Vec<u8> {
    let layout = keys.seal.layout(ctr, clear_len, frame.len());
    let mut out = vec![0; layout.total()];
    let sealed = keys.seal.seal(&layout, &[], &mut out, |at, part| {
        part.copy_from_slice(&frame[at..at + part.len()]);
        true
    });
    assert!(sealed.is_ok());
    out
}

/// As the element does it: the lead from the first bytes, then the rest in place.
fn open(keys: &Keys, clear_len: usize, sealed: &[u8]) -> Result<(u64, Vec<u8>), OpenError> {
    let mut lead_bytes = [0; MAX_LEAD];
    let len = sealed.len().min(MAX_LEAD);
    lead_bytes[..len].copy_from_slice(&sealed[..len]);
    let lead = Lead::parse(&lead_bytes[..len], clear_len)?;
    assert!(lead.body_offset() <= len);
    let mut out = vec![0; clear_len];
    out.extend_from_slice(&sealed[lead.body_offset()..]);
    let len = keys.open.open(&lead, &lead_bytes, &[], &mut out)?;
    assert!(len <= out.len());
    out.truncate(len);
    Ok((lead.header.ctr, out))
}

/// The bytes are a suite, a clear prefix and a sealed frame; or a counter, a frame to seal, and what then happens to
/// it on its way.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut input = Input(bytes);
    assert_eq!(KEYS.len(), CipherSuite::ALL.len());
    let choice = input.u8();
    let suite = usize::from(choice & 0x0f) % KEYS.len();
    let keys = &KEYS[suite];
    let clear_len = [0, 1, 3, 10][usize::from(choice >> 4 & 3)];

    if choice & 0x80 != 0 {
        match open(keys, clear_len, input.0) {
            Ok((ctr, frame)) => {
                // Sealing is deterministic: this is the one frame that opens.
                assert_eq!(
                    seal(keys, ctr, clear_len, &frame),
                    input.0,
                    "a forged frame opened"
                );
                seen.insert("opened");
            }
            Err(OpenError::AuthFailed) => {
                seen.insert("refused");
            }
            Err(OpenError::Malformed(_)) => {
                seen.insert("malformed");
            }
        }
        return seen;
    }

    let ctr_len = usize::from(input.u8()) % 9;
    let ctr = input
        .take(ctr_len)
        .iter()
        .fold(0, |ctr, &byte| ctr << 8 | u64::from(byte));
    let frame_len = usize::from(input.u8());
    let frame = input.take(frame_len);
    let clear_len = clear_len.min(frame.len());
    let sealed = seal(keys, ctr, clear_len, frame);
    assert_eq!(open(keys, clear_len, &sealed), Ok((ctr, frame.to_vec())));

    let mut changed = sealed.clone();
    while !input.is_empty() {
        let (what, at, value) = (input.u8(), usize::from(input.u16()), input.u8());
        let at = at % (changed.len() + 1);
        match what % 4 {
            0 => changed
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= value),
            1 => changed.truncate(at),
            2 => changed.insert(at, value),
            _ => drop(changed.drain(at..(at + usize::from(value)).min(changed.len()))),
        }
    }
    match open(keys, clear_len, &changed) {
        Ok((ctr, frame)) => {
            assert_eq!(
                seal(keys, ctr, clear_len, &frame),
                changed,
                "a forged frame opened"
            );
            // A tag of 32 bits can be guessed, one of 64 cannot.
            let guessable = CipherSuite::ALL[suite].tag_len() < 8;
            assert!(changed == sealed || guessable, "a changed frame opened");
            seen.insert("unchanged");
        }
        Err(_) => {
            assert_ne!(changed, sealed);
            seen.insert("changed");
        }
    }
    seen
}
