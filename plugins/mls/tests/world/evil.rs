//! What a member or an outsider can make who keeps to no rule: commits, proposals, external commits and key packages with
//! anything in them that the library lets out, straight from its state and key.

use gstmls::identity::OwnIdentity;
use gstmls::policy::{Policy, PolicyChange};
use gstmls::record::Record;
use gstmls::room::{Group, POLICY_EXTENSION, TIME_EXTENSION};
use gstmls::store::{MemoryStore, Store};
use openmls::prelude::tls_codec::{DeserializeBytes, Serialize as _};
use openmls::prelude::*;
use openmls::schedule::{ExternalPsk, PreSharedKeyId, Psk};
use openmls::storage::OpenMlsProvider as StoredProvider;
use ring::digest::{SHA256, digest};

use super::Identity;
use super::bent::{BentProvider, Wrong};

/// Somebody's state and key in bad hands.
pub struct Evil {
    pub store: MemoryStore,
    pub own: OwnIdentity,
    pub identity: Identity,
    pub id: GroupId,
    pub time: u64,
}

/// What a commit does, unlimited by any rule.
#[derive(Default)]
pub struct Deed {
    pub proposals: Vec<Proposal>,
    pub adds: Vec<KeyPackage>,
    pub removes: Vec<u32>,
    pub extensions: Vec<Extensions<GroupContext>>,
    /// Of the own leaf.
    pub credential: Option<CredentialWithKey>,
    pub time: Option<u64>,
}

impl Evil {
    /// Takes this state over as it was last committed.
    pub fn new(mut store: MemoryStore, identity: Identity, id: GroupId, time: u64) -> Self {
        store.restart();
        store.begin().unwrap();
        Self {
            store,
            own: identity.own(),
            identity,
            id,
            time,
        }
    }

    pub fn load(&self) -> MlsGroup {
        let provider = self.store.provider();
        MlsGroup::load(provider.storage(), &self.id).unwrap().unwrap()
    }

    /// Drops a commit that waits in the state.
    pub fn forget_pending(&self) {
        let provider = self.store.provider();
        self.load().clear_pending_commit(provider.storage()).unwrap();
    }

    /// Goes where its last commit leads, whatever the others do.
    pub fn enter_pending(&self) {
        self.load().merge_pending_commit(&self.store.provider()).unwrap();
    }

    /// What members say to each other; none while somebody's wish to leave waits.
    pub fn message(&self, data: &[u8]) -> Option<Vec<u8>> {
        let message = self
            .load()
            .create_message(&self.store.provider(), &self.own, data);
        Some(message.ok()?.to_bytes().unwrap())
    }

    /// Says that it cannot follow this commit.
    pub fn stuck_at(&self, commit: &Record) -> Option<Record> {
        let hash = digest(&SHA256, &commit.encode());
        self.message(&[&[3], hash.as_ref()].concat()).map(Record::Message)
    }

    pub fn commit(&self, deed: Deed) -> Record {
        self.try_commit(deed).unwrap()
    }

    pub fn try_commit(&self, deed: Deed) -> Result<Record, String> {
        self.commit_with(&self.store.provider(), deed)
    }

    pub fn commit_with<P: StoredProvider>(&self, provider: &P, deed: Deed) -> Result<Record, String> {
        let mut group = MlsGroup::load(provider.storage(), &self.id).unwrap().unwrap();
        let mut leaf = LeafNodeParameters::builder().with_extensions(at(deed.time.unwrap_or(self.time)));
        if let Some(credential) = deed.credential {
            leaf = leaf.with_credential_with_key(credential);
        }
        let mut builder = group
            .commit_builder()
            .force_self_update(true)
            .leaf_node_parameters(leaf.build())
            .add_proposals(deed.proposals)
            .propose_adds(deed.adds)
            .propose_removals(deed.removes.into_iter().map(LeafNodeIndex::new));
        for extensions in deed.extensions {
            builder = builder
                .propose_group_context_extensions(extensions)
                .map_err(|e| e.to_string())?;
        }
        let bundle = builder
            .load_psks(provider.storage())
            .map_err(|e| e.to_string())?
            .build(provider.rand(), provider.crypto(), &self.own, |_| true)
            .map_err(|e| e.to_string())?
            .stage_commit(provider)
            .map_err(|e| e.to_string())?;
        let (commit, welcome, _) = bundle.into_messages();
        Ok(Record::Commit {
            commit: commit.to_bytes().unwrap(),
            welcome: welcome.map(|welcome| welcome.to_bytes().unwrap()),
        })
    }

    /// An external commit with this credential in its leaf.
    pub fn external(&self, info: &[u8], credential: CredentialWithKey) -> Result<Record, String> {
        let MlsMessageBodyIn::GroupInfo(info) =
            MlsMessageIn::tls_deserialize_exact_bytes(info).unwrap().extract()
        else {
            panic!("no group info");
        };
        let provider = self.store.provider();
        let leaf = LeafNodeParameters::builder()
            .with_capabilities(capabilities())
            .with_extensions(at(self.time))
            .build();
        let (_, bundle) = MlsGroup::external_commit_builder()
            .skip_lifetime_validation()
            .build_group(&provider, info, credential)
            .map_err(|e| e.to_string())?
            .leaf_node_parameters(leaf)
            .load_psks(provider.storage())
            .map_err(|e| e.to_string())?
            .build(provider.rand(), provider.crypto(), &self.own, |_| true)
            .map_err(|e| e.to_string())?
            .finalize(&provider)
            .map_err(|e| e.to_string())?;
        Ok(Record::Commit {
            commit: bundle.into_commit().to_bytes().unwrap(),
            welcome: None,
        })
    }

    pub fn key_package(&self) -> Vec<u8> {
        Group::key_package(&self.store, &self.own, self.time).unwrap()
    }

    pub fn credential(&self) -> CredentialWithKey {
        credential(&self.own)
    }

    pub fn info(&self) -> Vec<u8> {
        let provider = self.store.provider();
        let info = self.load().export_group_info(provider.crypto(), &self.own, true);
        info.unwrap().tls_serialize_detached().unwrap()
    }

    /// A pre-shared key that it has, to be taken into the group's secrets.
    pub fn pre_shared_key(&self) -> Proposal {
        let provider = self.store.provider();
        let psk = Psk::External(ExternalPsk::new(b"secret".to_vec()));
        let psk = PreSharedKeyId::new(gstmls::room::MLS_SUITE, provider.rand(), psk).unwrap();
        psk.store(&provider, &[1; 32]).unwrap();
        Proposal::PreSharedKey(Box::new(PreSharedKeyProposal::new(psk)))
    }

    /// Proposals that stand alone: an update, the removal of this leaf, a key package, a context without a policy.
    pub fn proposals(&self, leaf: u32, asked: &[u8]) -> Vec<Vec<u8>> {
        let provider = self.store.provider();
        let parameters = LeafNodeParameters::builder()
            .with_extensions(at(self.time))
            .build();
        let removed = LeafNodeIndex::new(leaf);
        let context = extensions(vec![required()]);
        let made = [
            self.load()
                .propose_self_update(&provider, &self.own, parameters)
                .map_err(|e| e.to_string()),
            self.load()
                .propose_remove_member(&provider, &self.own, removed)
                .map_err(|e| e.to_string()),
            self.load()
                .propose_add_member(&provider, &self.own, &package(asked))
                .map_err(|e| e.to_string()),
            self.load()
                .propose_group_context_extensions(&provider, context, &self.own)
                .map_err(|e| e.to_string()),
        ];
        let messages = made.into_iter().filter_map(Result::ok);
        messages.map(|(message, _)| message.to_bytes().unwrap()).collect()
    }

    /// A commit with a Welcome for who asked, into a group of its own with this id.
    pub fn trap(&self, id: &GroupId, policy: &Policy, asked: KeyPackage) -> Result<Record, String> {
        let trap = Self::new(MemoryStore::new(), self.identity.clone(), id.clone(), self.time);
        Group::create(&trap.store, &trap.own, policy, id.as_slice(), trap.time).unwrap();
        trap.try_commit(Deed {
            adds: vec![asked],
            ..Deed::default()
        })
    }

    /// A commit whose path is rubbish for some, and to how many keys it encrypts: see [`Wrong::of`].
    pub fn commit_wrongly(&self, mask: u64) -> Result<(Record, usize), String> {
        let inner = self.store.provider();
        let provider = BentProvider::new(&inner, Wrong::of(&self.load(), mask));
        let record = self.commit_with(&provider, Deed::default())?;
        Ok((record, provider.sealed()))
    }
}

pub fn credential(own: &OwnIdentity) -> CredentialWithKey {
    CredentialWithKey {
        credential: Credential::new(CredentialType::X509, own.credential_content().to_vec()),
        signature_key: own.identity().public_key.to_vec().into(),
    }
}

pub fn package(bytes: &[u8]) -> KeyPackage {
    try_package(bytes).unwrap()
}

/// The key package in a record, where it is one.
pub fn try_package(bytes: &[u8]) -> Option<KeyPackage> {
    let store = MemoryStore::new();
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes).ok()?;
    let MlsMessageBodyIn::KeyPackage(package) = message.extract() else {
        return None;
    };
    package
        .validate(store.provider().crypto(), ProtocolVersion::Mls10)
        .ok()
}

pub fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![gstmls::room::MLS_SUITE])
        .extensions(vec![
            ExtensionType::Unknown(TIME_EXTENSION),
            ExtensionType::Unknown(POLICY_EXTENSION),
        ])
        .credentials(vec![CredentialType::X509])
        .build()
}

pub fn at(time: u64) -> Extensions<LeafNode> {
    let time = UnknownExtension(time.to_be_bytes().to_vec());
    Extensions::single(Extension::Unknown(TIME_EXTENSION, time)).unwrap()
}

/// The latest time in a leaf: no commit may say an earlier one.
pub fn group_time(group: &MlsGroup) -> u64 {
    let leaves = group.treesync().full_leaves();
    let times = leaves.filter_map(|(_, leaf)| {
        let UnknownExtension(time) = leaf.extensions().unknown(TIME_EXTENSION)?;
        Some(u64::from_be_bytes(time.as_slice().try_into().ok()?))
    });
    times.max().unwrap_or(0)
}

pub fn required() -> Extension {
    Extension::RequiredCapabilities(RequiredCapabilitiesExtension::new(
        &[
            ExtensionType::Unknown(TIME_EXTENSION),
            ExtensionType::Unknown(POLICY_EXTENSION),
        ],
        &[],
        &[CredentialType::X509],
    ))
}

pub fn of(policy: &Policy) -> Extension {
    Extension::Unknown(POLICY_EXTENSION, UnknownExtension(policy.encode()))
}

pub fn extensions(list: Vec<Extension>) -> Extensions<GroupContext> {
    Extensions::from_vec(list).unwrap()
}

/// The epoch in the header of an MLSMessage with a PrivateMessage.
pub fn set_epoch(message: &mut [u8], epoch: u64) {
    let at = 5 + usize::from(message[4]);
    message[at..at + 8].copy_from_slice(&epoch.to_be_bytes());
}

/// A commit in a PrivateMessage, dressed as one of this group.
pub fn dressed(commit: &[u8], id: &GroupId) -> Vec<u8> {
    let rest = &commit[5 + usize::from(commit[4])..];
    let id = id.as_slice();
    [&commit[..4], &[u8::try_from(id.len()).unwrap()], id, rest].concat()
}

/// A proposal of a kind that nobody knows.
pub fn custom() -> Proposal {
    Proposal::Custom(Box::new(CustomProposal::new(0xF123, vec![1, 2, 3])))
}

/// The group's end, and a new one after it.
pub fn reinit(id: &GroupId) -> Proposal {
    let suite = u16::from(gstmls::room::MLS_SUITE).to_be_bytes();
    let bytes = [&id.tls_serialize_detached().unwrap(), &[0, 1][..], &suite, &[0]].concat();
    let proposal = ReInitProposal::tls_deserialize_exact_bytes(&bytes).unwrap();
    Proposal::ReInit(Box::new(proposal))
}

/// Contexts with a policy that may be, and beside it what may not: fewer requirements; senders from outside.
pub fn other_contexts(evil: &Evil, policy: &Policy) -> [Extensions<GroupContext>; 2] {
    let stricter = PolicyChange::parse(br#"{ "retention_days": 3 }"#)
        .unwrap()
        .apply(policy);
    let fewer = RequiredCapabilitiesExtension::new(
        &[
            ExtensionType::Unknown(TIME_EXTENSION),
            ExtensionType::Unknown(POLICY_EXTENSION),
        ],
        &[],
        &[],
    );
    let own = evil.credential();
    let sender = ExternalSender::new(own.signature_key, own.credential);
    [
        extensions(vec![Extension::RequiredCapabilities(fewer), of(&stricter)]),
        extensions(vec![
            required(),
            of(policy),
            Extension::ExternalSenders(vec![sender]),
        ]),
    ]
}

/// Records around any bytes.
pub const KINDS: [fn(Vec<u8>) -> Record; 7] = [
    Record::Create,
    Record::KeyPackage,
    |commit| Record::Commit {
        commit,
        welcome: None,
    },
    |bytes| Record::Commit {
        commit: bytes.clone(),
        welcome: Some(bytes),
    },
    Record::Proposal,
    Record::Message,
    Record::GroupInfo,
];
