//! The MLS group (RFC 9420) behind a room: openmls, with what the room adds to it. Never decides; see `rules`.
//!
//! Every function that writes must run between the store's `begin` and `commit`. After a `rollback` the group in
//! memory is ahead of the one that was stored: throw it away and [`Group::load`] again.

use std::collections::BTreeMap;

use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::*;
use openmls_rust_crypto::MemoryStorage;
use zeroize::Zeroizing;

use crate::identity::{self, OwnIdentity};
use crate::policy::Policy;
use crate::rules::{Leaf, Roster};
use crate::store::Store;

use super::witness::Witness;

/// Default MLS suite of the room: X25519, AES-128-GCM, SHA-256, Ed25519.
pub const MLS_SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// Leaf extension with the unix time in seconds at which the leaf was made (private use, RFC 9420 §17.3).
pub const TIME_EXTENSION: u16 = 0xF0E1;
/// GroupContext extension with the policy (private use).
pub const POLICY_EXTENSION: u16 = 0xF0E2;
/// Label of the exporter (RFC 9605 §5.2).
const EXPORTER_LABEL: &str = "SFrame 1.0 Base Key";

/// Why a group could not do something.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Whoever made it broke a rule; everybody sees the same.
    #[error("{0}")]
    Refused(String),
    /// Authentic, but it cannot be processed here; others may have been able to.
    #[error("{reason}")]
    OnlyHere {
        /// What the library says.
        reason: String,
        /// Public key of its author, where that is known.
        author: Option<Vec<u8>>,
    },
    /// A certificate did not verify.
    #[error("{0}")]
    Certificate(String),
    /// A commit of a proposal that is not known here.
    #[error("it refers to a proposal that is not known")]
    MissingProposal,
    /// A welcome for somebody else.
    #[error("a welcome for somebody else")]
    NotForUs,
    /// The state could not be read or written.
    #[error("{0}")]
    Store(String),
}

pub(super) fn store_error(error: impl std::fmt::Display) -> GroupError {
    GroupError::Store(format!("the state file cannot be used: {error}"))
}

fn refused(error: impl std::fmt::Display) -> GroupError {
    GroupError::Refused(error.to_string())
}

/// What this endpoint can: every leaf says it, the group requires it.
fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![MLS_SUITE])
        .extensions(vec![
            ExtensionType::Unknown(TIME_EXTENSION),
            ExtensionType::Unknown(POLICY_EXTENSION),
        ])
        .credentials(vec![CredentialType::X509])
        .build()
}

fn required_capabilities() -> Extension {
    Extension::RequiredCapabilities(RequiredCapabilitiesExtension::new(
        &[
            ExtensionType::Unknown(TIME_EXTENSION),
            ExtensionType::Unknown(POLICY_EXTENSION),
        ],
        &[],
        &[CredentialType::X509],
    ))
}

/// Exactly these two extensions, in this order: whatever else a group context holds is refused.
fn context_extensions(policy: &Policy) -> Result<Extensions<GroupContext>, GroupError> {
    let policy = policy.encode();
    Extensions::from_vec(vec![
        required_capabilities(),
        Extension::Unknown(POLICY_EXTENSION, UnknownExtension(policy)),
    ])
    .map_err(refused)
}

/// The policy that group context extensions carry; an error where they carry anything else.
pub(super) fn policy_of(extensions: &Extensions<GroupContext>) -> Result<Policy, String> {
    let mut policy = None;
    let mut required = false;
    for extension in extensions.iter() {
        match extension {
            Extension::Unknown(POLICY_EXTENSION, UnknownExtension(bytes)) if policy.is_none() => {
                policy = Some(Policy::decode(bytes).map_err(|e| e.to_string())?);
            }
            Extension::Unknown(POLICY_EXTENSION, _) => return Err("a second policy".into()),
            extension if *extension == required_capabilities() => required = true,
            other => {
                return Err(format!(
                    "the group extension {:?}, which a room does not have",
                    other.extension_type()
                ));
            }
        }
    }
    if !required {
        return Err("no or other required capabilities than those of a room".into());
    }
    policy.ok_or_else(|| "no policy".into())
}

fn time_extensions(time: u64) -> Result<Extensions<LeafNode>, GroupError> {
    let time = UnknownExtension(time.to_be_bytes().to_vec());
    Extensions::single(Extension::Unknown(TIME_EXTENSION, time)).map_err(refused)
}

/// When a leaf was made, as it says itself.
pub(super) fn leaf_time(leaf: &LeafNode) -> Result<u64, GroupError> {
    let time = leaf.extensions().unknown(TIME_EXTENSION);
    time.and_then(|UnknownExtension(bytes)| bytes.as_slice().try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| GroupError::Refused("a leaf without its time".into()))
}

/// The certified identity in a leaf, verified at the time `at` (unix seconds) against `roots`.
pub(super) fn certified(
    leaf: &LeafNode,
    roots: &[identity::Fingerprint],
    at: u64,
) -> Result<identity::Identity, GroupError> {
    let credential = leaf.credential();
    if credential.credential_type() != CredentialType::X509 {
        return Err(GroupError::Certificate(
            "a credential that is no X.509 certificate".into(),
        ));
    }
    let identity = identity::verify(credential.serialized_content(), roots, at)
        .map_err(|e| GroupError::Certificate(e.to_string()))?;
    // openmls takes X.509 as opaque bytes: without this, anybody's certificate would fit anybody's key.
    if leaf.signature_key().as_slice() != identity.public_key {
        return Err(GroupError::Certificate(format!(
            "{}'s leaf is signed by another key than its certificate's",
            identity.subject
        )));
    }
    Ok(identity)
}

fn credential_of(own: &OwnIdentity) -> CredentialWithKey {
    CredentialWithKey {
        credential: Credential::new(CredentialType::X509, own.credential_content().to_vec()),
        signature_key: own.identity().public_key.to_vec().into(),
    }
}

/// Long enough that no clock decides; the certificates' validity at the leaf's own time does.
fn unlimited() -> Lifetime {
    Lifetime::init(0, u64::MAX)
}

/// Who was away may find that many messages of one sender are forgotten, and must get over them: each costs one hash.
fn ratchets() -> SenderRatchetConfiguration {
    const OUT_OF_ORDER: u32 = 5;
    const FORGOTTEN: u32 = 10_000;
    SenderRatchetConfiguration::new(OUT_OF_ORDER, FORGOTTEN)
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .padding_size(64)
        // A message that crossed a commit on its way is of no use to us.
        .max_past_epochs(0)
        .sender_ratchet_configuration(ratchets())
        .number_of_resumption_psks(0)
        .build()
}

/// What a commit shall do.
#[derive(Default)]
pub struct Plan {
    /// Whom to add.
    pub adds: Vec<KeyPackage>,
    /// Leaves to remove.
    pub removes: Vec<u32>,
    /// The policy to set.
    pub policy: Option<Policy>,
    /// Let go who asked to leave? Other changes may have to come alone.
    pub leaving: bool,
}

/// A group in memory.
pub struct Group {
    mls: MlsGroup,
    /// Leaves whose certificates were verified: what was verified, and what it said.
    verified: BTreeMap<u32, (Credential, Leaf)>,
}

/// A message that this member could read.
pub enum Incoming {
    /// The own commit came back as somebody could read it: it is the pending one.
    OwnPending,
    /// Authored by this leaf, and not decipherable by it.
    Own,
    /// A commit, staged.
    Commit(Box<StagedCommit>, Sender),
    /// A proposal that stands alone.
    Proposal(Box<QueuedProposal>),
    /// Application data, and from which leaf.
    Message(Vec<u8>, u32),
}

impl Group {
    fn of(mls: MlsGroup) -> Self {
        Self {
            mls,
            verified: BTreeMap::new(),
        }
    }

    /// A new group with this member alone.
    pub fn create<S: Store>(
        store: &S,
        own: &OwnIdentity,
        policy: &Policy,
        id: &[u8],
        time: u64,
    ) -> Result<Self, GroupError> {
        let mls = MlsGroup::builder()
            .with_group_id(GroupId::from_slice(id))
            .ciphersuite(MLS_SUITE)
            .with_wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .padding_size(64)
            .max_past_epochs(0)
            .sender_ratchet_configuration(ratchets())
            .number_of_resumption_psks(0)
            .lifetime(unlimited())
            .with_capabilities(capabilities())
            .with_group_context_extensions(context_extensions(policy)?)
            .with_leaf_node_extensions(time_extensions(time)?)
            .map_err(refused)?
            .build(&store.provider(), own, credential_of(own))
            .map_err(store_error)?;
        Ok(Self::of(mls))
    }

    /// The stored group, if there is one.
    pub fn load<S: Store>(store: &S, id: &[u8]) -> Result<Option<Self>, GroupError> {
        let provider = store.provider();
        let mls = MlsGroup::load(provider.storage(), &GroupId::from_slice(id)).map_err(store_error)?;
        Ok(mls.filter(MlsGroup::is_active).map(Self::of))
    }

    /// Forgets the stored group.
    pub fn forget<S: Store>(store: &S, id: &[u8]) -> Result<(), GroupError> {
        let provider = store.provider();
        let id = GroupId::from_slice(id);
        match MlsGroup::load(provider.storage(), &id).map_err(store_error)? {
            Some(mut mls) => mls.delete(provider.storage()).map_err(store_error),
            None => Ok(()),
        }
    }

    /// Joins by a welcome; `NotForUs` where it holds nothing for a key package of ours.
    pub fn join<S: Store>(store: &S, welcome: &[u8]) -> Result<Self, GroupError> {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).map_err(refused)?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err(GroupError::Refused("a welcome that is none".into()));
        };
        let provider = store.provider();
        let processed =
            ProcessedWelcome::new_from_welcome(&provider, &join_config(), welcome).map_err(|error| {
                match error {
                    WelcomeError::JoinerSecretNotFound | WelcomeError::PrivateInitKeyNotFound => {
                        GroupError::NotForUs
                    }
                    // No key package of ours was found in the storage.
                    error if error.to_string().contains("key package") => GroupError::NotForUs,
                    error => refused(error),
                }
            })?;
        let staged = JoinBuilder::new(&provider, processed)
            .skip_lifetime_validation()
            .replace_old_group()
            .build()
            .map_err(refused)?;
        let mls = staged.into_group(&provider).map_err(refused)?;
        Ok(Self::of(mls))
    }

    /// Joins by an external commit on a GroupInfo. The group stands in the store as if the commit had won.
    pub fn join_externally<S: Store>(
        store: &S,
        own: &OwnIdentity,
        info: VerifiableGroupInfo,
        time: u64,
    ) -> Result<(Self, Vec<u8>), GroupError> {
        let provider = store.provider();
        let builder = MlsGroup::external_commit_builder()
            .with_config(join_config())
            .skip_lifetime_validation()
            .build_group(&provider, info, credential_of(own))
            .map_err(refused)?;
        let leaf = LeafNodeParameters::builder()
            .with_capabilities(capabilities())
            .with_extensions(time_extensions(time)?)
            .build();
        let (mls, bundle) = builder
            .leaf_node_parameters(leaf)
            .load_psks(provider.storage())
            .map_err(refused)?
            .build(provider.rand(), provider.crypto(), own, |_| true)
            .map_err(refused)?
            .finalize(&provider)
            .map_err(refused)?;
        let commit = bundle.into_commit().to_bytes().map_err(refused)?;
        Ok((Self::of(mls), commit))
    }

    /// A key package of this endpoint, with its private half in the store.
    pub fn key_package<S: Store>(store: &S, own: &OwnIdentity, time: u64) -> Result<Vec<u8>, GroupError> {
        let bundle = KeyPackage::builder()
            .key_package_lifetime(unlimited())
            .leaf_node_capabilities(capabilities())
            .leaf_node_extensions(time_extensions(time)?)
            .build(MLS_SUITE, &store.provider(), own, credential_of(own))
            .map_err(store_error)?;
        MlsMessageOut::from(bundle.into_key_package())
            .to_bytes()
            .map_err(refused)
    }

    /// Reads and verifies a key package, and who it says it is at the time that it says.
    pub fn read_key_package<S: Store>(
        store: &S,
        bytes: &[u8],
        roots: &[identity::Fingerprint],
    ) -> Result<(KeyPackage, Leaf), GroupError> {
        let message = MlsMessageIn::tls_deserialize_exact(bytes).map_err(refused)?;
        let MlsMessageBodyIn::KeyPackage(package) = message.extract() else {
            return Err(GroupError::Refused("a key package that is none".into()));
        };
        let package = package
            .validate(store.provider().crypto(), ProtocolVersion::Mls10)
            .map_err(refused)?;
        let time = leaf_time(package.leaf_node())?;
        let identity = certified(package.leaf_node(), roots, time)?;
        Ok((package, Leaf { identity, time }))
    }

    /// Group id.
    pub fn id(&self) -> &[u8] {
        self.mls.group_id().as_slice()
    }

    /// Epoch.
    pub fn epoch(&self) -> u64 {
        self.mls.epoch().as_u64()
    }

    /// Index of the own leaf.
    pub fn own_leaf(&self) -> u32 {
        self.mls.own_leaf_index().u32()
    }

    /// Number of leaves of the tree, blank ones included.
    pub fn tree_leaves(&self) -> u32 {
        u32::try_from(self.mls.treesync().leaves().len()).unwrap_or(u32::MAX)
    }

    /// The epoch authenticator (RFC 9420 §8.7): secret-derived, but made to be compared in public.
    pub fn epoch_authenticator(&self) -> &[u8] {
        self.mls.epoch_authenticator().as_slice()
    }

    /// The policy in force.
    pub fn policy(&self) -> Result<Policy, GroupError> {
        policy_of(self.mls.extensions()).map_err(GroupError::Refused)
    }

    /// Everybody in the tree, each verified at its leaf's own time against the policy's roots. A leaf that did not
    /// change since the last call is not verified again; that its root is still trusted is the rules' to say.
    pub fn roster(&mut self, policy: &Policy) -> Result<Roster, GroupError> {
        let mut before = std::mem::take(&mut self.verified);
        for (index, leaf) in self.mls.treesync().full_leaves() {
            let index = index.u32();
            let time = leaf_time(leaf)?;
            let known = before.remove(&index).filter(|(credential, known)| {
                credential == leaf.credential()
                    && known.time == time
                    && leaf.signature_key().as_slice() == known.identity.public_key
            });
            let entry = match known {
                Some(entry) => entry,
                None => {
                    let identity = certified(leaf, &policy.roots, time)?;
                    (leaf.credential().clone(), Leaf { identity, time })
                }
            };
            self.verified.insert(index, entry);
        }
        let roster = self.verified.iter();
        Ok(roster.map(|(index, (_, leaf))| (*index, leaf.clone())).collect())
    }

    /// The base key of this epoch (RFC 9605 §5.2), `length` bytes.
    pub fn base_key<S: Store>(&self, store: &S, length: usize) -> Result<Zeroizing<Vec<u8>>, GroupError> {
        self.mls
            .export_secret(store.provider().crypto(), EXPORTER_LABEL, &[], length)
            .map(Zeroizing::new)
            .map_err(refused)
    }

    /// Processes a commit, proposal or message of this epoch.
    pub fn process<S: Store>(&mut self, store: &S, message: ProtocolMessage) -> Result<Incoming, GroupError> {
        let provider = store.provider();
        let witness = Witness::of(&provider);
        let processed = match self.mls.process_message(&witness, message) {
            Ok(processed) => processed,
            Err(error) => return Err(classify(error, witness.signer())),
        };
        let sender = processed.sender().clone();
        Ok(match (processed.into_content(), sender) {
            (ProcessedMessageContent::StagedCommitMessage(commit), sender) => {
                Incoming::Commit(commit, sender)
            }
            (ProcessedMessageContent::OwnPendingCommit, _) => Incoming::OwnPending,
            (ProcessedMessageContent::OwnPrivateMessage, _) => Incoming::Own,
            (ProcessedMessageContent::ProposalMessage(proposal), _) => Incoming::Proposal(proposal),
            (ProcessedMessageContent::ApplicationMessage(message), Sender::Member(leaf)) => {
                Incoming::Message(message.into_bytes(), leaf.u32())
            }
            _ => {
                return Err(GroupError::Refused(
                    "a message of a kind that a room does not have".into(),
                ));
            }
        })
    }

    /// Keeps a proposal that a later commit may refer to.
    pub fn keep<S: Store>(&mut self, store: &S, proposal: QueuedProposal) -> Result<(), GroupError> {
        self.mls
            .store_pending_proposal(store.provider().storage(), proposal)
            .map_err(store_error)
    }

    /// Leaves whose members asked to be let go in this epoch.
    pub fn leaving(&self) -> Vec<u32> {
        self.mls
            .pending_proposals()
            .filter_map(|proposal| match proposal.proposal() {
                Proposal::Remove(remove) => Some(remove.removed().u32()),
                _ => None,
            })
            .collect()
    }

    /// Makes a commit, always with a path; it waits in the group until it is merged or dropped.
    pub fn commit<S: Store>(
        &mut self,
        store: &S,
        own: &OwnIdentity,
        plan: Plan,
        time: u64,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), GroupError> {
        let provider = store.provider();
        let mut leaf = LeafNodeParameters::builder().with_extensions(time_extensions(time)?);
        // A renewed certificate comes in with the next path.
        if self
            .mls
            .own_leaf_node()
            .map(|l| l.credential().serialized_content())
            != Some(own.credential_content())
        {
            leaf = leaf.with_credential_with_key(credential_of(own));
        }
        let own_leaf = self.mls.own_leaf_index();
        let mut builder = self
            .mls
            .commit_builder()
            .consume_proposal_store(plan.leaving)
            .force_self_update(true)
            .leaf_node_parameters(leaf.build())
            .propose_adds(plan.adds)
            .propose_removals(plan.removes.into_iter().map(LeafNodeIndex::new));
        if let Some(policy) = plan.policy {
            builder = builder
                .propose_group_context_extensions(context_extensions(&policy)?)
                .map_err(refused)?;
        }
        let bundle = builder
            .load_psks(provider.storage())
            .map_err(refused)?
            .build(provider.rand(), provider.crypto(), own, |queued| {
                // Nobody may commit its own removal: RFC 9420 §12.2.
                !matches!(queued.proposal(), Proposal::Remove(r) if r.removed() == own_leaf)
            })
            .map_err(refused)?
            .stage_commit(&provider)
            .map_err(store_error)?;
        let (commit, welcome, _) = bundle.into_messages();
        let commit = commit.to_bytes().map_err(refused)?;
        let welcome = welcome.map(|w| w.to_bytes()).transpose().map_err(refused)?;
        Ok((commit, welcome))
    }

    /// The own commit that waits, if any.
    pub fn pending(&self) -> Option<&StagedCommit> {
        self.mls.pending_commit()
    }

    /// Drops the own commit that waits.
    pub fn drop_pending<S: Store>(&mut self, store: &S) -> Result<(), GroupError> {
        self.mls
            .clear_pending_commit(store.provider().storage())
            .map_err(store_error)
    }

    /// Enters the epoch of the own commit that waits.
    pub fn merge_pending<S: Store>(&mut self, store: &S) -> Result<(), GroupError> {
        self.mls
            .merge_pending_commit(&store.provider())
            .map_err(store_error)
    }

    /// Enters the epoch of somebody's commit.
    pub fn merge<S: Store>(&mut self, store: &S, commit: StagedCommit) -> Result<(), GroupError> {
        self.mls
            .merge_staged_commit(&store.provider(), commit)
            .map_err(store_error)
    }

    /// Seals application data for the members of this epoch, also while proposals wait: RFC 9420 §12.4 forbids that for what
    /// people say, and this is for what must be said where the proposals cannot be committed.
    pub fn message<S: Store>(
        &mut self,
        store: &S,
        own: &OwnIdentity,
        data: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        let provider = store.provider();
        let waiting: Vec<_> = self.mls.pending_proposals().cloned().collect();
        self.mls
            .clear_pending_proposals(provider.storage())
            .map_err(store_error)?;
        let message = self.mls.create_message(&provider, own, data).map_err(refused)?;
        for proposal in waiting {
            self.keep(store, proposal)?;
        }
        message.to_bytes().map_err(refused)
    }

    /// A proposal to remove the own leaf.
    pub fn leave<S: Store>(&mut self, store: &S, own: &OwnIdentity) -> Result<Vec<u8>, GroupError> {
        let message = self.mls.leave_group(&store.provider(), own).map_err(refused)?;
        message.to_bytes().map_err(refused)
    }

    /// The group's public state with its tree, for somebody who cannot follow.
    pub fn info<S: Store>(&self, store: &S, own: &OwnIdentity) -> Result<Vec<u8>, GroupError> {
        let info = self
            .mls
            .export_group_info(store.provider().crypto(), own, true)
            .map_err(refused)?;
        info.tls_serialize_detached().map_err(refused)
    }
}

/// Reads an MLSMessage that belongs to a group.
pub fn read(bytes: &[u8]) -> Result<ProtocolMessage, GroupError> {
    MlsMessageIn::tls_deserialize_exact(bytes)
        .map_err(refused)?
        .try_into_protocol_message()
        .map_err(refused)
}

/// Reads a GroupInfo.
pub fn read_info(bytes: &[u8]) -> Result<VerifiableGroupInfo, GroupError> {
    match MlsMessageIn::tls_deserialize_exact(bytes)
        .map_err(refused)?
        .extract()
    {
        MlsMessageBodyIn::GroupInfo(info) => Ok(info),
        _ => Err(GroupError::Refused("a group info that is none".into())),
    }
}

/// Time of the group that a GroupInfo describes: the latest of its leaves, also of the one whose place an external commit
/// takes, which no one sees in the group that it makes.
pub(super) fn time_of_info<S: Store>(store: &S, bytes: &[u8]) -> Result<u64, GroupError> {
    let info = read_info(bytes)?;
    let tree = info
        .extensions()
        .ratchet_tree()
        .map(|tree| tree.ratchet_tree().clone());
    let tree = tree.ok_or_else(|| GroupError::Refused("a group info without its tree".into()))?;
    let provider = store.provider();
    let (group, _) = PublicGroup::from_external(
        provider.crypto(),
        &MemoryStorage::default(),
        tree,
        info,
        ProposalStore::new(),
    )
    .map_err(refused)?;
    let mut times = group.treesync().full_leaves().map(|(_, leaf)| leaf_time(leaf));
    times.try_fold(0, |latest, time| Ok(latest.max(time?)))
}

/// The leaf whose signature a GroupInfo ends with (RFC 9420 §12.4.3), as it says itself.
pub(super) fn signer_of_info(bytes: &[u8]) -> Option<u32> {
    // Ed25519's 64 bytes, with two bytes of length in front.
    let (_, end) = bytes.split_last_chunk::<70>()?;
    let (signer, _) = end.split_first_chunk()?;
    Some(u32::from_be_bytes(*signer))
}

/// Is it wrong for everybody, or could it be wrong only here? What depends on this member's own secrets (a path
/// secret encrypted wrongly for it), its own clock (a key package's lifetime) or what it has read before (who sends two
/// messages under one key: which of them was read first, differs) may be fine for others.
fn classify<E: std::fmt::Display>(error: ProcessMessageError<E>, author: Option<Vec<u8>>) -> GroupError {
    let text = error.to_string();
    let only_here = match error {
        ProcessMessageError::StorageError(_) => return store_error(text),
        ProcessMessageError::InvalidCommit(StageCommitError::MissingProposal) => {
            return GroupError::MissingProposal;
        }
        ProcessMessageError::InvalidCommit(error) => match error {
            StageCommitError::ConfirmationTagMismatch
            | StageCommitError::MissingDecryptionKey
            | StageCommitError::OwnKeyNotFound
            | StageCommitError::LibraryError(_)
            | StageCommitError::UpdatePathError(
                ApplyUpdatePathError::UnableToDecrypt
                | ApplyUpdatePathError::PathMismatch
                | ApplyUpdatePathError::LibraryError(_),
            ) => true,
            StageCommitError::LeafNodeValidation(_) | StageCommitError::ProposalValidationError(_) => {
                text.to_lowercase().contains("lifetime") || text.contains("expired")
            }
            _ => false,
        },
        ProcessMessageError::ValidationError(ValidationError::UnableToDecrypt(_)) => {
            text.contains("deleted to preserve forward secrecy")
        }
        _ => false,
    };
    if only_here {
        GroupError::OnlyHere { reason: text, author }
    } else {
        GroupError::Refused(text)
    }
}
