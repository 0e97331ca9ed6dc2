//! What people say in the room, and by which name. Sent as application data of the epoch that stands (RFC 9420 §6.3.1).
//!
//! Whoever reads the log can open a message only in its own epoch. A commit that gets into the log between the sealing of
//! a chunk and its place there would lose it for everybody. So one chunk is under way at a time, and it counts as said
//! only when it came back in the epoch in which it was sealed; else it is sealed again in the epoch that stands then. Its
//! place in the log also makes the order of messages the same for all.
//!
//! Nothing is said while a member's wish to leave waits (RFC 9420 §12.4), nor where media would not be sealed.

use std::collections::{BTreeMap, VecDeque};

use ring::rand::{SecureRandom, SystemRandom};

use super::entries::hash;
use super::group::{self, GroupError};
use super::stuck::Held;
use super::{Event, Output, ROW_NAMES, Room, State};
use crate::content::{Content, Cut, Inbox, MAX_BODY, Taken};
use crate::identity::Fingerprint;
use crate::record::Record;
use crate::store::Store;

/// Application data with a chunk of a message begins with it; signs of life are the bytes below.
pub(super) const CONTENT: u8 = 5;
/// Application data with its author's name begins with it.
pub(super) const NAME: u8 = 6;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 64;
/// A chunk that did not come back for so long is appended again, in milliseconds.
const PATIENCE: u64 = 5000;
/// Most bytes of messages that wait to be sent.
const MOST_WAITING: usize = 4 * MAX_BODY;
/// Most messages that wait to be sent.
const MOST_MESSAGES: usize = 256;
/// Above so many members only who comes in says its name: everybody's answers would be many.
const NAMED_AT_MOST: usize = 32;

struct Waiting {
    ticket: u64,
    cut: Cut,
    /// Chunks that stand in the log.
    said: u32,
}

/// A chunk on its way to the log.
struct Flight {
    hash: [u8; 32],
    record: Record,
    epoch: u64,
    sent: u64,
}

/// Messages of this endpoint and of the others, and what all are called.
#[derive(Default)]
pub(super) struct Saying {
    waiting: VecDeque<Waiting>,
    flight: Option<Flight>,
    inbox: Inbox,
    names: BTreeMap<Fingerprint, String>,
    /// Is there somebody who does not know the own name?
    introduce: bool,
    /// Was it said at all?
    introduced: bool,
}

/// Is this a name that a person can read, and nothing else?
pub fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

impl<S: Store> Room<S> {
    /// Takes a message to be said; the answer comes when all of it stands in the log.
    pub(super) fn take_content(&mut self, ticket: u64, content: &Content) {
        let bytes: usize = self.saying.waiting.iter().map(|waiting| waiting.cut.length).sum();
        let cut = if !self.own.identity().is_participant() {
            Err("a recorder says nothing in the room: only participants do".to_owned())
        } else if self.leaving || self.out.is_some() {
            Err("this endpoint is no longer in the room".to_owned())
        } else if self.saying.waiting.len() >= MOST_MESSAGES || bytes + content.body.len() > MOST_WAITING {
            Err("too many messages wait to be sent: send this one again later".to_owned())
        } else {
            let mut id = [0; 16];
            match SystemRandom::new().fill(&mut id) {
                Ok(()) => Cut::new(id, content, self.settings.padding).map_err(|error| error.to_string()),
                Err(_) => Err("the system gives no random bytes".to_owned()),
            }
        };
        match cut {
            Ok(cut) => self.saying.waiting.push_back(Waiting { ticket, cut, said: 0 }),
            Err(why) => self.outputs.push_back(Output::Answer {
                ticket,
                result: Err(why),
            }),
        }
    }

    /// What waits will not be said any more.
    pub(super) fn drop_contents(&mut self, why: &str) {
        self.saying.flight = None;
        for waiting in std::mem::take(&mut self.saying.waiting) {
            self.outputs.push_back(Output::Answer {
                ticket: waiting.ticket,
                result: Err(why.to_owned()),
            });
        }
    }

    fn may_speak(&self) -> bool {
        self.may_seal()
            && self.pending.is_none()
            && self
                .current
                .as_ref()
                .is_some_and(|current| current.group.leaving().is_empty())
    }

    /// Seals the next chunk, or appends the last one again.
    pub(super) fn speak(&mut self) -> Result<(), GroupError> {
        let now = self.now.ms;
        if let Some(flight) = &mut self.saying.flight {
            if flight.sent + PATIENCE <= now {
                flight.sent = now;
                let record = flight.record.clone();
                self.append(record);
            }
            return Ok(());
        }
        if !self.may_speak() {
            return Ok(());
        }
        let next = self.saying.waiting.front();
        let Some(chunk) = next.and_then(|waiting| waiting.cut.chunk(waiting.said)) else {
            return Ok(());
        };
        let data = [&[CONTENT], &chunk[..]].concat();
        let sealed = self.transaction(|room| {
            let Some(current) = &mut room.current else {
                return Ok(None);
            };
            let message = current.group.message(&room.store, &room.own, &data)?;
            Ok(Some((message, current.group.epoch())))
        })?;
        let Some((message, epoch)) = sealed else {
            return Ok(());
        };
        let record = Record::Content(message);
        self.saying.flight = Some(Flight {
            hash: hash(&record.encode()),
            record: record.clone(),
            epoch,
            sent: now,
        });
        self.append(record);
        Ok(())
    }

    /// A chunk in the log; `hash` is its record's.
    pub(super) fn content_entry(&mut self, hash: [u8; 32], message: Vec<u8>) -> Result<(), GroupError> {
        if self.stuck.is_some() {
            self.hold(Held::Content { hash, message });
            return Ok(());
        }
        let own = self.saying.flight.take_if(|flight| flight.hash == hash);
        let Some(flight) = own else {
            return self.message_entry(&message);
        };
        let epoch = self.current.as_ref().map(|current| current.group.epoch());
        // Else the commit was there first, and nobody can read it.
        if epoch != Some(flight.epoch) {
            return Ok(());
        }
        let by = self.own.identity().subject.clone();
        let Some(first) = self.saying.waiting.front_mut() else {
            return Ok(());
        };
        first.said += 1;
        let (id, done, of) = (first.cut.id(), first.said, first.cut.count());
        let ticket = first.ticket;
        if of > 1 {
            self.event(Event::MessageProgress {
                id,
                by,
                own: true,
                done,
                of,
            });
        }
        if done == of {
            self.saying.waiting.pop_front();
            self.counters.messages_sent += 1;
            self.outputs.push_back(Output::Answer {
                ticket,
                result: Ok(()),
            });
        }
        Ok(())
    }

    /// A member's chunk, opened.
    pub(super) fn chunk(&mut self, chunk: &[u8], leaf: u32) -> Result<(), GroupError> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let Some(author) = current.roster.get(&leaf) else {
            return Ok(());
        };
        let (by, epoch) = (author.identity.subject.clone(), current.group.epoch());
        if !author.identity.is_participant() {
            let why = "a recorder says nothing in a room".to_owned();
            return self.refuse("message", &by, GroupError::Refused(why));
        }
        match self.saying.inbox.take(leaf, chunk) {
            Ok(Taken::Again) => Ok(()),
            Ok(Taken::Part(id, done, of)) => {
                self.event(Event::MessageProgress {
                    id,
                    by,
                    own: false,
                    done,
                    of,
                });
                Ok(())
            }
            Ok(Taken::Whole(content)) => {
                self.counters.messages_received += 1;
                self.outputs.push_back(Output::Said(Box::new(Said {
                    epoch,
                    leaf,
                    sender: by,
                    content,
                })));
                Ok(())
            }
            Err(error) => self.refuse("message", &by, GroupError::Refused(error.to_string())),
        }
    }

    /// A new epoch: what was sealed in the one before is sealed again; who came does not know this endpoint's name.
    pub(super) fn entered_saying(&mut self, somebody_came: bool) {
        let Some(current) = &self.current else { return };
        let epoch = current.group.epoch();
        self.saying.flight.take_if(|flight| flight.epoch != epoch);
        self.saying
            .inbox
            .retain(|leaf| current.roster.contains_key(&leaf));
        let present = |who: &Fingerprint| {
            current
                .roster
                .values()
                .any(|leaf| leaf.identity.fingerprint == *who)
        };
        self.saying.names.retain(|who, _| present(who));
        self.saying.introduce |= somebody_came && self.settings.display_name.is_some();
    }

    /// Says the own name to those who do not know it.
    pub(super) fn introduce(&mut self) -> Result<(), GroupError> {
        let Some(current) = self.current.as_ref().filter(|_| self.saying.introduce) else {
            return Ok(());
        };
        let members = current.roster.len();
        let waits = !current.group.leaving().is_empty() || self.pending.is_some();
        if members < 2 || waits || self.state() != State::Ready {
            return Ok(());
        }
        self.saying.introduce = false;
        let Some(name) = self.settings.display_name.clone() else {
            return Ok(());
        };
        if members > NAMED_AT_MOST && self.saying.introduced {
            return Ok(());
        }
        // All names are of one length to who carries them.
        let mut data = vec![NAME];
        data.extend_from_slice(name.as_bytes());
        data.resize(1 + MAX_NAME, 0);
        self.saying.introduced = true;
        self.say(&data)
    }

    /// A member's name, in its own words.
    pub(super) fn named(&mut self, name: &[u8], leaf: u32) -> Result<(), GroupError> {
        let Some(author) = self.current.as_ref().and_then(|c| c.roster.get(&leaf)) else {
            return Ok(());
        };
        let (who, id) = (author.identity.fingerprint, author.identity.subject.clone());
        let end = name
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let name = name.get(..end).and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name.filter(|name| is_name(name)) else {
            let why = "a name that is none".to_owned();
            return self.refuse("message", &id, GroupError::Refused(why));
        };
        if self.saying.names.get(&who).is_some_and(|known| known == name) {
            return Ok(());
        }
        self.saying.names.insert(who, name.to_owned());
        let names = self.saying.names.iter();
        let row: BTreeMap<String, &String> = names.map(|(who, name)| (who.to_string(), name)).collect();
        let row = serde_json::to_vec(&row).map_err(group::store_error)?;
        self.transaction(|room| room.store.put(ROW_NAMES, &row).map_err(group::store_error))?;
        let name = name.to_owned();
        self.event(Event::MemberNamed { leaf, id, name });
        Ok(())
    }

    /// Names that were heard in an earlier life. What cannot be read is not needed.
    pub(super) fn restore_names(&mut self) -> Result<(), GroupError> {
        let row = self.store.get(ROW_NAMES).map_err(group::store_error)?;
        let names: BTreeMap<String, String> = row
            .and_then(|row| serde_json::from_slice(&row).ok())
            .unwrap_or_default();
        let names = names
            .into_iter()
            .filter_map(|(who, name)| Some((who.parse().ok()?, name)));
        self.saying.names = names.collect();
        Ok(())
    }

    /// What a member calls itself.
    pub(super) fn name_of(&self, who: &Fingerprint, own: bool) -> Option<String> {
        if own {
            return self.settings.display_name.clone();
        }
        self.saying.names.get(who).cloned()
    }

    pub(super) fn saying_deadline(&self) -> Option<u64> {
        self.saying.flight.as_ref().map(|flight| flight.sent + PATIENCE)
    }
}

/// A message that somebody said.
#[derive(Debug)]
pub struct Said {
    /// Epoch in which its last chunk was sealed.
    pub epoch: u64,
    /// Its author's leaf.
    pub leaf: u32,
    /// Its author's subject id.
    pub sender: String,
    /// What was said.
    pub content: Content,
}
