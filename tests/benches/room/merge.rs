//! What durability costs: a member takes a commit, process and merge, with its state in openmls' own memory storage,
//! in `MemoryStore` and in `SqliteStore`; and one bare fsync on the same disk.
//! Set `TMPDIR` to measure another disk.

use gstmls::store::{MemoryStore, SqliteStore, Store};
use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::{Signer, SignerError};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
const ROUNDS: usize = 100;

/// A leaf certificate and its root have some 800 bytes.
const CREDENTIAL: usize = 800;

struct Member {
    key: Key,
    group: Option<MlsGroup>,
}

struct Key(Ed25519KeyPair);

impl Signer for Key {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).as_ref().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl Member {
    fn new(number: usize) -> Self {
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let key = Key(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
        Self { key, group: None }
    }

    fn credential(&self) -> CredentialWithKey {
        // As incompressible as a certificate.
        let certificate = (0..CREDENTIAL).map(|i| ((i * i * 31) >> 3) as u8).collect();
        CredentialWithKey {
            credential: Credential::new(CredentialType::X509, certificate),
            signature_key: self.key.0.public_key().as_ref().to_vec().into(),
        }
    }

    fn create(&mut self, provider: &impl OpenMlsProvider) {
        let group = MlsGroup::builder()
            .ciphersuite(SUITE)
            .use_ratchet_tree_extension(true)
            .with_capabilities(capabilities())
            .build(provider, &self.key, self.credential());
        self.group = Some(group.unwrap());
    }

    /// Lets `new` in; the commit for the others.
    fn add<P: OpenMlsProvider>(
        &mut self,
        provider: &impl OpenMlsProvider,
        new: &mut Self,
        to: &P,
    ) -> Vec<u8> {
        let package = KeyPackage::builder()
            .leaf_node_capabilities(capabilities())
            .build(SUITE, to, &new.key, new.credential())
            .unwrap();
        let group = self.group.as_mut().unwrap();
        let packages = [package.key_package().clone()];
        let (commit, welcome, _) = group.add_members(provider, &self.key, &packages).unwrap();
        group.merge_pending_commit(provider).unwrap();
        let welcome = MlsMessageIn::tls_deserialize_exact(welcome.to_bytes().unwrap()).unwrap();
        let MlsMessageBodyIn::Welcome(welcome) = welcome.extract() else {
            panic!("not a Welcome");
        };
        let staged = StagedWelcome::new_from_welcome(to, &MlsGroupJoinConfig::default(), welcome, None);
        new.group = Some(staged.unwrap().into_group(to).unwrap());
        commit.to_bytes().unwrap()
    }

    fn update(&mut self, provider: &impl OpenMlsProvider) -> Vec<u8> {
        let group = self.group.as_mut().unwrap();
        let bundle = group.self_update(provider, &self.key, LeafNodeParameters::default());
        let commit = bundle.unwrap().into_commit().tls_serialize_detached().unwrap();
        group.merge_pending_commit(provider).unwrap();
        commit
    }

    fn process(&mut self, provider: &impl OpenMlsProvider, commit: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(commit).unwrap();
        let group = self.group.as_mut().unwrap();
        let processed = group.process_message(provider, message.try_into_protocol_message().unwrap());
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.unwrap().into_content() else {
            panic!("not a commit");
        };
        group.merge_staged_commit(provider, *staged).unwrap();
    }
}

fn capabilities() -> Capabilities {
    Capabilities::builder()
        .credentials(vec![CredentialType::X509])
        .build()
}

/// One member whose state lies in a store, and how long its merges took.
struct Measured<S: Store> {
    member: Member,
    store: S,
    times: Vec<Duration>,
}

impl<S: Store> Measured<S> {
    fn new(store: S, number: usize) -> Self {
        let member = Member::new(number);
        Self {
            member,
            store,
            times: Vec::new(),
        }
    }

    fn take(&mut self, commit: &[u8]) {
        let start = Instant::now();
        self.store.begin().unwrap();
        self.member.process(&self.store.provider(), commit);
        self.store.commit().unwrap();
        self.times.push(start.elapsed());
    }

    fn join(&mut self, creator: &mut Member, provider: &impl OpenMlsProvider) -> Vec<u8> {
        self.store.begin().unwrap();
        let commit = creator.add(provider, &mut self.member, &self.store.provider());
        self.store.commit().unwrap();
        commit
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// One bare write and sync.
struct Disk {
    file: File,
    times: Vec<Duration>,
}

impl Disk {
    fn new(folder: &Path) -> Self {
        let file = File::create(folder.join("sync")).unwrap();
        Self {
            file,
            times: Vec::new(),
        }
    }

    fn sync(&mut self) {
        let start = Instant::now();
        self.file.write_all(&[0; 4096]).unwrap();
        self.file.sync_all().unwrap();
        self.times.push(start.elapsed());
    }
}

fn measure(folder: &Path, members: usize) {
    let provider = OpenMlsRustCrypto::default();
    let mut creator = Member::new(0);
    creator.create(&provider);

    let bare_provider = OpenMlsRustCrypto::default();
    let (mut bare, mut bare_times) = (Member::new(1), Vec::new());
    let mut memory = Measured::new(MemoryStore::new(), 2);
    let path = folder.join(format!("{members}.db"));
    let mut sqlite = Measured::new(SqliteStore::open(&path, &[7; 32].into()).unwrap(), 3);

    creator.add(&provider, &mut bare, &bare_provider);
    let commit = memory.join(&mut creator, &provider);
    bare.process(&bare_provider, &commit);
    let commit = sqlite.join(&mut creator, &provider);
    bare.process(&bare_provider, &commit);
    memory.take(&commit);

    // Each further member commits once, so that the tree is as full as in a room that has lived for a while.
    for number in 4..members {
        let (mut member, member_provider) = (Member::new(number), OpenMlsRustCrypto::default());
        let add = creator.add(&provider, &mut member, &member_provider);
        let update = member.update(&member_provider);
        creator.process(&provider, &update);
        for commit in [add, update] {
            bare.process(&bare_provider, &commit);
            memory.take(&commit);
            sqlite.take(&commit);
        }
    }
    memory.times.clear();
    sqlite.times.clear();
    let mut disk = Disk::new(folder);
    for _ in 0..ROUNDS {
        let commit = creator.update(&provider);
        let start = Instant::now();
        bare.process(&bare_provider, &commit);
        bare_times.push(start.elapsed());
        // At the same moment of the disk's life as the store's own sync.
        disk.sync();
        memory.take(&commit);
        sqlite.take(&commit);
    }
    let (bare, sync) = (median(&mut bare_times), median(&mut disk.times));
    let (durable, target) = (median(&mut sqlite.times), 1.5 * bare + sync);
    println!(
        "{members} members: openmls' memory {bare:.2} ms, MemoryStore {:.2} ms, SqliteStore {:.2} ms (worst of {ROUNDS}: \
         {:.2} ms), one fsync {sync:.2} ms; target 1.5 x memory + fsync = {target:.2} ms: {}",
        median(&mut memory.times),
        durable,
        sqlite.times[ROUNDS - 1].as_secs_f64() * 1e3,
        if durable <= target { "met" } else { "NOT met" },
    );
}

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    for members in [10, 100] {
        measure(folder.path(), members);
    }
}
