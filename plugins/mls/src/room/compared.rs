//! Whom people have verified: who is behind a certificate only they can say, by comparing codes.
//!
//! What was compared are identity keys, so it holds for a certificate for as long as this process runs, whatever epochs
//! come; whoever is new in the room is not verified.

use super::{Room, code_of};
use crate::codes::{IdentityKey, pair_code};
use crate::identity::Identity;
use crate::store::Store;

/// Most certificates that are remembered.
const REMEMBERED: usize = 4096;

/// Codes are equal by their digits alone: people write and read them in groups.
fn same(a: &str, b: &str) -> bool {
    let digits = |code: &str| -> String { code.chars().filter(|c| !c.is_whitespace()).collect() };
    let (a, b) = (digits(a), digits(b));
    !a.is_empty() && a == b
}

impl<S: Store> Room<S> {
    /// A code that people compared: it must be the one that stands here, too.
    pub(super) fn confirm(&mut self, member: Option<&str>, code: &str) -> Result<(), &'static str> {
        let Some(current) = &self.current else {
            return Err("there is no room yet whose code it could be");
        };
        let own = current.own();
        let others = current.roster.iter().filter(|(leaf, _)| **leaf != own);
        let others: Vec<&Identity> = others.map(|(_, leaf)| &leaf.identity).collect();
        let compared = match member {
            None if same(code, &code_of(current)) => others,
            None => {
                return Err(
                    "this is not the code of the present epoch: it changes with every commit, so compare it again; \
                            where it still differs, somebody is in between or sees another room",
                );
            }
            Some(name) => {
                let named = |of: &&Identity| of.subject == name || of.fingerprint.to_string() == name;
                let mut found = others.into_iter().filter(named);
                let (Some(one), None) = (found.next(), found.next()) else {
                    return Err("name one other member, by its subject id or its fingerprint");
                };
                let own = IdentityKey::from(self.own.identity());
                if !same(code, &pair_code(&own, &IdentityKey::from(one))) {
                    return Err(
                        "this is not the pair code with this member: somebody is in between, or it was misheard",
                    );
                }
                vec![one]
            }
        };
        for identity in compared {
            if self.compared.len() < REMEMBERED {
                self.compared.insert(identity.fingerprint);
            }
        }
        Ok(())
    }
}
