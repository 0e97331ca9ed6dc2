//! What goes between a station and its custodians by mail, requests and decisions; and the files that name the holders of
//! a key.

use super::Seen;
use super::input::Input;
use ed25519_dalek::SigningKey;
use gstcompliance::age_file::{Identity, recipient};
use gstcompliance::audit::{Id, Text};
use gstcompliance::breakglass::Asked;
use gstcompliance::breakglass::custodian::{CustodianKey, FileKey};
use gstcompliance::breakglass::decision::{self, Unverified};
use gstcompliance::breakglass::request::Request;
use gstcompliance::bundle::{Custodian, Escrow, Recipients};
use gstcompliance::digest::Digest;
use gstcompliance::ids::RecordingId;
use gstcompliance::signing::Signer;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Whoever has its other half. Nothing is sealed here.
const RECIPIENT: &str = "age1vg8e9senwyfq80egm7uua7655kxrtwsja0af2tqyh70dugw5vgaqexj74g";

thread_local! {
    /// One folder for all runs, in memory where there is such a place.
    static FOLDER: Option<TempDir> = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).ok();
    static CUSTODIAN: FileKey = FileKey::new(Identity::generate()).expect("a custodian's key");
}

/// What has been read is written the same. The one entry that its log proves (seeds/audit/proof) asks for nothing.
fn request(bytes: &[u8], seen: &mut Seen) {
    let Ok(request) = Request::decode(bytes) else {
        seen.insert("no request");
        return;
    };
    let again = Request::decode(&request.encode().expect("no longer than it was"));
    assert_eq!(again.as_ref(), Ok(&request));
    let log = SigningKey::from_bytes(&[7; 32]).public();
    assert!(request.verify(&log).is_err(), "a request that nobody logged");
    seen.insert("request");
}

/// A decision of anybody is nobody's.
fn decision(bytes: &[u8], seen: &mut Seen) {
    let Ok(decision) = Unverified::decode(bytes) else {
        seen.insert("no decision");
        return;
    };
    let signing = CUSTODIAN.with(CustodianKey::signing);
    assert!(decision.by(&signing).is_none(), "a decision that nobody signed");
    seen.insert("decision");
}

fn asked(input: &mut Input) -> Asked {
    let key = || recipient(RECIPIENT).expect("a recipient");
    Asked {
        recording: RecordingId::from_bytes([input.u8(); 16]),
        access: Id::new("a").expect("an id"),
        requester: Id::new("b").expect("an id"),
        recipient: key(),
        station: key(),
        reason: Text::new("c").expect("a text"),
        ticket: Text::new("d").expect("a text"),
        time: 0,
        expires: 1,
        digest: Digest::of(&[input.u8()]),
    }
}

/// However a signed decision is changed, what its custodian's key verifies is what that one decided.
fn changed(input: &mut Input, seen: &mut Seen) {
    let asked = asked(input);
    let time = u64::from(input.u8());
    CUSTODIAN.with(|key| {
        let reason = Text::new("no").expect("a text");
        let signed = decision::deny(&asked, reason, key, time).expect("a decision");
        let original = Unverified::decode(&signed).expect("what was just made");
        assert!(original.by(&key.signing()).is_some());
        let mut bytes = signed.clone();
        input.change(&mut bytes);
        match Unverified::decode(&bytes) {
            Err(_) => drop(seen.insert("unreadable")),
            Ok(read) => match read.by(&key.signing()) {
                None => drop(seen.insert("forged")),
                Some(said) => {
                    assert_eq!(said, original.unverified(), "a changed decision verifies");
                    seen.insert("signed");
                }
            },
        }
    });
}

/// A file of custodians, or of recipients.
fn holders(path: &Path, text: &[u8], seen: &mut Seen) {
    fs::write(path, text).expect("a folder to write to");
    if let Ok(escrow) = Escrow::read(path) {
        let (facts, all) = (escrow.facts(), escrow.custodians());
        assert!(1 <= facts.m && facts.m <= facts.n && usize::from(facts.n) == all.len());
        for (custodian, number) in all.iter().zip(1..) {
            assert_eq!(custodian.to_string().parse::<Custodian>().as_ref(), Ok(custodian));
            let found = escrow.find(&custodian.fingerprint());
            assert_eq!(found, Some((number, custodian)), "one key, two shares");
        }
        seen.insert("custodians");
    } else if let Ok(recipients) = Recipients::read(path) {
        let mut all = recipients.fingerprints();
        all.dedup();
        assert_eq!(all.len(), recipients.keys().len());
        seen.insert("recipients");
    } else {
        seen.insert("no holders");
    }
}

/// The bytes are a kind, and a file, or what happens to one.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut input = Input(bytes);
    match input.u8() % 4 {
        0 => request(input.0, &mut seen),
        1 => decision(input.0, &mut seen),
        2 => changed(&mut input, &mut seen),
        _ => FOLDER.with(|folder| {
            let folder = folder.as_ref().expect("a temporary folder");
            holders(&folder.path().join("holders"), input.0, &mut seen);
        }),
    }
    seen
}
