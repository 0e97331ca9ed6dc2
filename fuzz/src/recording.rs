//! What a recording says of itself: recording.json and the manifest. Whatever somebody without the log's key does to
//! them is noticed; whatever somebody with it wrote is read or refused.

use super::Seen;
use super::input::Input;
use ed25519_dalek::SigningKey;
use gstcompliance::bundle::{Holders, Recipients, prepare, take_next};
use gstcompliance::digest::Digest;
use gstcompliance::recording::facts::Facts;
use gstcompliance::recording::manifest::{
    self, Chain, CutFact, EndFact, Fact, GapFact, MemberFact, ResumedFact, StartFact, TrackEnd, TrackFact,
};
use gstcompliance::recording::{
    Claim, Index, MANIFEST_FILE, Medium, Options, RealDisk, Recording, Segment, Start, State, Track, TrackId,
    verify,
};
use gstcompliance::signing::Signer;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// Whoever has its other half. Nobody opens these recordings.
const RECIPIENT: &str = "age1vg8e9senwyfq80egm7uua7655kxrtwsja0af2tqyh70dugw5vgaqexj74g";

const TIME: u64 = 1_700_000_000_000;

/// A recording of two tracks with two members each, and how its manifest was.
struct Place {
    _folder: TempDir,
    path: PathBuf,
    recording_json: Vec<u8>,
    manifest: Vec<u8>,
}

thread_local! {
    /// One for all runs: only its manifest changes.
    static PLACE: Result<Place, Box<dyn Error>> = Place::new();
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

impl Place {
    fn new() -> Result<Self, Box<dyn Error>> {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new())?;
        let (keys, list) = (folder.path().join("keys"), folder.path().join("recipients"));
        fs::write(&list, RECIPIENT)?;
        let holders = Holders::Recipients(Recipients::read(&list)?);
        prepare(&keys, &holders, 1, &SigningKey::from_bytes(&[8; 32]))?;
        let bundle = take_next(&keys, None, &|_| true)?;
        let start = Start {
            time: TIME,
            room: None,
            recorder: None,
            policy: None,
            claim: Claim::Unattested,
            consent: None,
            retention_days: None,
            attest: None,
        };
        let mut recording =
            Recording::create(folder.path(), &bundle, start, Arc::new(key()), Arc::new(RealDisk))?;
        for medium in [Medium::Audio, Medium::Video] {
            let track = recording.open_track(Track {
                medium,
                caps: "audio/x-opus".to_owned(),
                leaf: Some(1),
                sender: "p".to_owned(),
            })?;
            for second in 0..2 {
                recording.append(track, segment(second))?;
            }
        }
        recording.end(TIME, "eos")?;
        let path = recording.path().to_owned();
        Ok(Self {
            recording_json: fs::read(path.join("recording.json"))?,
            manifest: fs::read(path.join(MANIFEST_FILE))?,
            path,
            _folder: folder,
        })
    }
}

fn segment(second: u64) -> Segment {
    Segment {
        bytes: b"media".to_vec().into(),
        from_ns: second * 1_000_000_000,
        to_ns: (second + 1) * 1_000_000_000,
        epoch: (1, 1),
        leaf: None,
        frames: 1,
        keyframes: None,
    }
}

/// A small number, and sometimes one at the edge of what fits.
fn number(input: &mut Input) -> u64 {
    match input.u8() {
        255 => u64::MAX,
        254 => u64::MAX - 1,
        253 => (1 << 60) - 1,
        252 => 64 << 20,
        small => u64::from(small),
    }
}

fn fact(input: &mut Input) -> Fact {
    let kind = input.u8();
    let track = TrackId(u32::try_from(number(input)).unwrap_or(u32::MAX));
    let medium = Medium::ALL[usize::from(kind >> 4) % 4];
    match kind % 7 {
        0 => Fact::Start(StartFact { time: TIME }),
        1 => Fact::Track(TrackFact {
            track,
            medium,
            caps: "audio/x-opus".to_owned(),
            leaf: None,
            sender: String::new(),
        }),
        2 | 3 => Fact::Member(MemberFact {
            track,
            sequence: number(input),
            sha256: Digest([0; 32]),
            offset: number(input).saturating_mul(512),
            bytes: number(input),
            from: number(input),
            to: number(input),
            epochs: (number(input), number(input)),
            leaf: None,
            frames: 1,
            keyframes: u32::try_from(number(input)).ok(),
        }),
        4 => Fact::Gap(GapFact {
            track,
            from: number(input),
            to: number(input),
            frames: number(input),
            cause: "c".to_owned(),
        }),
        5 => Fact::Resumed(ResumedFact {
            time: number(input),
            manifest: number(input),
            cuts: vec![CutFact {
                tar: "0-audio.tar".to_owned(),
                bytes: number(input),
            }],
        }),
        _ => Fact::End(EndFact {
            time: number(input),
            reason: "r".to_owned(),
            lost: number(input),
            tracks: (0..input.u8() % 4)
                .map(|_| TrackEnd {
                    members: number(input),
                    bytes: number(input),
                })
                .collect(),
        }),
    }
}

/// A manifest that the log's key signed, whatever it says.
fn make(place: &Place, input: &mut Input) -> Vec<u8> {
    let mut chain = Chain::new(&place.recording_json);
    let mut lines = Vec::new();
    for _ in 0..input.u8() % 8 {
        if let Ok(line) = chain.make(fact(input), &key()) {
            lines.extend(line);
        }
    }
    lines
}

/// Of a manifest that somebody changed those lines hold that are as they were, and no others.
fn holds(place: &Place, made: &[u8], changed: &[u8], seen: &mut Seen) {
    let mut source = changed;
    let begin = Chain::new(&place.recording_json);
    let prefix = manifest::prefix(&mut source, begin, &key().public()).expect("memory does not fail");
    let Some(prefix) = prefix else {
        seen.insert("nothing holds");
        return;
    };
    assert!(source.is_empty());
    let held = usize::try_from(prefix.bytes).expect("no more than there is");
    assert_eq!(held as u64 + prefix.rest, changed.len() as u64);
    assert!(made.starts_with(&changed[..held]), "a forged line holds");
    assert_eq!(changed[..held].last(), Some(&b'\n'));
    if changed == made {
        assert_eq!(prefix.rest, 0);
    }
    seen.insert(if prefix.rest == 0 {
        "all holds"
    } else {
        "some holds"
    });
    if prefix.later.is_some() {
        seen.insert("later line");
    }
}

fn recording(place: &Place, made: &[u8], changed: &[u8], seen: &mut Seen) {
    holds(place, made, changed, seen);
    fs::write(place.path.join(MANIFEST_FILE), changed).expect("a folder to write to");
    let options = Options {
        log_key: Some(key().public()),
        ..Options::default()
    };
    let report = verify(&place.path, &options).expect("a report");
    if changed == place.manifest {
        assert_eq!(report.state, State::Complete, "{:?}", report.damages);
    } else if changed != made {
        assert_ne!(report.state, State::Complete, "a change is not noticed");
    }
    // What opens is no more than what verifies.
    let opens = Index::open(&place.path, &options).is_ok();
    seen.insert(match report.state {
        State::Complete => "complete",
        State::Unfinished => "unfinished",
        State::Damaged => "damaged",
    });
    if opens {
        seen.insert("opens");
    }
}

/// The file: read as it is, and with a signature of the log's key over whatever it says.
fn facts(bytes: &[u8], seen: &mut Seen) {
    drop(Facts::decode(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // As serde_json writes it.
    let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let signature = key().sign("recording", bytes);
    let file = format!("{{ \"recording\": {quoted}, \"signature\": \"{signature}\" }}");
    match Facts::decode(file.as_bytes()) {
        Ok((facts, attestation)) => {
            assert!(attestation.is_none() && facts.version == 1);
            assert_eq!((facts.log_key, facts.claim), (key().public(), Claim::Unattested));
            let changed = file.replacen("\"signature\": \"", "\"signature\": \"0", 1);
            assert!(Facts::decode(changed.as_bytes()).is_err());
            seen.insert("facts");
        }
        Err(_) => drop(seen.insert("no facts")),
    }
}

/// The bytes are a kind, and a file, a line, or how to make a manifest and what happens to it.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut input = Input(bytes);
    PLACE.with(|place| {
        let place = place.as_ref().expect("a recording in a temporary folder");
        match input.u8() % 4 {
            0 => facts(input.0, &mut seen),
            1 => {
                let _ = manifest::parse(input.0);
                recording(place, &[], input.0, &mut seen);
            }
            2 => {
                let made = make(place, &mut input);
                let mut changed = made.clone();
                input.change(&mut changed);
                recording(place, &made, &changed, &mut seen);
            }
            _ => {
                let mut changed = place.manifest.clone();
                input.change(&mut changed);
                recording(place, &place.manifest, &changed, &mut seen);
            }
        }
    });
    seen
}
