//! The Merkle tree over the log's entries (RFC 6962 §2.1): roots, and proofs that an entry is in it or that a tree grew
//! out of another.
//!
//! To append and to sign, only the roots of the full subtrees are kept: some 20 hashes for a million entries, whatever
//! the log's age. `ct-merkle`'s own tree keeps every node and every leaf in memory, which a recorder that runs for
//! months cannot afford. What a proof needs is collected while the log is read once; which nodes those are, and whether
//! a proof holds, is `ct-merkle`'s part.

use std::collections::BTreeMap;

use ct_merkle::{
    ConsistencyProof, InclusionProof, RootHash, indices_for_consistency_proof, indices_for_inclusion_proof,
};
use ring::digest::{Context, SHA256};
use sha2::Sha256;

/// A hash of the tree.
pub type Hash = [u8; 32];

/// More leaves than any log has: node numbers stay far below the numbers that `ct-merkle` can count.
pub const MAX_SIZE: u64 = 1 << 48;

/// The hash of a leaf: SHA-256(0x00 || entry).
pub fn leaf(entry: &[u8]) -> Hash {
    hash(&[&[0], entry])
}

/// The hash of a node: SHA-256(0x01 || left || right).
fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// SHA-256 of the parts, one after the other.
pub fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The right edge of a tree: the roots of its full subtrees, the largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    peaks: Vec<Hash>,
}

impl Edge {
    /// Leaves of the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.grow(leaf, |_, _| {});
    }

    /// Appends a leaf and shows each node that is complete from now on, with its number.
    fn grow(&mut self, leaf: Hash, mut complete: impl FnMut(u64, &Hash)) {
        let mut start = self.size;
        let mut hash = leaf;
        complete(number(start, 0), &hash);
        // Each set bit of the size is a full subtree; adding one merges as an addition carries.
        for level in 1..=self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            start -= 1 << (level - 1);
            hash = node(&left, &hash);
            complete(number(start, level), &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The tree's root. That of an empty tree is the hash of nothing.
    pub fn root(&self) -> Hash {
        self.fold(|_, _| {})
    }

    /// Puts the full subtrees together from the right, and shows each node that this makes.
    fn fold(&self, mut made: impl FnMut(u64, &Hash)) -> Hash {
        let Some((last, rest)) = self.peaks.split_last() else {
            return hash(&[]);
        };
        let mut hash = *last;
        let mut sizes = self.size;
        // Where the last full subtree starts: without the lowest bit.
        sizes &= sizes.wrapping_sub(1);
        for left in rest.iter().rev() {
            let width = 1 << sizes.trailing_zeros();
            sizes -= width;
            hash = node(left, &hash);
            let level = (self.size - sizes).next_power_of_two().trailing_zeros();
            made(number(sizes, level), &hash);
        }
        hash
    }
}

/// The number of a node as `ct-merkle` counts: leaves are even, their parents odd (RFC 9420, Appendix C).
fn number(start: u64, level: u32) -> u64 {
    2 * start + (1 << level) - 1
}

/// What is to be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The entry of this index is in the tree.
    Inclusion(u64),
    /// The tree grew out of one with so many leaves.
    Consistency(u64),
}

/// A proof in the making: the tree's leaves go by, what is needed is kept.
pub struct Prover {
    size: u64,
    order: Vec<u64>,
    nodes: BTreeMap<u64, Option<Hash>>,
    edge: Edge,
}

impl Prover {
    /// A proof about a tree of `size` leaves. None where there cannot be one: no such entry, no such earlier tree.
    pub fn new(size: u64, claim: Claim) -> Option<Self> {
        if size > MAX_SIZE {
            return None;
        }
        let order = match claim {
            Claim::Inclusion(index) if index < size => indices_for_inclusion_proof(size, index),
            // Everything grew out of nothing.
            Claim::Consistency(0) => Vec::new(),
            Claim::Consistency(old) if old <= size => indices_for_consistency_proof(old, size - old),
            _ => return None,
        };
        Some(Self {
            size,
            nodes: order.iter().map(|number| (*number, None)).collect(),
            order,
            edge: Edge::default(),
        })
    }

    /// Takes the next leaf. Those beyond the tree do not count.
    pub fn push(&mut self, leaf: Hash) {
        if self.edge.size() < self.size {
            let nodes = &mut self.nodes;
            self.edge.grow(leaf, |number, hash| keep(nodes, number, hash));
        }
    }

    /// The proof's hashes, and the root that they lead to. None where leaves are missing.
    pub fn finish(mut self) -> Option<(Vec<Hash>, Hash)> {
        if self.edge.size() != self.size {
            return None;
        }
        let nodes = &mut self.nodes;
        let root = self.edge.fold(|number, hash| keep(nodes, number, hash));
        let hashes = self.order.iter().map(|number| *self.nodes.get(number)?);
        Some((hashes.collect::<Option<_>>()?, root))
    }
}

fn keep(nodes: &mut BTreeMap<u64, Option<Hash>>, number: u64, hash: &Hash) {
    if let Some(place) = nodes.get_mut(&number) {
        *place = Some(*hash);
    }
}

/// Is the entry the one of this index in a tree of this size and root?
pub fn is_included(entry: &[u8], index: u64, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if size > MAX_SIZE {
        return false;
    }
    InclusionProof::try_from_bytes(proof.concat())
        .is_ok_and(|proof| tree(size, root).verify_inclusion(&entry, index, &proof).is_ok())
}

/// Is the tree `old` (size, root) the beginning of the tree `new`?
pub fn is_consistent(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    if new.0 > MAX_SIZE || old.0 > new.0 {
        return false;
    }
    if old.0 == 0 {
        return proof.is_empty() && *old.1 == hash(&[]) && (new.0 > 0 || new.1 == old.1);
    }
    ConsistencyProof::try_from_bytes(proof.concat()).is_ok_and(|proof| {
        tree(new.0, new.1)
            .verify_consistency(&tree(old.0, old.1), &proof)
            .is_ok()
    })
}

fn tree(size: u64, root: &Hash) -> RootHash<Sha256> {
    RootHash::new((*root).into(), size)
}

#[cfg(test)]
mod tests;
