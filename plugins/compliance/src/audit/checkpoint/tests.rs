use super::*;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

/// Made by an independent program (Python, hashlib and the cryptography package) from the seeds 07…07 and 09…09.
const LOG: &str =
    "gst-e2ee/audit/fe812c12f3ab4ce6ac5db69ac352f906+e8367cd9+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
const WITNESS: &str =
    "gst-e2ee/witness/dbc298251c51321b7266e78d1c151c2b+ec83656f+BP0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY";
const TIME: u64 = 1_700_000_000;
const NOTE: &str = "\
gst-e2ee/audit/fe812c12f3ab4ce6ac5db69ac352f906
8
XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=

\u{2014} gst-e2ee/audit/fe812c12f3ab4ce6ac5db69ac352f906 6DZ82Vt0jz3/NgWjI0/s2lRERRPbgdcRURWfgm9eEPfXMtNK+HX/CAOAUfM9C5X3Q2pN7CPyMacAoenuCBL9XErL2gE=
\u{2014} gst-e2ee/witness/dbc298251c51321b7266e78d1c151c2b 7INlbwAAAABlU/EA10g5+xOlHDDxBAuuTzhiaUISbHu1rP4H5/7LvwiV2kEZ2Aq3TtPe7MH/pb79abxvtqCsC5z4+cEDmqL8qgEoCQ==
";

/// The example of c2sp.org/tlog-cosignature.
const EXAMPLE: &str = "\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
";

fn keys() -> (SigningKey, SigningKey, VerifierKey, VerifierKey) {
    let (log, witness) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[9; 32]));
    let [log_key, witness_key] = [(Kind::Log, &log), (Kind::Witness, &witness)]
        .map(|(kind, key)| VerifierKey::named(kind, key.public()));
    (log, witness, log_key, witness_key)
}

fn checkpoint(log: &VerifierKey, size: u64) -> Checkpoint {
    Checkpoint {
        origin: log.name().to_owned(),
        size,
        root: hex::decode("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")
            .unwrap()
            .try_into()
            .unwrap(),
    }
}

#[test]
fn notes_and_keys_are_those_of_another_implementation() {
    let (log, witness, log_key, witness_key) = keys();
    assert_eq!(log_key.to_string(), LOG);
    assert_eq!(witness_key.to_string(), WITNESS);
    let mut note = Note::sign(checkpoint(&log_key, 8), &log);
    note.add(note.cosign(&witness_key, &witness, TIME));
    assert_eq!(note.to_string(), NOTE);
}

#[test]
fn notes_of_others_can_be_read() {
    let note = Note::parse(EXAMPLE).unwrap();
    assert_eq!(note.unverified().size, 20_852_163);
    assert_eq!(note.lines()[1].name(), "witness.example.com/w1");
    assert_eq!(note.lines()[1].signature[..8], 1_679_315_147_u64.to_be_bytes());
}

#[test]
fn a_note_counts_for_whom_signed_it() {
    let (.., log, witness) = keys();
    let note = Note::parse(NOTE).unwrap();
    assert_eq!(note.of_log(&log).unwrap().size, 8);
    assert_eq!(note.cosigned(&witness), Ok(TIME));
    let stranger = SigningKey::from_bytes(&[1; 32]).public();
    let other_log = VerifierKey::named(Kind::Log, stranger);
    assert_eq!(note.of_log(&other_log), Err(NoteError::OtherLog));
    let other_witness = VerifierKey::named(Kind::Witness, stranger);
    assert_eq!(note.cosigned(&other_witness), Err(NoteError::Unsigned));
    // A log does not witness itself, and a witness is no log.
    let as_witness = VerifierKey {
        kind: Kind::Witness,
        ..log.clone()
    };
    assert_eq!(note.cosigned(&as_witness), Err(NoteError::Unsigned));
    // The right name and id with another key.
    let forged = Line {
        name: log.name().to_owned(),
        id: log.id(),
        signature: note.lines()[1].signature[8..].to_vec(),
    };
    let mut twice = note.clone();
    twice.lines.push(forged);
    assert_eq!(twice.of_log(&log), Err(NoteError::Forged));
}

#[test]
fn of_several_cosignatures_the_latest_counts_and_takes_the_place() {
    let (_, signer, _, witness) = keys();
    let mut note = Note::parse(NOTE).unwrap();
    note.lines.push(note.cosign(&witness, &signer, TIME + 5));
    note.lines.push(note.cosign(&witness, &signer, TIME + 3));
    assert_eq!(note.cosigned(&witness), Ok(TIME + 5));
    note.add(note.cosign(&witness, &signer, TIME + 9));
    assert_eq!((note.lines.len(), note.cosigned(&witness)), (2, Ok(TIME + 9)));
    // Beyond what the format allows.
    note.add(note.cosign(&witness, &signer, u64::MAX));
    assert_eq!(note.cosigned(&witness), Err(NoteError::Forged));
}

#[test]
fn every_bit_of_a_note_matters_and_every_cut_is_seen() {
    let (.., log, witness) = keys();
    let accepts = |text: &str| {
        Note::parse(text).is_ok_and(|note| note.of_log(&log).is_ok() && note.cosigned(&witness).is_ok())
    };
    assert!(accepts(NOTE));
    for at in 0..NOTE.len() {
        for bit in 0..8 {
            let mut bytes = NOTE.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes);
            assert!(!changed.is_ok_and(|text| accepts(&text)), "byte {at}, bit {bit}");
        }
        assert!(!NOTE.is_char_boundary(at) || !accepts(&NOTE[..at]), "cut at {at}");
    }
}

#[test]
fn a_note_has_one_form() {
    for (from, to) in [
        ("\n8\n", "\n08\n"),
        ("\n8\n", "\n+8\n"),
        ("\n8\n", "\n-8\n"),
        ("\n8\n", "\n8 \n"),
        ("\n8\n", "\n18446744073709551616\n"),
        ("\n8\n", "\n9223372036854775807\n"),
        ("Qyg=\n", "Qyh=\n"),
        ("Qyg=\n", "Qyg\n"),
        ("Qyg=\n", "Qyg=\nextension\n"),
        ("\n\n", "\n\n\n"),
        ("\u{2014} ", "- "),
        ("2gE=\n", "2gE=\r\n"),
    ] {
        assert!(NOTE.contains(from));
        assert_eq!(
            Note::parse(&NOTE.replacen(from, to, 1)),
            Err(NoteError::Malformed),
            "{to:?}"
        );
    }
    let line = NOTE.lines().last().unwrap();
    let with = |lines: usize| format!("{NOTE}{}", format!("{line}\n").repeat(lines));
    assert!(Note::parse(&with(14)).is_ok());
    assert!(Note::parse(&with(63)).is_err());
    assert!(Note::parse(&with(1000)).is_err());
}

#[test]
fn a_verifier_key_has_one_form() {
    for text in [LOG, WITNESS] {
        assert_eq!(text.parse::<VerifierKey>().unwrap().to_string(), text);
        for at in 0..text.len() {
            assert!(text[..at].parse::<VerifierKey>().is_err());
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(
                String::from_utf8(bytes).unwrap().parse::<VerifierKey>().is_err(),
                "byte {at}"
            );
        }
    }
    let foreign = "example.com/w+00000000+BA==".parse::<VerifierKey>();
    assert!(foreign.is_err());
    assert!(format!("{LOG}\n").parse::<VerifierKey>().is_err());
}

#[test]
fn a_name_goes_with_one_key() {
    let (.., log, witness) = keys();
    assert!(log.is_named_by_key() && witness.is_named_by_key());
    let other = VerifierKey {
        key: *witness.key(),
        ..log
    };
    assert!(!other.is_named_by_key());
    // It is a key all the same: witnesses elsewhere have names of their own.
    assert_eq!(other.to_string().parse(), Ok(other));
}

proptest! {
    #[test]
    fn what_was_signed_is_read(seed: [u8; 32], size in 0..MAX_SIZE, root: [u8; 32], times in prop::collection::vec(0..u64::MAX / 2, 0..5)) {
        let signer = SigningKey::from_bytes(&seed);
        let log = VerifierKey::named(Kind::Log, signer.public());
        let witness = VerifierKey::named(Kind::Witness, signer.public());
        let origin = log.name().to_owned();
        let mut note = Note::sign(Checkpoint { origin, size, root }, &signer);
        for time in &times {
            note.add(note.cosign(&witness, &signer, *time));
        }
        let read = Note::parse(&note.to_string()).unwrap();
        prop_assert_eq!(&read, &note);
        prop_assert_eq!(read.of_log(&log).unwrap(), note.unverified());
        prop_assert_eq!(read.cosigned(&witness).ok(), times.last().copied());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[\\s\\S]{0,300}") {
        prop_assert!(Note::parse(&text).is_err());
        prop_assert!(text.parse::<VerifierKey>().is_err());
    }
}
