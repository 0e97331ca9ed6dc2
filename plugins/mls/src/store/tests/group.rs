//! A small endpoint around an MLS group, generic over its store.

use super::*;
use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::fmt::Debug;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

struct Key(Ed25519KeyPair);

impl Signer for Key {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).as_ref().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

pub struct Endpoint {
    key: Key,
    credential: CredentialWithKey,
    group: Option<MlsGroup>,
}

impl Endpoint {
    pub fn new(name: &str) -> Self {
        let seed: [u8; 32] = std::array::from_fn(|i| *name.as_bytes().get(i).unwrap_or(&0));
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.into()).into(),
            signature_key: key.public_key().as_ref().to_vec().into(),
        };
        Self {
            key: Key(key),
            credential,
            group: None,
        }
    }

    pub fn group(&self) -> &MlsGroup {
        self.group.as_ref().unwrap()
    }

    pub fn key_package<S: Store>(&self, store: &S) -> Result<KeyPackageBundle, impl Debug> {
        KeyPackage::builder().build(SUITE, &store.provider(), &self.key, self.credential.clone())
    }

    pub fn key_package_with(&self, provider: &impl OpenMlsProvider) -> Result<KeyPackageBundle, impl Debug> {
        KeyPackage::builder().build(SUITE, provider, &self.key, self.credential.clone())
    }

    /// The endpoint of this name after a restart.
    pub fn load<S: Store>(name: &str, store: &S, id: &[u8]) -> Self {
        let group = MlsGroup::load(store.provider().storage(), &GroupId::from_slice(id));
        Self {
            group: group.unwrap(),
            ..Self::new(name)
        }
    }

    pub fn create<S: Store>(&mut self, store: &mut S) {
        store.begin().unwrap();
        self.group = Some(
            MlsGroup::builder()
                .use_ratchet_tree_extension(true)
                .ciphersuite(SUITE)
                .build(&store.provider(), &self.key, self.credential.clone())
                .unwrap(),
        );
        store.commit().unwrap();
    }

    /// Adds and merges; the commit and the Welcome for those who were added.
    pub fn add<S: Store>(&mut self, store: &mut S, packages: &[KeyPackage]) -> (Vec<u8>, Vec<u8>) {
        store.begin().unwrap();
        let group = self.group.as_mut().unwrap();
        let provider = store.provider();
        let (commit, welcome, _) = group.add_members(&provider, &self.key, packages).unwrap();
        group.merge_pending_commit(&provider).unwrap();
        drop(provider);
        store.commit().unwrap();
        (commit.to_bytes().unwrap(), welcome.to_bytes().unwrap())
    }

    pub fn join<S: Store>(&mut self, store: &mut S, welcome: &[u8]) {
        let MlsMessageBodyIn::Welcome(welcome) =
            MlsMessageIn::tls_deserialize_exact(welcome).unwrap().extract()
        else {
            panic!("not a Welcome");
        };
        store.begin().unwrap();
        let provider = store.provider();
        let staged =
            StagedWelcome::new_from_welcome(&provider, &MlsGroupJoinConfig::default(), welcome, None);
        self.group = Some(staged.unwrap().into_group(&provider).unwrap());
        drop(provider);
        store.commit().unwrap();
    }

    /// Processes and merges a commit; its transaction is the caller's business. An error of either kind becomes a text, as
    /// in the room.
    pub fn merge<S: Store>(&mut self, store: &S, commit: &[u8]) -> Result<(), String> {
        let message = MlsMessageIn::tls_deserialize_exact(commit)
            .unwrap()
            .try_into_protocol_message()
            .unwrap();
        let provider = store.provider();
        let group = self.group.as_mut().unwrap();
        let processed = group
            .process_message(&provider, message)
            .map_err(|error| error.to_string())?;
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            panic!("not a commit");
        };
        group
            .merge_staged_commit(&provider, *staged)
            .map_err(|error| error.to_string())
    }

    /// Commits and merges an own update; its transaction is the caller's business.
    pub fn update<S: Store>(&mut self, store: &S) -> Vec<u8> {
        let provider = store.provider();
        let group = self.group.as_mut().unwrap();
        let bundle = group.self_update(&provider, &self.key, LeafNodeParameters::default());
        let commit = bundle.unwrap().into_commit().tls_serialize_detached().unwrap();
        group.merge_pending_commit(&provider).unwrap();
        commit
    }

    pub fn process<S: Store>(&mut self, store: &mut S, commit: &[u8]) -> Result<(), String> {
        store.begin().map_err(|error| error.to_string())?;
        self.merge(store, commit)?;
        store.commit().map_err(|error| error.to_string())
    }

    pub fn reload<S: Store>(&mut self, store: &S) {
        let id = self.group().group_id().clone();
        let group = MlsGroup::load(store.provider().storage(), &id);
        self.group = Some(group.unwrap().unwrap());
    }

    pub fn secret<S: Store>(&self, store: &S) -> Vec<u8> {
        self.group()
            .export_secret(store.provider().crypto(), "test", &[], 32)
            .unwrap()
    }
}

/// Two endpoints in one group.
pub fn pair<A: Store, B: Store>(a_store: &mut A, b_store: &mut B) -> (Endpoint, Endpoint) {
    let (mut a, mut b) = (Endpoint::new("a"), Endpoint::new("b"));
    a.create(a_store);
    b_store.begin().unwrap();
    let package = b.key_package(b_store).unwrap();
    b_store.commit().unwrap();
    let (_, welcome) = a.add(a_store, &[package.key_package().clone()]);
    b.join(b_store, &welcome);
    (a, b)
}

/// An endpoint's own update, merged; the commit for the others.
pub fn update<S: Store>(store: &mut S, endpoint: &mut Endpoint) -> Vec<u8> {
    store.begin().unwrap();
    let commit = endpoint.update(store);
    store.commit().unwrap();
    commit
}
