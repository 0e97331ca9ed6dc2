//! A member written with another implementation of RFC 9420 takes part in a room, with nothing of ours but the format
//! of the log and what the room asks of a member: an X.509 credential with its root, the two private extensions, the
//! time in every leaf.
//!
//! Its capabilities are greased, its key packages live as long as its library says, its commits come in the clear and
//! encrypted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod world;

use gstmls::identity::Role;
use gstmls::policy::Claim;
use gstmls::record::Record;
use gstmls::room::{Command, Event, POLICY_EXTENSION, Settings, State, TIME_EXTENSION};
use mls_rs::client_builder::{MlsConfig, PaddingMode};
use mls_rs::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs::extension::built_in::RequiredCapabilitiesExt;
use mls_rs::group::{CommitEffect, ReceivedMessage};
use mls_rs::identity::x509::{
    CertificateChain, DerCertificate, X509CredentialValidator, X509IdentityExtractor, X509IdentityProvider,
};
use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuite, Client, Extension, ExtensionList, Group, MlsMessage};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use std::convert::Infallible;
use world::{Ca, Identity, OPEN, World, policy};
use x509_cert::der::Decode as _;

/// Length of the base key under the policy's SFrame suite 4, AES_128_GCM_SHA256_128.
const KEY: usize = 16;

/// Extension types that mean nothing (RFC 9420 §13.5). openmls 0.9.2 takes them among the capabilities, but refuses
/// leaves and key packages that hold such an extension, listed or not; so a client that sends those cannot come in.
fn grease() -> impl Iterator<Item = u16> {
    (0..15).map(|n| 0x0A0A + n * 0x1010)
}

/// Who is whom: the subject. The room judges the chains; that the keys fit is enough here.
#[derive(Clone)]
struct People;

fn leaf(chain: &CertificateChain) -> x509_cert::Certificate {
    x509_cert::Certificate::from_der(chain.leaf().unwrap()).unwrap()
}

impl X509IdentityExtractor for People {
    type Error = Infallible;

    fn identity(&self, chain: &CertificateChain) -> Result<Vec<u8>, Infallible> {
        Ok(leaf(chain).tbs_certificate().subject().to_string().into_bytes())
    }

    fn valid_successor(&self, old: &CertificateChain, new: &CertificateChain) -> Result<bool, Infallible> {
        Ok(self.identity(old)? == self.identity(new)?)
    }
}

impl X509CredentialValidator for People {
    type Error = Infallible;

    fn validate_chain(
        &self,
        chain: &CertificateChain,
        _: Option<MlsTime>,
    ) -> Result<SignaturePublicKey, Infallible> {
        let certificate = leaf(chain);
        let key = certificate.tbs_certificate().subject_public_key_info();
        Ok(key.subject_public_key.raw_bytes().to_vec().into())
    }
}

fn client(identity: &Identity, encrypted: bool) -> Client<impl MlsConfig + use<>> {
    let own = identity.own();
    let certificates = identity.chain.iter().cloned().map(DerCertificate::new);
    let chain: CertificateChain = certificates.collect();
    assert_eq!(chain.last().map(|c| c.as_ref()), Some(identity.root.as_slice()));
    let public = own.identity().public_key;
    // Ed25519 secret keys are seed and public key here.
    let secret = SignatureSecretKey::new([identity.seed, public].concat());
    let rules = DefaultMlsRules::new()
        .with_commit_options(CommitOptions::new().with_path_required(true))
        .with_encryption_options(EncryptionOptions::new(encrypted, PaddingMode::StepFunction));
    Client::builder()
        .crypto_provider(RustCryptoProvider::new())
        .identity_provider(X509IdentityProvider::new(People, People))
        .extension_types(
            [TIME_EXTENSION, POLICY_EXTENSION]
                .into_iter()
                .chain(grease())
                .map(Into::into),
        )
        .mls_rules(rules)
        .signing_identity(
            SigningIdentity::new(chain.into_credential(), public.to_vec().into()),
            secret,
            CipherSuite::CURVE25519_AES128,
        )
        .build()
}

/// What every leaf must say.
fn time_of(world: &World) -> ExtensionList {
    let time = world.now.unix.to_be_bytes().to_vec();
    vec![Extension::new(TIME_EXTENSION.into(), time)].into()
}

/// The other implementation's endpoint.
struct Guest<C: MlsConfig> {
    client: Client<C>,
    group: Option<Group<C>>,
    read: u64,
    removed: bool,
}

impl<C: MlsConfig + Clone> Guest<C> {
    fn new(client: Client<C>) -> Self {
        Self {
            client,
            group: None,
            read: 0,
            removed: false,
        }
    }

    fn group(&mut self) -> &mut Group<C> {
        self.group.as_mut().unwrap()
    }

    fn ask(&mut self, world: &mut World) {
        // The lifetime begins on this machine's clock, as everywhere.
        let package = self
            .client
            .generate_key_package_message(ExtensionList::default(), time_of(world), None)
            .unwrap();
        world.append(Record::KeyPackage(package.to_bytes().unwrap()).encode());
    }

    /// Commits what was built; merged when it is read back.
    fn commit(
        &mut self,
        world: &mut World,
        build: impl FnOnce(
            mls_rs::group::CommitBuilder<'_, C>,
        ) -> Result<mls_rs::group::CommitBuilder<'_, C>, mls_rs::error::MlsError>,
    ) {
        let builder = self
            .group()
            .commit_builder()
            .set_leaf_node_extensions(time_of(world));
        let output = build(builder).unwrap().build().unwrap();
        let welcome = output.welcome_messages().first().map(|w| w.to_bytes().unwrap());
        let commit = output.commit_message().to_bytes().unwrap();
        world.append(Record::Commit { commit, welcome }.encode());
    }

    fn update(&mut self, world: &mut World) {
        self.commit(world, |builder| Ok(builder));
    }

    /// Reads the log to its end.
    fn read(&mut self, world: &World) {
        let read = self.read;
        for (sequence, bytes) in world.log.iter().filter(|(sequence, _)| *sequence > read) {
            self.read = *sequence;
            self.record(Record::decode(bytes).unwrap());
        }
    }

    fn record(&mut self, record: Record) {
        let bytes = match (record, &self.group) {
            (
                Record::Commit {
                    welcome: Some(welcome),
                    ..
                },
                None,
            ) => {
                let welcome = MlsMessage::from_bytes(&welcome).unwrap();
                // One for somebody else, else.
                if let Ok((group, _)) = self.client.join_group(None, &welcome, None) {
                    self.group = Some(group);
                }
                return;
            }
            (
                Record::Commit { commit: bytes, .. } | Record::Proposal(bytes) | Record::Message(bytes),
                Some(_),
            ) => bytes,
            _ => return,
        };
        let message = MlsMessage::from_bytes(&bytes).unwrap();
        if self.removed || message.epoch() != Some(self.group().current_epoch()) {
            return;
        }
        match self.group().process_incoming_message(message) {
            Ok(ReceivedMessage::Commit(commit)) => {
                self.removed = matches!(commit.effect, CommitEffect::Removed { .. });
            }
            Ok(_) | Err(mls_rs::error::MlsError::CantProcessMessageFromSelf) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn base_key(&mut self) -> Vec<u8> {
        self.group()
            .export_secret(b"SFrame 1.0 Base Key", b"", KEY)
            .unwrap()
            .to_vec()
    }

    /// Same epoch, same secret, same code as our members.
    fn check_agrees(&mut self, world: &World, members: &[usize]) {
        world.check_agreed(members);
        let ours = &world.endpoints[members[0]];
        let status = ours.room.as_ref().unwrap().status();
        assert_eq!(self.group().current_epoch(), status.epoch);
        assert_eq!(self.base_key(), ours.keys[&status.epoch]);
        let code = gstmls::codes::epoch_code(&self.group().epoch_authenticator().unwrap());
        assert_eq!(code, status.epoch_code);
        for index in members {
            assert_eq!(world.refusals(*index), Vec::<String>::new());
        }
    }
}

/// Lets time go on, the guest reading along.
fn pass<C: MlsConfig + Clone>(world: &mut World, guest: &mut Guest<C>, ms: u64) {
    for _ in 0..ms / 100 {
        world.pass(100);
        guest.read(world);
    }
}

/// A room of two of ours and the guest.
fn room(encrypted: bool) -> (World, Ca, Guest<impl MlsConfig + use<>>) {
    let ca = Ca::new("clinic");
    let mut world = World::new();
    let mut settings = World::settings();
    settings.create = Some(policy(&ca, OPEN));
    world.add("a", ca.identity("a", &[Role::Participant]), settings);
    world.pass(1000);
    world.add("b", ca.identity("b", &[Role::Participant]), World::settings());
    world.pass(3000);
    let guest = ca.identity("guest", &[Role::Participant]);
    let mut guest = Guest::new(client(&guest, encrypted));
    guest.ask(&mut world);
    pass(&mut world, &mut guest, 3000);
    assert_eq!(world.members(0), ["a", "b", "guest"]);
    guest.check_agrees(&world, &[0, 1]);
    (world, ca, guest)
}

#[test]
fn another_implementation_is_let_in_and_has_the_same_keys() {
    let (mut world, ca, mut guest) = room(false);
    for index in [0, 1] {
        world.command(index, Command::Rekey);
        pass(&mut world, &mut guest, 1000);
        guest.check_agrees(&world, &[0, 1]);
    }
    let c = world.add("c", ca.identity("c", &[Role::Participant]), World::settings());
    pass(&mut world, &mut guest, 3000);
    guest.check_agrees(&world, &[0, 1, c]);
    world.command(0, Command::SetRecording { on: false });
    world.command(0, Command::Remove { member: "c".into() });
    pass(&mut world, &mut guest, 1000);
    assert_eq!(world.state(c), State::Evicted);
    guest.check_agrees(&world, &[0, 1]);
}

#[test]
fn its_updates_are_taken_in_the_clear_and_encrypted() {
    for encrypted in [false, true] {
        let (mut world, _, mut guest) = room(encrypted);
        let before = world.epoch(0);
        for _ in 0..3 {
            guest.update(&mut world);
            pass(&mut world, &mut guest, 1000);
            guest.check_agrees(&world, &[0, 1]);
        }
        assert_eq!(world.epoch(0), before + 3);
    }
}

#[test]
fn who_was_removed_has_no_key_of_the_next_epoch() {
    let (mut world, _, mut guest) = room(false);
    let last = guest.base_key();
    world.command(
        0,
        Command::Remove {
            member: "guest".into(),
        },
    );
    pass(&mut world, &mut guest, 1000);
    assert!(guest.removed);
    world.check_agreed(&[0, 1]);
    assert_eq!(world.members(0), ["a", "b"]);
    let epoch = world.epoch(0);
    assert_ne!(world.endpoints[0].keys[&epoch], last);
    // Denied with its fingerprint: it may ask as often as it likes.
    guest.ask(&mut world);
    world.pass(5000);
    assert_eq!(world.members(0), ["a", "b"]);
}

#[test]
fn it_lets_others_in_and_removes_them() {
    let (mut world, ca, mut guest) = room(false);
    // Nobody of ours is quick enough.
    let mut other = Guest::new(client(&ca.identity("other", &[Role::Participant]), false));
    let package = other
        .client
        .generate_key_package_message(ExtensionList::default(), time_of(&world), None)
        .unwrap();
    guest.commit(&mut world, |builder| builder.add_member(package));
    world.settle();
    guest.read(&world);
    other.read(&world);
    guest.check_agrees(&world, &[0, 1]);
    other.check_agrees(&world, &[0, 1]);
    assert_eq!(world.members(1), ["a", "b", "guest", "other"]);

    let leaf = other.group().current_member_index();
    guest.commit(&mut world, |builder| builder.remove_member(leaf));
    pass(&mut world, &mut guest, 1000);
    guest.check_agrees(&world, &[0, 1]);
    assert_eq!(world.members(0), ["a", "b", "guest"]);
}

#[test]
fn who_asks_to_leave_is_let_go_on_both_sides() {
    let (mut world, _, mut guest) = room(false);
    // Ours asks, the guest commits it by reference.
    world.input(1, gstmls::room::Input::Leave);
    guest.read(&world);
    guest.update(&mut world);
    pass(&mut world, &mut guest, 1000);
    assert_eq!(world.state(1), State::Evicted);
    guest.check_agrees(&world, &[0]);
    // The guest asks, ours commits.
    let own = guest.group().current_member_index();
    let proposal = guest.group().propose_remove(own, Vec::new()).unwrap();
    world.append(Record::Proposal(proposal.to_bytes().unwrap()).encode());
    pass(&mut world, &mut guest, 3000);
    assert!(guest.removed);
    assert_eq!(world.members(0), ["a"]);
}

#[test]
fn its_messages_are_signs_of_life_and_ours_are_read() {
    let (mut world, _, mut guest) = room(false);
    world.kill(1);
    for _ in 0..6 {
        let message = guest
            .group()
            .encrypt_application_message(&[2], Vec::new())
            .unwrap();
        world.append(Record::Message(message.to_bytes().unwrap()).encode());
        pass(&mut world, &mut guest, world::MAX_SILENCE / 2);
        assert_eq!(world.state(0), State::Ready);
    }
    pass(&mut world, &mut guest, world::MAX_SILENCE + 1000);
    assert_eq!(world.state(0), State::Stale);
}

#[test]
fn who_comes_back_by_an_external_commit_is_taken_on_both_sides() {
    let (mut world, ca, mut guest) = room(false);
    world.command(1, Command::Resync);
    pass(&mut world, &mut guest, 5000);
    world.command(0, Command::Rekey);
    pass(&mut world, &mut guest, 3000);
    guest.check_agrees(&world, &[0, 1]);

    // The guest loses everything but its identity.
    let own = guest.group().current_member_index();
    let mut again = Guest::new(client(&ca.identity("guest", &[Role::Participant]), false));
    let asked = world.append(Record::GroupInfoRequest.encode());
    world.pass(2000);
    let info = world
        .log
        .iter()
        .find_map(|(sequence, bytes)| match Record::decode(bytes) {
            Ok(Record::GroupInfo(info)) if *sequence > asked => Some(info),
            _ => None,
        });
    let (group, commit) = again
        .client
        .external_commit_builder()
        .unwrap()
        .with_removal(own)
        .with_leaf_node_extensions(time_of(&world))
        .build(MlsMessage::from_bytes(&info.unwrap()).unwrap())
        .unwrap();
    again.group = Some(group);
    let commit = commit.to_bytes().unwrap();
    again.read = world.append(
        Record::Commit {
            commit,
            welcome: None,
        }
        .encode(),
    );
    pass(&mut world, &mut again, 2000);
    again.check_agrees(&world, &[0, 1]);
    world.command(1, Command::Rekey);
    pass(&mut world, &mut again, 2000);
    again.check_agrees(&world, &[0, 1]);
}

#[test]
fn a_room_that_it_made_is_joined() {
    let ca = Ca::new("clinic");
    let mut world = World::new();
    let mut guest = Guest::new(client(&ca.identity("guest", &[Role::Participant]), false));
    let mut context = ExtensionList::default();
    context
        .set_from(RequiredCapabilitiesExt {
            extensions: vec![TIME_EXTENSION.into(), POLICY_EXTENSION.into()],
            proposals: Vec::new(),
            credentials: vec![CredentialType::X509],
        })
        .unwrap();
    context.set(Extension::new(
        POLICY_EXTENSION.into(),
        policy(&ca, OPEN).encode(),
    ));
    let time = time_of(&world);
    let id = b"made elsewhere".to_vec();
    let group = guest.client.create_group_with_id(id.clone(), context, time, None);
    guest.group = Some(group.unwrap());
    world.append(Record::Create(id).encode());
    let settings = Settings {
        accept: Claim::Strict,
        ..World::settings()
    };
    world.add("a", ca.identity("a", &[Role::Participant]), settings);
    world.settle();
    let package = world
        .log
        .iter()
        .find_map(|(_, bytes)| match Record::decode(bytes) {
            Ok(Record::KeyPackage(package)) => Some(MlsMessage::from_bytes(&package).unwrap()),
            _ => None,
        });
    guest.commit(&mut world, |builder| builder.add_member(package.unwrap()));
    pass(&mut world, &mut guest, 1000);
    guest.check_agrees(&world, &[0]);
    assert!(world.endpoints[0].sealing);
    assert!(
        world.endpoints[0]
            .events
            .iter()
            .any(|e| matches!(e, Event::EpochChanged { .. }))
    );
}
