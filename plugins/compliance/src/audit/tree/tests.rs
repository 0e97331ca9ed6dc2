use super::*;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;

/// The leaves of the tree that the tests of Certificate Transparency implementations use.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Their roots for 0, 1, … 8 leaves; computed by RFC 6962's recursive definition in a few lines of Python.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn edge(leaves: &[Vec<u8>]) -> Edge {
    let mut edge = Edge::default();
    leaves.iter().for_each(|entry| edge.push(leaf(entry)));
    edge
}

fn prove(leaves: &[Vec<u8>], claim: Claim) -> Option<(Vec<Hash>, Hash)> {
    let mut prover = Prover::new(leaves.len() as u64, claim)?;
    leaves.iter().for_each(|entry| prover.push(leaf(entry)));
    prover.finish()
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_string().into_bytes()).collect()
}

#[test]
fn roots_are_those_of_rfc_6962() {
    let leaves = LEAVES.map(|leaf| hex::decode(leaf).unwrap());
    for (size, root) in ROOTS.iter().enumerate() {
        assert_eq!(hex::encode(edge(&leaves[..size]).root()), *root, "{size} leaves");
    }
}

#[test]
fn roots_and_proofs_are_those_of_ct_merkle_at_every_size() {
    let leaves = numbered(70);
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=leaves.len() {
        theirs.push(leaves[size - 1].clone());
        let root = edge(&leaves[..size]).root();
        assert_eq!(root[..], theirs.root().as_bytes()[..], "{size} leaves");
        for index in 0..size {
            let ours = prove(&leaves[..size], Claim::Inclusion(index as u64)).unwrap();
            assert_eq!(ours.0.concat(), theirs.prove_inclusion(index).as_bytes());
            assert_eq!(ours.1, root);
        }
        for old in 1..=size {
            let ours = prove(&leaves[..size], Claim::Consistency(old as u64)).unwrap();
            assert_eq!(ours.0.concat(), theirs.prove_consistency(size - old).as_bytes());
        }
    }
}

#[test]
fn what_keeps_the_tree_does_not_grow_with_it() {
    let mut edge = Edge::default();
    for index in 0..1_u64 << 17 {
        edge.push(leaf(&index.to_be_bytes()));
        assert!(edge.peaks.len() <= 17);
    }
    assert_eq!(edge.peaks.len(), 1);
}

#[test]
fn there_is_no_proof_of_what_is_not() {
    let leaves = numbered(5);
    assert_eq!(prove(&leaves, Claim::Inclusion(5)), None);
    assert_eq!(prove(&leaves, Claim::Consistency(6)), None);
    assert_eq!(prove(&[], Claim::Inclusion(0)), None);
    assert!(Prover::new(MAX_SIZE + 1, Claim::Consistency(1)).is_none());
    // A leaf is missing.
    let mut prover = Prover::new(5, Claim::Inclusion(0)).unwrap();
    leaves[..4].iter().for_each(|entry| prover.push(leaf(entry)));
    assert_eq!(prover.finish(), None);
}

#[test]
fn everything_is_consistent_with_nothing_and_nothing_with_nothing_only() {
    let nothing = hash(&[]);
    let some = edge(&numbered(3)).root();
    assert!(is_consistent((0, &nothing), (3, &some), &[]));
    assert!(is_consistent((0, &nothing), (0, &nothing), &[]));
    assert!(!is_consistent((0, &nothing), (0, &some), &[]));
    assert!(!is_consistent((0, &some), (3, &some), &[]));
    assert!(!is_consistent((0, &nothing), (3, &some), &[some]));
    assert!(!is_consistent((3, &some), (0, &nothing), &[]));
    assert!(!is_consistent((1, &some), (u64::MAX, &some), &[]));
    assert!(!is_included(b"", u64::MAX - 1, u64::MAX, &some, &[]));
}

proptest! {
    #[test]
    fn a_proof_holds_for_its_own_claim_only(size in 1..200usize, at in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let leaves = numbered(size);
        let index = at.index(size);
        let (proof, root) = prove(&leaves, Claim::Inclusion(index as u64)).unwrap();
        let holds = |entry: &[u8], index, size, root: &Hash, proof: &[Hash]| is_included(entry, index, size, root, proof);
        let (index, size) = (index as u64, size as u64);
        let entry = &leaves[index as usize][..];
        prop_assert!(holds(entry, index, size, &root, &proof));
        prop_assert!(!holds(b"other", index, size, &root, &proof));
        prop_assert!(!holds(entry, index + 1, size, &root, &proof));
        let mut other = root;
        other[0] ^= 1;
        prop_assert!(!holds(entry, index, size, &other, &proof));
        if !proof.is_empty() {
            prop_assert!(!holds(entry, index, size, &root, &proof[1..]));
            let bit = bit.index(proof.len() * 256);
            let mut flipped = proof.clone();
            flipped[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
            prop_assert!(!holds(entry, index, size, &root, &flipped));
        }
    }

    #[test]
    fn a_tree_is_consistent_with_its_beginnings_and_not_with_forks(size in 1..200usize, at in any::<prop::sample::Index>(), changed in any::<prop::sample::Index>()) {
        let leaves = numbered(size);
        let old = at.index(size) + 1;
        let old_root = edge(&leaves[..old]).root();
        let (proof, root) = prove(&leaves, Claim::Consistency(old as u64)).unwrap();
        let (old, size) = (old as u64, size as u64);
        prop_assert!(is_consistent((old, &old_root), (size, &root), &proof));
        prop_assert!(!is_consistent((old, &root), (size, &root), &proof) || old == size);
        // The same log with another entry in what was there already.
        let mut fork = leaves.clone();
        fork[changed.index(old as usize)] = b"other".to_vec();
        let (proof, root) = prove(&fork, Claim::Consistency(old)).unwrap();
        prop_assert!(!is_consistent((old, &old_root), (size, &root), &proof));
    }
}
