//! Epoch changes: a member of the room and one that is openmls and nothing else take turns in one group, so that both
//! do the same work on the same tree. The bare one builds, merges and exports; the room also verifies certificates,
//! judges, writes its rows in a transaction, gives the key to a schedule and says that it is ready.

use super::cpu::{Taken, taken};
use super::world::{Ca, OPEN, World, policy};
use gst_e2ee_tests::bench::{Ratio, median};
use gstmls::identity::{OwnIdentity, Role};
use gstmls::record::Record;
use gstmls::room::{Command, Group, MLS_SUITE, POLICY_EXTENSION, State, TIME_EXTENSION};
use gstmls::store::{MemoryStore, Store};
use openmls::prelude::tls_codec::Deserialize;
use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;

const WARM_UP: usize = 3;
const ROUNDS: usize = 30;
/// Members of ours that run; the others are in the tree and say nothing.
const LIVE: usize = 3;

/// openmls with its own storage in memory.
struct Bare {
    own: OwnIdentity,
    provider: OpenMlsRustCrypto,
    group: Option<MlsGroup>,
    read: u64,
}

fn time(world: &World) -> Extensions<LeafNode> {
    let time = UnknownExtension(world.now.unix.to_be_bytes().to_vec());
    Extensions::single(Extension::Unknown(TIME_EXTENSION, time)).unwrap()
}

impl Bare {
    fn ask(ca: &Ca, world: &mut World) -> Self {
        let own = ca.identity("bare", &[Role::Participant]).own();
        let provider = OpenMlsRustCrypto::default();
        let extensions = [TIME_EXTENSION, POLICY_EXTENSION]
            .map(ExtensionType::Unknown)
            .to_vec();
        let capabilities = Capabilities::builder()
            .extensions(extensions)
            .credentials(vec![CredentialType::X509])
            .build();
        let credential = CredentialWithKey {
            credential: Credential::new(CredentialType::X509, own.credential_content().to_vec()),
            signature_key: own.identity().public_key.to_vec().into(),
        };
        let bundle = KeyPackage::builder()
            .key_package_lifetime(Lifetime::init(0, u64::MAX))
            .leaf_node_capabilities(capabilities)
            .leaf_node_extensions(time(world))
            .build(MLS_SUITE, &provider, &own, credential)
            .unwrap();
        let package = MlsMessageOut::from(bundle.into_key_package()).to_bytes().unwrap();
        world.append(Record::KeyPackage(package).encode());
        Self {
            own,
            provider,
            group: None,
            read: 0,
        }
    }

    fn next(&mut self, world: &World) -> Option<Record> {
        let (sequence, bytes) = world.log.iter().find(|(sequence, _)| *sequence > self.read)?;
        self.read = *sequence;
        Some(Record::decode(bytes).unwrap())
    }

    /// Reads the log to its end.
    fn follow(&mut self, world: &World) {
        while let Some(record) = self.next(world) {
            let Record::Commit { commit, welcome } = record else {
                continue;
            };
            match (&self.group, welcome) {
                (Some(_), _) => self.process(&commit),
                (None, Some(welcome)) => self.join(&welcome),
                (None, None) => {}
            }
        }
    }

    fn join(&mut self, welcome: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).unwrap();
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            panic!("not a Welcome");
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .build();
        if let Ok(staged) = StagedWelcome::new_from_welcome(&self.provider, &config, welcome, None) {
            self.group = Some(staged.into_group(&self.provider).unwrap());
        }
    }

    fn process(&mut self, commit: &[u8]) {
        let group = self.group.as_mut().unwrap();
        let message = MlsMessageIn::tls_deserialize_exact(commit).unwrap();
        let message = message.try_into_protocol_message().unwrap();
        if message.epoch() != group.epoch() {
            return;
        }
        let processed = group.process_message(&self.provider, message).unwrap();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            panic!("not a commit");
        };
        group.merge_staged_commit(&self.provider, *staged).unwrap();
        self.export();
    }

    fn export(&self) {
        let group = self.group.as_ref().unwrap();
        let key = group.export_secret(self.provider.crypto(), "SFrame 1.0 Base Key", &[], 16);
        std::hint::black_box(key.unwrap());
    }

    fn build(&mut self, time: Extensions<LeafNode>) -> Vec<u8> {
        let group = self.group.as_mut().unwrap();
        let bundle = group
            .commit_builder()
            .force_self_update(true)
            .leaf_node_parameters(LeafNodeParameters::builder().with_extensions(time).build())
            .load_psks(self.provider.storage())
            .unwrap()
            .build(self.provider.rand(), self.provider.crypto(), &self.own, |_| true)
            .unwrap()
            .stage_commit(&self.provider)
            .unwrap();
        bundle.into_commit().to_bytes().unwrap()
    }

    fn merge(&mut self) {
        let group = self.group.as_mut().unwrap();
        group.merge_pending_commit(&self.provider).unwrap();
        self.export();
    }
}

/// Milliseconds of CPU, round by round.
#[derive(Default)]
struct Column(Vec<f64>);

impl Column {
    fn note(&mut self, taken: Taken) {
        self.0.push(taken.cpu.as_secs_f64() * 1e3);
    }

    fn median(&self) -> f64 {
        median(&self.0)
    }
}

struct Bench {
    ca: Ca,
    world: World,
    bare: Bare,
    members: usize,
}

impl Bench {
    /// A room of so many, as it is after they came in: nobody but who let them in has committed since.
    fn cold(members: usize) -> Self {
        let ca = Ca::new("clinic");
        let mut world = World::new();
        let mut settings = World::settings();
        settings.create = Some(policy(&ca, OPEN));
        settings.max_silence = u64::MAX / 8;
        world.add(
            "creator",
            ca.identity("creator", &[Role::Participant]),
            settings.clone(),
        );
        world.pass(100);
        settings.create = None;
        for number in 1..LIVE.min(members - 1) {
            let id = format!("live-{number}");
            world.add(&id, ca.identity(&id, &[Role::Participant]), settings.clone());
            world.pass(1500);
        }
        let bare = Bare::ask(&ca, &mut world);
        world.pass(1500);
        let mut bench = Self {
            ca,
            world,
            bare,
            members,
        };
        bench.bare.follow(&bench.world);
        let present = bench.world.members(0).len();
        let asked: Vec<usize> = (present..members).collect();
        for chunk in asked.chunks(64) {
            for number in chunk {
                bench.ask(*number);
            }
            bench.world.pass(1500);
            bench.bare.follow(&bench.world);
        }
        assert_eq!(bench.world.members(0).len(), members);
        bench
    }

    fn somebody(&self, number: usize) -> OwnIdentity {
        self.ca
            .identity(&format!("member-{number}"), &[Role::Participant])
            .own()
    }

    fn ask(&mut self, number: usize) {
        let mut store = MemoryStore::new();
        store.begin().unwrap();
        let own = self.somebody(number);
        let package = Group::key_package(&store, &own, self.world.now.unix).unwrap();
        self.world.append(Record::KeyPackage(package).encode());
    }

    /// Every so manieth of those who do not run makes a new leaf with its path (by an external commit: they need no
    /// state for it), as everybody does soon after joining.
    fn warm(&mut self, step: usize) {
        let present = LIVE.min(self.members - 1) + 1;
        for number in (present..self.members).step_by(step) {
            self.world.advance(2000);
            let asked = self.world.append(Record::GroupInfoRequest.encode());
            self.world.pass(10);
            let info = self.world.log.iter().rev().find_map(|(sequence, bytes)| {
                match (*sequence > asked).then(|| Record::decode(bytes)) {
                    Some(Ok(Record::GroupInfo(info))) => Some(info),
                    _ => None,
                }
            });
            let mut store = MemoryStore::new();
            store.begin().unwrap();
            let own = self.somebody(number);
            let info = MlsMessageIn::tls_deserialize_exact(info.unwrap()).unwrap();
            let MlsMessageBodyIn::GroupInfo(info) = info.extract() else {
                panic!("not a GroupInfo");
            };
            let (_, commit) = Group::join_externally(&store, &own, info, self.world.now.unix).unwrap();
            self.world.append(
                Record::Commit {
                    commit,
                    welcome: None,
                }
                .encode(),
            );
            self.world.settle();
            self.bare.follow(&self.world);
        }
        assert_eq!(self.world.members(0).len(), self.members);
        for endpoint in &self.world.endpoints {
            assert_eq!(endpoint.room.as_ref().unwrap().state(), State::Ready);
        }
    }

    /// Both sides commit in turns, each reading what the other made.
    fn measure(&mut self, what: &str) {
        let mut ours = [(); 3].map(|()| Column::default());
        let mut bare = [(); 3].map(|()| Column::default());
        let mut open = Vec::new();
        let mut bytes = 0;
        for round in 0..WARM_UP + ROUNDS {
            self.world.now.ms += 20_000;
            self.world.now.unix += 20;
            self.world.settle();
            self.bare.follow(&self.world);
            let keep = round >= WARM_UP;

            // Ours commits.
            let before = self.world.epoch(0);
            let (build, ()) = taken(|| self.world.command(0, Command::Rekey));
            let (merge, _) = taken(|| self.world.read_one(0));
            let receiver = self.world.endpoints.len() - 1;
            let (receive, _) = taken(|| self.world.read_one(receiver));
            assert_eq!(self.world.epoch(0), before + 1);
            assert_eq!(self.world.epoch(receiver), before + 1);
            let key = self.world.endpoints[receiver].schedule.epochs().max();
            assert_eq!(key, Some(before + 1), "the schedule opens the new epoch");
            let Some(Record::Commit { commit, .. }) = self.bare.next(&self.world) else {
                panic!("not a commit");
            };
            bytes = commit.len();
            let (bare_receive, ()) = taken(|| self.bare.process(&commit));

            // openmls commits.
            self.world.settle();
            let time = time(&self.world);
            let (bare_build, commit) = taken(|| self.bare.build(time));
            let (bare_merge, ()) = taken(|| self.bare.merge());
            self.bare.read = self.world.append(
                Record::Commit {
                    commit,
                    welcome: None,
                }
                .encode(),
            );
            self.world.settle();
            assert_eq!(self.world.epoch(0), before + 2);
            if keep {
                for (column, taken) in ours.iter_mut().zip([build, merge, receive]) {
                    column.note(taken);
                }
                for (column, taken) in bare.iter_mut().zip([bare_build, bare_merge, bare_receive]) {
                    column.note(taken);
                }
                open.push((build.wall + receive.wall).as_secs_f64() * 1e3);
            }
            // Nobody reads them again.
            let keep_from = self.world.log.len().saturating_sub(50);
            self.world.log.drain(..keep_from);
        }
        let [build, merge, receive] = ours;
        let [bare_build, bare_merge, bare_receive] = bare;
        println!(
            "{:>5} members, {what}: commit of {bytes} bytes; built in {:.2} ms, merged in {:.2} ms, taken by a receiver \
             in {:.2} ms of CPU; another member's schedule opens the new key after {:.2} ms",
            self.members,
            build.median(),
            merge.median(),
            receive.median(),
            median(&open),
        );
        let committing: Vec<f64> = build.0.iter().zip(&merge.0).map(|(a, b)| a + b).collect();
        let bare_committing: Vec<f64> = bare_build
            .0
            .iter()
            .zip(&bare_merge.0)
            .map(|(a, b)| a + b)
            .collect();
        let (commits, receives) = (
            Ratio::of(&committing, &bare_committing),
            Ratio::of(&receive.0, &bare_receive.0),
        );
        let verdict = |ratio: &Ratio| match self.members {
            1000 => format!(" (target 2: {})", ratio.verdict(2.0)),
            _ => String::new(),
        };
        println!(
            "      against bare openmls: committing {commits} of {:.2} ms{}; receiving {receives} of {:.2} ms{}",
            median(&bare_committing),
            verdict(&commits),
            bare_receive.median(),
            verdict(&receives),
        );
        if self.members == 100 {
            let met = |value: f64, at_most: f64| if value <= at_most { "met" } else { "NOT met" };
            println!(
                "      CPU per commit {:.2} ms (target 3: {}), per receiver {:.2} ms (target 2: {})",
                median(&committing),
                met(median(&committing), 3.0),
                receive.median(),
                met(receive.median(), 2.0),
            );
        }
    }
}

pub fn run(sizes: &[usize]) {
    println!("epoch changes, memory only; medians of {ROUNDS} rounds");
    for members in sizes {
        let mut bench = Bench::cold((*members).max(3));
        if *members >= 100 {
            bench.measure("cold");
        }
        bench.warm(if *members > 100 { 8 } else { 1 });
        bench.measure("warm");
    }
}
