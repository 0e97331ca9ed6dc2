//! Verifying a recording without any media key: every byte of every file is accounted for, or its place is named.
//!
//! The manifest is read twice, the tars once, both in order and through small buffers. Where the chain of lines is
//! whole, the last line's signature is for all of them and is the only one to be checked; where it is not, each line
//! has to stand for itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use report::{Damage, MAX_DAMAGES, Options, Place, Report, State, TrackReport, What};

use super::facts::{self, Facts};
use super::manifest::{self, Chain, EndFact, Fact, LineError, MemberFact, Raw, TrackFact, TrackId, prefix};
use super::member::{END_OF_ARCHIVE, Expected, Found, inspect, member_name, space};
use super::{MANIFEST_FILE, Medium, RECORDING_FILE, RecordingError, TRACKS};
use crate::bundle::read_bounded;
use crate::signing::PublicKey;

mod keys;
mod report;

/// Through which tars are read.
const BUFFER: usize = 128 << 10;

/// Verifies a recording. An error is only what the system says; whatever is wrong with the recording is in the report.
pub fn verify(path: &Path, options: &Options) -> Result<Report, RecordingError> {
    verify_and(path, options, &mut |_, _| {})
}

/// The same, and shows what the lines say, one after the other, and whether what each speaks of is as it was sealed: of a
/// damaged manifest only the lines that its key stands for.
pub fn verify_and(
    path: &Path,
    options: &Options,
    see: &mut dyn FnMut(&Fact, bool),
) -> Result<Report, RecordingError> {
    let mut run = Run::new(path, see);
    if !fs::metadata(path).map_err(RecordingError::io(path))?.is_dir() {
        let error = io::ErrorKind::NotADirectory.into();
        return Err(RecordingError::io(path)(error));
    }
    run.all(options)?;
    Ok(run.report)
}

struct Run<'a> {
    path: PathBuf,
    see: &'a mut dyn FnMut(&Fact, bool),
    report: Report,
    /// The tars that there are, by their track.
    tars: BTreeMap<TrackId, Tar>,
    buffer: Vec<u8>,
    end: Option<EndFact>,
    started: bool,
}

struct Tar {
    name: String,
    file: File,
    length: u64,
    /// Where the next member must begin.
    next: u64,
    sequence: u64,
}

impl<'a> Run<'a> {
    fn new(path: &Path, see: &'a mut dyn FnMut(&Fact, bool)) -> Self {
        Self {
            path: path.to_owned(),
            see,
            report: Report {
                state: State::Damaged,
                facts: None,
                holders: None,
                pinned: false,
                root: None,
                tracks: Vec::new(),
                end: None,
                lost: 0,
                resumed: 0,
                unsealed: 0,
                damages: Vec::new(),
                more_damages: 0,
                bytes: 0,
            },
            tars: BTreeMap::new(),
            buffer: vec![0; BUFFER],
            end: None,
            started: false,
        }
    }

    fn damage(&mut self, place: Place, what: What) {
        if self.report.damages.len() < MAX_DAMAGES {
            self.report.damages.push(Damage { place, what });
        } else {
            self.report.more_damages += 1;
        }
    }

    fn faults(&self) -> u64 {
        self.report.damages.len() as u64 + self.report.more_damages
    }

    fn file(&mut self, name: &str, what: What) {
        self.damage(Place::File(name.to_owned()), what);
    }

    fn all(&mut self, options: &Options) -> Result<(), RecordingError> {
        let Some(file) = self.read(RECORDING_FILE, facts::MAX_FILE)? else {
            return Ok(());
        };
        let facts = match Facts::decode(&file) {
            Ok((facts, _)) => facts,
            Err(why) => {
                // Nothing that follows can be judged without it.
                self.file(
                    RECORDING_FILE,
                    What::Changed(format!("it {why}; nothing else was checked")),
                );
                return Ok(());
            }
        };
        if let Some(key) = options.log_key.filter(|key| *key != facts.log_key) {
            let how = format!("{} signed it, and not the audit log {key}", facts.log_key);
            self.file(RECORDING_FILE, What::Changed(how));
            return Ok(());
        }
        self.report.pinned = options.log_key.is_some();
        self.bundle(&facts, options)?;
        self.keys(&facts, &file, options)?;
        self.find_tars()?;
        let whole = self.manifest(&facts, Chain::new(&file), options)?;
        self.tails(whole)?;
        self.nothing_else(&facts)?;
        for empty in self.report.tracks.iter_mut().filter(|track| track.members == 0) {
            empty.from_ns = 0;
        }
        self.report.facts = Some(facts);
        if let Some(end) = &self.end {
            self.report.end = Some((end.time, end.reason.clone()));
            self.report.lost = end.lost;
        }
        self.report.state = match (&self.report.damages[..], &self.end) {
            ([], Some(_)) => State::Complete,
            ([], None) => State::Unfinished,
            _ => State::Damaged,
        };
        Ok(())
    }

    /// Reads a small file, or names what is wrong with it.
    fn read(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, RecordingError> {
        let path = self.path.join(name);
        match read_bounded(&path, limit) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.file(name, What::Missing),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.file(
                    name,
                    What::Changed("it is too long, or no regular file".to_owned()),
                );
            }
            Err(error) => return Err(RecordingError::io(&path)(error)),
        }
        Ok(None)
    }

    fn find_tars(&mut self) -> Result<(), RecordingError> {
        let folder = self.path.join(TRACKS);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.file(TRACKS, What::Missing);
                return Ok(());
            }
            result => result.map_err(RecordingError::io(&folder))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(RecordingError::io(&folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_file = entry.file_type().map_err(RecordingError::io(&folder))?.is_file();
            names.push((name, is_file, entry.path()));
        }
        names.sort_unstable();
        for (name, is_file, path) in names {
            let track = track_of(&name).filter(|track| is_file && !self.tars.contains_key(track));
            let Some(track) = track else {
                self.file(&format!("{TRACKS}/{name}"), What::Extra);
                continue;
            };
            let open = || {
                let file = File::open(&path)?;
                let length = file.metadata()?.len();
                Ok((file, length))
            };
            let (file, length) = open().map_err(RecordingError::io(&path))?;
            let tar = Tar {
                name,
                file,
                length,
                next: 0,
                sequence: 0,
            };
            self.tars.insert(track, tar);
        }
        Ok(())
    }

    /// Checks the lines, and the members that they name. Is the manifest whole, as far as it goes?
    fn manifest(&mut self, facts: &Facts, begin: Chain, options: &Options) -> Result<bool, RecordingError> {
        let path = self.path.join(MANIFEST_FILE);
        let io = |error| RecordingError::io(&path)(error);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            found => {
                let extra = What::Changed("it is no regular file".to_owned());
                self.file(MANIFEST_FILE, if found.is_ok() { extra } else { What::Missing });
                return Ok(false);
            }
        }
        let open = || File::open(&path).map(BufReader::new);
        let found = prefix(&mut open().map_err(io)?, begin, &facts.log_key).map_err(io)?;
        self.report.root = found.map(|prefix| prefix.chain.root());
        let whole = found.is_some_and(|prefix| prefix.rest == 0);
        let mut lines = Lines {
            key: facts.log_key,
            chain: begin,
            whole,
            broken: false,
        };
        let mut passed = 0;
        let mut known = options.known.filter(|known| *known != begin.root());
        let mut source = open().map_err(io)?;
        while let Some(raw) = manifest::next_raw(&mut source).map_err(io)? {
            if whole && found.is_some_and(|found| passed >= found.bytes) {
                // Written since the chain was checked.
                self.report.unsealed += raw.bytes();
                continue;
            }
            passed += raw.bytes();
            let number = lines.chain.root().lines;
            let line = match raw {
                Raw::Torn(bytes) => {
                    // As a crash leaves it. What had been sealed before the crash is in the lines before.
                    self.report.unsealed += bytes;
                    continue;
                }
                Raw::TooLong(_) => {
                    self.damage(Place::Line(number), What::Changed("it is too long".to_owned()));
                    lines.chain.pass(&[]);
                    lines.broken = true;
                    continue;
                }
                Raw::Line(line) => line,
            };
            if let Some(fact) = self.line(&mut lines, &line) {
                let (said, before) = (fact.clone(), self.faults());
                self.fact(fact, facts, lines.whole)?;
                let good = self.faults() == before;
                (self.see)(&said, good);
            }
            known = known.filter(|known| *known != lines.chain.root());
        }
        if let Some(known) = known {
            let how = format!(
                "the audit log knows {} lines of it, which are not these",
                known.lines
            );
            self.file(MANIFEST_FILE, What::Changed(how));
        }
        if !self.started {
            self.file(
                MANIFEST_FILE,
                What::Changed("it has no good first line".to_owned()),
            );
        }
        Ok(whole)
    }

    /// Judges a line by itself and by the one before; none: it says nothing that counts.
    fn line(&mut self, lines: &mut Lines, line: &[u8]) -> Option<Fact> {
        let number = lines.chain.root().lines;
        let read = if lines.whole {
            manifest::parse(line).map(|(content, ..)| content)
        } else {
            manifest::verify_line(line, &lines.key)
        };
        let content = match read {
            Ok(content) => content,
            Err(error) => {
                let how = match error {
                    LineError::Form => "it is no line of a manifest",
                    _ => "its signature is not the audit log key's",
                };
                self.damage(Place::Line(number), What::Changed(how.to_owned()));
                lines.chain.pass(line);
                lines.broken = true;
                return None;
            }
        };
        if content.line < number {
            self.damage(Place::Line(content.line), What::OutOfOrder);
            return None;
        }
        if content.line > number {
            for missing in number..content.line.min(number + MAX_DAMAGES as u64) {
                self.damage(Place::Line(missing), What::Missing);
            }
        } else if !lines.broken && !lines.chain.follows(&content) {
            if number == 0 {
                let how = "the manifest was begun with another one".to_owned();
                self.file(RECORDING_FILE, What::Changed(how));
            } else {
                let how = "the next line was written after another one".to_owned();
                self.damage(Place::Line(number - 1), What::Changed(how));
            }
        }
        lines.broken = false;
        lines.chain = Chain::behind(content.line, line);
        Some(content.fact)
    }

    fn fact(&mut self, fact: Fact, facts: &Facts, whole: bool) -> Result<(), RecordingError> {
        if let Some(end) = &self.end {
            let how = format!("the manifest goes on after its end ({})", end.reason);
            self.file(MANIFEST_FILE, What::Changed(how));
            return Ok(());
        }
        match fact {
            Fact::Start(start) => {
                if std::mem::replace(&mut self.started, true) || start.time != facts.started {
                    self.file(
                        MANIFEST_FILE,
                        What::Changed("it starts twice, or at another time".to_owned()),
                    );
                }
            }
            Fact::Resumed(_) => self.report.resumed += 1,
            Fact::Track(track) => self.track(&track),
            Fact::Gap(gap) => self.of(gap.track).gaps += 1,
            Fact::Member(member) => self.member(&member, facts, whole)?,
            Fact::End(end) => self.end = Some(end),
        }
        Ok(())
    }

    fn track(&mut self, fact: &TrackFact) {
        if self.of(fact.track).medium.replace(fact.medium).is_some() {
            let how = format!("it opens track {} twice", fact.track);
            self.file(MANIFEST_FILE, What::Changed(how));
        }
    }

    /// The report of a track, in the order of their numbers.
    fn of(&mut self, track: TrackId) -> &mut TrackReport {
        let tracks = &mut self.report.tracks;
        let index = match tracks.binary_search_by_key(&track, |track| track.track) {
            Ok(index) => index,
            Err(index) => {
                let new = TrackReport {
                    track,
                    medium: None,
                    good: 0,
                    members: 0,
                    gaps: 0,
                    from_ns: u64::MAX,
                    to_ns: 0,
                };
                tracks.insert(index, new);
                index
            }
        };
        &mut tracks[index]
    }

    fn member(&mut self, fact: &MemberFact, facts: &Facts, whole: bool) -> Result<(), RecordingError> {
        let track = fact.track;
        let report = self.of(track);
        report.members += 1;
        report.from_ns = report.from_ns.min(fact.from);
        report.to_ns = report.to_ns.max(fact.to);
        let place = |sequence| Place::Member { track, sequence };
        let Some(tar) = self.tars.get_mut(&track) else {
            self.damage(place(fact.sequence), What::Missing);
            return Ok(());
        };
        let Some(medium) = tar.name.split(['-', '.']).nth(1).and_then(medium_of) else {
            self.damage(place(fact.sequence), What::Missing);
            return Ok(());
        };
        let name = member_name(track, medium, fact.sequence);
        let expected = Expected {
            name: &name,
            time: facts.tar_time(),
            offset: fact.offset,
            bytes: fact.bytes,
            sha256: fact.sha256,
        };
        let path = self.path.join(TRACKS).join(&tar.name);
        let found = inspect(&expected, &mut self.buffer, |part, offset| {
            tar.file.read_at(part, offset)
        })
        .map_err(RecordingError::io(&path))?;
        let (next, sequence) = (tar.next, tar.sequence);
        tar.next = fact.offset + space(fact.bytes);
        tar.sequence = fact.sequence + 1;
        self.report.bytes += space(fact.bytes);
        if fact.sequence < sequence
            || fact.offset < next
            || (whole && (fact.sequence, fact.offset) != (sequence, next))
        {
            self.damage(place(fact.sequence), What::OutOfOrder);
        } else {
            for unlisted in sequence..fact.sequence.min(sequence.saturating_add(MAX_DAMAGES as u64)) {
                self.damage(place(unlisted), What::Unlisted);
            }
        }
        match found {
            Found::Whole => self.of(track).good += 1,
            Found::Changed => {
                let how = "its bytes are not those that were sealed".to_owned();
                self.damage(place(fact.sequence), What::Changed(how));
            }
            Found::Truncated if fact.offset >= self.length(track) => {
                self.damage(place(fact.sequence), What::Missing);
            }
            Found::Truncated => self.damage(place(fact.sequence), What::Truncated),
        }
        Ok(())
    }

    fn length(&self, track: TrackId) -> u64 {
        self.tars.get(&track).map_or(0, |tar| tar.length)
    }

    /// What comes behind the last member of each tar.
    fn tails(&mut self, whole: bool) -> Result<(), RecordingError> {
        let mut wrong = Vec::new();
        for (track, tar) in &self.tars {
            let name = format!("{TRACKS}/{}", tar.name);
            let ends = self.end.as_ref().map(|end| {
                let index = usize::try_from(track.0).ok();
                index.and_then(|index| end.tracks.get(index))
            });
            let report = self.report.tracks.iter().find(|report| report.track == *track);
            if let Some(medium) = report.and_then(|report| report.medium)
                && tar.name != super::member::tar_name(*track, medium)
            {
                wrong.push((name, What::Extra));
                continue;
            }
            match ends {
                // It goes on, or a crash left something.
                None => self.report.unsealed += tar.length.saturating_sub(tar.next),
                Some(None) => wrong.push((name, What::Extra)),
                Some(Some(end)) => {
                    let closed = end.bytes.saturating_sub(tar.next) == END_OF_ARCHIVE as u64;
                    if end.bytes == 0 || tar.length > end.bytes {
                        wrong.push((name, What::Extra));
                    } else if tar.length < end.bytes {
                        wrong.push((name, What::Truncated));
                    } else if whole && (end.members != tar.sequence || !(closed || end.bytes == tar.next)) {
                        wrong.push((name, What::Changed("its end record does not fit".to_owned())));
                    } else if closed
                        && !is_zero(&tar.file, tar.next)
                            .map_err(RecordingError::io(&self.path.join(&name)))?
                    {
                        let how = "its end of archive is not all zeros".to_owned();
                        wrong.push((name, What::Changed(how)));
                    }
                }
            }
        }
        if let Some(end) = &self.end {
            let members = |report: &TrackReport| {
                usize::try_from(report.track.0)
                    .ok()
                    .and_then(|i| end.tracks.get(i))
            };
            if whole
                && (end.tracks.len() != self.report.tracks.len()
                    || !self
                        .report
                        .tracks
                        .iter()
                        .all(|report| members(report).is_some_and(|end| end.members == report.members)))
            {
                wrong.push((
                    MANIFEST_FILE.to_owned(),
                    What::Changed("its end record does not fit".to_owned()),
                ));
            }
            // With a manifest that is not whole, the lines of the last members can be the ones that are missing.
            let mut unlisted = Vec::new();
            for (index, end) in end.tracks.iter().enumerate() {
                let track = TrackId(u32::try_from(index).unwrap_or(u32::MAX));
                let from = self.tars.get(&track).map_or(0, |tar| tar.sequence);
                let until = end.members.min(from.saturating_add(MAX_DAMAGES as u64));
                unlisted.extend((from..until).map(|sequence| (track, sequence)));
            }
            for (track, sequence) in unlisted {
                self.damage(Place::Member { track, sequence }, What::Unlisted);
            }
        }
        for (name, what) in wrong {
            self.file(&name, what);
        }
        Ok(())
    }
}

/// The state of a manifest that is read.
struct Lines {
    key: PublicKey,
    chain: Chain,
    /// Chain and last signature are good: so is every line.
    whole: bool,
    /// The line before is damaged, so that it is not known what this one must name.
    broken: bool,
}

fn medium_of(word: &str) -> Option<Medium> {
    Medium::ALL.into_iter().find(|medium| medium.to_string() == word)
}

/// The track of a tar's name.
fn track_of(name: &str) -> Option<TrackId> {
    let (number, medium) = name.strip_suffix(".tar")?.split_once('-')?;
    let track = TrackId(number.parse().ok()?);
    (track.to_string() == number && medium_of(medium).is_some()).then_some(track)
}

fn is_zero(file: &File, from: u64) -> io::Result<bool> {
    let mut end = [1; END_OF_ARCHIVE];
    file.read_exact_at(&mut end, from)?;
    Ok(end.iter().all(|byte| *byte == 0))
}
