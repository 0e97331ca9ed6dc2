//! openmls' storage trait over the rows of a [`MemoryStore`](super::MemoryStore): a table of which method
//! reads or writes which kind of row.

use openmls_traits::storage::{CURRENT_VERSION as V, Entity, Key as StorageKey, StorageProvider, traits};

use super::{Key, Kind, StoreError, Table, decode, encode};

impl Table<'_> {
    fn key(kind: Kind, owner: &impl StorageKey<V>) -> Result<Key, StoreError> {
        Ok(Key {
            kind,
            owner: encode(owner)?,
            part: Vec::new(),
        })
    }

    fn epoch_key(
        group: &impl StorageKey<V>,
        epoch: &impl StorageKey<V>,
        leaf: u32,
    ) -> Result<Key, StoreError> {
        Ok(Key {
            part: encode(&(epoch, leaf))?,
            ..Self::key(Kind::EpochKeys, group)?
        })
    }

    fn read<T: Entity<V>>(&self, kind: Kind, owner: &impl StorageKey<V>) -> Result<Option<T>, StoreError> {
        self.get(&Self::key(kind, owner)?)?
            .map(|value| decode(&value))
            .transpose()
    }
}

// The trait's methods differ in name, in the types' bounds and in the order of the type parameters only.

macro_rules! writes {
    ($($name:ident $kind:ident <$A:ident: $a:ident, $B:ident: $b:ident>;)*) => {$(
        fn $name<$A: traits::$a<V>, $B: traits::$b<V>>(&self, owner: &Owner, value: &Value) -> Result<(), StoreError> {
            self.set(Self::key(Kind::$kind, owner)?, encode(value)?)
        }
    )*};
}

macro_rules! reads {
    ($($name:ident $kind:ident <$A:ident: $a:ident, $B:ident: $b:ident>;)*) => {$(
        fn $name<$A: traits::$a<V>, $B: traits::$b<V>>(&self, owner: &Owner) -> Result<Option<Value>, StoreError> {
            self.read(Kind::$kind, owner)
        }
    )*};
}

macro_rules! deletes {
    ($($name:ident $kind:ident <$A:ident: $a:ident>;)*) => {$(
        fn $name<$A: traits::$a<V>>(&self, owner: &Owner) -> Result<(), StoreError> {
            self.remove(&Self::key(Kind::$kind, owner)?)
        }
    )*};
}

impl StorageProvider<V> for Table<'_> {
    type Error = StoreError;

    writes! {
        write_mls_join_config JoinConfig <Owner: GroupId, Value: MlsGroupJoinConfig>;
        write_tree Tree <Owner: GroupId, Value: TreeSync>;
        write_interim_transcript_hash InterimTranscriptHash <Owner: GroupId, Value: InterimTranscriptHash>;
        write_context Context <Owner: GroupId, Value: GroupContext>;
        write_confirmation_tag ConfirmationTag <Owner: GroupId, Value: ConfirmationTag>;
        write_group_state GroupState <Value: GroupState, Owner: GroupId>;
        write_message_secrets MessageSecrets <Owner: GroupId, Value: MessageSecrets>;
        write_resumption_psk_store ResumptionPsks <Owner: GroupId, Value: ResumptionPskStore>;
        write_own_leaf_index OwnLeafIndex <Owner: GroupId, Value: LeafNodeIndex>;
        write_group_epoch_secrets EpochSecrets <Owner: GroupId, Value: GroupEpochSecrets>;
        write_signature_key_pair SignatureKey <Owner: SignaturePublicKey, Value: SignatureKeyPair>;
        write_encryption_key_pair EncryptionKey <Owner: EncryptionKey, Value: HpkeKeyPair>;
        write_key_package KeyPackage <Owner: HashReference, Value: KeyPackage>;
        write_psk Psk <Owner: PskId, Value: PskBundle>;
    }

    reads! {
        mls_group_join_config JoinConfig <Owner: GroupId, Value: MlsGroupJoinConfig>;
        tree Tree <Owner: GroupId, Value: TreeSync>;
        interim_transcript_hash InterimTranscriptHash <Owner: GroupId, Value: InterimTranscriptHash>;
        group_context Context <Owner: GroupId, Value: GroupContext>;
        confirmation_tag ConfirmationTag <Owner: GroupId, Value: ConfirmationTag>;
        group_state GroupState <Value: GroupState, Owner: GroupId>;
        message_secrets MessageSecrets <Owner: GroupId, Value: MessageSecrets>;
        resumption_psk_store ResumptionPsks <Owner: GroupId, Value: ResumptionPskStore>;
        own_leaf_index OwnLeafIndex <Owner: GroupId, Value: LeafNodeIndex>;
        group_epoch_secrets EpochSecrets <Owner: GroupId, Value: GroupEpochSecrets>;
        signature_key_pair SignatureKey <Owner: SignaturePublicKey, Value: SignatureKeyPair>;
        encryption_key_pair EncryptionKey <Value: HpkeKeyPair, Owner: EncryptionKey>;
        key_package KeyPackage <Owner: HashReference, Value: KeyPackage>;
        psk Psk <Value: PskBundle, Owner: PskId>;
    }

    deletes! {
        delete_group_config JoinConfig <Owner: GroupId>;
        delete_tree Tree <Owner: GroupId>;
        delete_interim_transcript_hash InterimTranscriptHash <Owner: GroupId>;
        delete_context Context <Owner: GroupId>;
        delete_confirmation_tag ConfirmationTag <Owner: GroupId>;
        delete_group_state GroupState <Owner: GroupId>;
        delete_message_secrets MessageSecrets <Owner: GroupId>;
        delete_all_resumption_psk_secrets ResumptionPsks <Owner: GroupId>;
        delete_own_leaf_index OwnLeafIndex <Owner: GroupId>;
        delete_group_epoch_secrets EpochSecrets <Owner: GroupId>;
        delete_signature_key_pair SignatureKey <Owner: SignaturePublicKey>;
        delete_encryption_key_pair EncryptionKey <Owner: EncryptionKey>;
        delete_key_package KeyPackage <Owner: HashReference>;
        delete_psk Psk <Owner: PskId>;
    }

    fn append_own_leaf_node<GroupId: traits::GroupId<V>, LeafNode: traits::LeafNode<V>>(
        &self,
        group: &GroupId,
        leaf: &LeafNode,
    ) -> Result<(), StoreError> {
        let owner = encode(group)?;
        let number = self.all(Kind::OwnLeafNode, &owner)?.len();
        let key = Key {
            kind: Kind::OwnLeafNode,
            owner,
            part: number.to_be_bytes().to_vec(),
        };
        self.set(key, encode(leaf)?)
    }

    fn own_leaf_nodes<GroupId: traits::GroupId<V>, LeafNode: traits::LeafNode<V>>(
        &self,
        group: &GroupId,
    ) -> Result<Vec<LeafNode>, StoreError> {
        self.all(Kind::OwnLeafNode, &encode(group)?)?
            .iter()
            .map(|(_, leaf)| decode(leaf))
            .collect()
    }

    fn delete_own_leaf_nodes<GroupId: traits::GroupId<V>>(&self, group: &GroupId) -> Result<(), StoreError> {
        self.remove_all(Kind::OwnLeafNode, &encode(group)?)
    }

    fn queue_proposal<
        GroupId: traits::GroupId<V>,
        ProposalRef: traits::ProposalRef<V>,
        QueuedProposal: traits::QueuedProposal<V>,
    >(
        &self,
        group: &GroupId,
        reference: &ProposalRef,
        proposal: &QueuedProposal,
    ) -> Result<(), StoreError> {
        let key = Key {
            part: encode(reference)?,
            ..Self::key(Kind::Proposal, group)?
        };
        self.set(key, encode(proposal)?)
    }

    fn queued_proposal_refs<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group: &GroupId,
    ) -> Result<Vec<ProposalRef>, StoreError> {
        self.all(Kind::Proposal, &encode(group)?)?
            .iter()
            .map(|(key, _)| decode(&key.part))
            .collect()
    }

    fn queued_proposals<
        GroupId: traits::GroupId<V>,
        ProposalRef: traits::ProposalRef<V>,
        QueuedProposal: traits::QueuedProposal<V>,
    >(
        &self,
        group: &GroupId,
    ) -> Result<Vec<(ProposalRef, QueuedProposal)>, StoreError> {
        self.all(Kind::Proposal, &encode(group)?)?
            .iter()
            .map(|(key, proposal)| Ok((decode(&key.part)?, decode(proposal)?)))
            .collect()
    }

    fn remove_proposal<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group: &GroupId,
        reference: &ProposalRef,
    ) -> Result<(), StoreError> {
        self.remove(&Key {
            part: encode(reference)?,
            ..Self::key(Kind::Proposal, group)?
        })
    }

    fn clear_proposal_queue<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group: &GroupId,
    ) -> Result<(), StoreError> {
        self.remove_all(Kind::Proposal, &encode(group)?)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
        HpkeKeyPair: traits::HpkeKeyPair<V>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
        pairs: &[HpkeKeyPair],
    ) -> Result<(), StoreError> {
        self.set(Self::epoch_key(group, epoch, leaf)?, encode(pairs)?)
    }

    fn encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
        HpkeKeyPair: traits::HpkeKeyPair<V>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
    ) -> Result<Vec<HpkeKeyPair>, StoreError> {
        match self.get(&Self::epoch_key(group, epoch, leaf)?)? {
            Some(pairs) => decode(&pairs),
            None => Ok(Vec::new()),
        }
    }

    fn delete_encryption_epoch_key_pairs<GroupId: traits::GroupId<V>, EpochKey: traits::EpochKey<V>>(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
    ) -> Result<(), StoreError> {
        self.remove(&Self::epoch_key(group, epoch, leaf)?)
    }
}
