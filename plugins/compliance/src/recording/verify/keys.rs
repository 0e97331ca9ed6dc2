//! The files of a recording that are about its key, and what else lies in its folder.

use std::fs;

use super::{Options, Run, What};
use crate::bundle::{self, FileFacts, SHARES, STATEMENT_FILE};
use crate::recording::holders::{self, HOLDERS, HoldersError, KeyHolders, NEXT, REWRAP_FILE, left_over};
use crate::recording::{Facts, MANIFEST_FILE, RECORDING_FILE, RESERVE_FILE, RecordingError, TRACKS};

impl Run<'_> {
    /// The dealer's statement is the one of recording.json, and says the same.
    pub(super) fn bundle(&mut self, facts: &Facts, options: &Options) -> Result<(), RecordingError> {
        match facts.files.iter().find(|file| file.name == STATEMENT_FILE) {
            None => self.file(
                STATEMENT_FILE,
                What::Changed("recording.json does not bind it".to_owned()),
            ),
            Some(file) => {
                if let Some(bytes) = self.key_file(STATEMENT_FILE, file)?
                    && let Err(how) = facts.is_as_dealt(&bytes)
                {
                    self.file(STATEMENT_FILE, What::Changed(how));
                }
            }
        }
        if let Some(dealer) = options.dealer.filter(|dealer| *dealer != facts.dealer) {
            let how = format!("{} dealt the key, and not {dealer}", facts.dealer);
            self.file(STATEMENT_FILE, What::Changed(how));
        }
        Ok(())
    }

    /// The key files are those of its holders, and there are no others.
    pub(super) fn keys(
        &mut self,
        facts: &Facts,
        file: &[u8],
        options: &Options,
    ) -> Result<(), RecordingError> {
        let read = KeyHolders::read(&self.path, facts, file, options.rewraps);
        let holders = match read {
            Ok(holders) => holders,
            Err(HoldersError::Io { path, error }) if error.kind() == std::io::ErrorKind::NotFound => {
                let name = path.strip_prefix(&self.path).unwrap_or(&path).to_string_lossy();
                self.file(&name, What::Missing);
                return Ok(());
            }
            Err(HoldersError::Io { path, error }) => return Err(RecordingError::io(&path)(error)),
            Err(HoldersError::Damaged { name, why }) => {
                self.file(&name, What::Changed(format!("it {why}")));
                return Ok(());
            }
            Err(error) => {
                self.file(HOLDERS, What::Changed(error.to_string()));
                return Ok(());
            }
        };
        for file in &holders.files {
            self.key_file(&holders.in_folder(&file.name), file)?;
        }
        match left_over(&self.path, &holders) {
            Ok(names) => names.iter().for_each(|name| self.file(name, What::LeftOver)),
            Err(HoldersError::Io { path, error }) => return Err(RecordingError::io(&path)(error)),
            Err(_) => {}
        }
        self.report.holders = Some(holders);
        Ok(())
    }

    /// Reads a file that is bound by its digest, or says that it is not the one.
    fn key_file(&mut self, name: &str, file: &FileFacts) -> Result<Option<Vec<u8>>, RecordingError> {
        let Some(bytes) = self.read(name, bundle::MAX_FILE)? else {
            return Ok(None);
        };
        if file.is_of(&bytes) {
            return Ok(Some(bytes));
        }
        let how = "it is not the file that was signed for".to_owned();
        self.file(name, What::Changed(how));
        Ok(None)
    }

    /// Whatever else lies in the folder. Key files were looked for.
    pub(super) fn nothing_else(&mut self, facts: &Facts) -> Result<(), RecordingError> {
        let escrowed = facts.escrow.is_some();
        self.folder("", |run, name| {
            [RECORDING_FILE, MANIFEST_FILE, TRACKS, HOLDERS].contains(&name)
                || name == RESERVE_FILE && run.end.is_none()
                || name == SHARES && escrowed
                || facts.files.iter().any(|file| file.name == name)
        })?;
        if escrowed {
            self.folder(SHARES, |_, name| facts.files.iter().any(|file| file.name == name))?;
        }
        let Ok(listed) = holders::list(&self.path) else {
            return Ok(());
        };
        for other in listed.others {
            self.file(&format!("{HOLDERS}/{other}"), What::Extra);
        }
        let Some(current) = self.report.holders.clone() else {
            return Ok(());
        };
        let numbers = listed.numbers.iter().map(u32::to_string);
        for name in numbers.chain(listed.next.then(|| NEXT.to_owned())) {
            let folder = format!("{HOLDERS}/{name}");
            let is_current = folder == current.folder;
            if name == NEXT && !is_current {
                // It was named as a whole.
                continue;
            }
            self.folder(&folder, |_, name| {
                let inner = name.strip_prefix(&folder).and_then(|name| name.strip_prefix('/'));
                inner.is_some_and(|inner| {
                    inner == REWRAP_FILE
                        // Those of holders before were named.
                        || !is_current && (inner == bundle::KEY_FILE || inner == SHARES)
                        || is_current && (inner == SHARES && current.escrow.is_some()
                            || current.files.iter().any(|file| file.name == inner))
                })
            })?;
            if is_current && current.escrow.is_some() {
                self.folder(&format!("{folder}/{SHARES}"), |_, name| {
                    current
                        .files
                        .iter()
                        .any(|file| current.in_folder(&file.name) == name)
                })?;
            }
        }
        Ok(())
    }

    /// Names what is in a folder and not known. What is no folder has nothing in it.
    fn folder(&mut self, folder: &str, is_known: impl Fn(&Self, &str) -> bool) -> Result<(), RecordingError> {
        let path = self.path.join(folder);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) && !folder.is_empty() {
            return Ok(());
        }
        let mut wrong = Vec::new();
        for entry in fs::read_dir(&path).map_err(RecordingError::io(&path))? {
            let entry = entry.map_err(RecordingError::io(&path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = match folder {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            if !is_known(self, &name) {
                wrong.push(name);
            }
        }
        wrong.sort_unstable();
        for name in wrong {
            self.file(&name, What::Extra);
        }
        Ok(())
    }
}
