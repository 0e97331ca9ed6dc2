//! A disk in memory that can be full, fail, and lose at a crash what was not made durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::recording::{Disk, DiskFile};

type Node = usize;

#[derive(Clone)]
enum Thing {
    Folder {
        names: BTreeMap<String, Node>,
        durable: BTreeMap<String, Node>,
    },
    File {
        bytes: Vec<u8>,
        durable: Vec<u8>,
    },
}

/// What a crash leaves of what was not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    Lost,
    /// Everything, as after kill -9.
    Kept,
    /// Names, and a part of what was appended to each file.
    Torn(u64),
}

#[derive(Clone)]
struct World {
    things: Vec<Thing>,
    locks: BTreeSet<Node>,
    /// Changes so far.
    steps: u64,
    /// The change that is not made any more, and all after it.
    crash_at: Option<u64>,
    /// The change that fails once.
    fail_at: Option<u64>,
    /// Bytes that there is room for.
    capacity: u64,
}

#[derive(Clone)]
pub struct MemoryDisk(Arc<Mutex<World>>);

impl MemoryDisk {
    pub fn new() -> Self {
        let root = Thing::Folder {
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(World {
            things: vec![root],
            locks: BTreeSet::new(),
            steps: 0,
            crash_at: None,
            fail_at: None,
            capacity: u64::MAX,
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub fn steps(&self) -> u64 {
        self.world().steps
    }

    /// Nothing happens any more from this change on.
    pub fn crash_at(&self, step: u64) {
        self.world().crash_at = Some(step);
    }

    /// This change fails, and takes with it what the file was not durable with.
    pub fn fail_at(&self, step: u64) {
        self.world().fail_at = Some(step);
    }

    pub fn capacity(&self, bytes: u64) {
        self.world().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        self.world().used()
    }

    /// The disk as it is found after a crash.
    pub fn after(&self, crash: Crash) -> Self {
        let mut world = self.world().clone();
        world.locks.clear();
        (world.crash_at, world.fail_at, world.steps, world.capacity) = (None, None, 0, u64::MAX);
        for (node, thing) in (0_u64..).zip(&mut world.things) {
            match thing {
                Thing::Folder { names, durable } => {
                    if crash == Crash::Lost {
                        names.clone_from(durable);
                    } else {
                        durable.clone_from(names);
                    }
                }
                Thing::File { bytes, durable } => {
                    match crash {
                        Crash::Lost => bytes.clone_from(durable),
                        Crash::Torn(seed) if bytes.len() > durable.len() => {
                            let more = (bytes.len() - durable.len()) as u64;
                            let kept = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(node * 977)
                                % (more + 1);
                            bytes.truncate(durable.len() + usize::try_from(kept).unwrap());
                        }
                        Crash::Kept | Crash::Torn(_) => {}
                    }
                    durable.clone_from(bytes);
                }
            }
        }
        Self(Arc::new(Mutex::new(world)))
    }

    /// Writes everything to a real folder.
    pub fn dump(&self, to: &Path) {
        let world = self.world();
        let mut open = vec![(0, to.to_owned())];
        while let Some((node, path)) = open.pop() {
            match &world.things[node] {
                Thing::Folder { names, .. } => {
                    std::fs::create_dir_all(&path).unwrap();
                    open.extend(names.iter().map(|(name, node)| (*node, path.join(name))));
                }
                Thing::File { bytes, .. } => std::fs::write(path, bytes).unwrap(),
            }
        }
    }
}

impl World {
    fn used(&self) -> u64 {
        let mut reachable: BTreeSet<Node> = BTreeSet::from([0]);
        let mut open = vec![0];
        while let Some(node) = open.pop() {
            if let Thing::Folder { names, .. } = &self.things[node] {
                open.extend(names.values().filter(|node| reachable.insert(**node)));
            }
        }
        reachable
            .iter()
            .map(|node| match &self.things[*node] {
                Thing::File { bytes, .. } => bytes.len() as u64,
                Thing::Folder { .. } => 0,
            })
            .sum()
    }

    /// Every change begins here. False: it fails now.
    fn step(&mut self) -> io::Result<bool> {
        if self.crash_at.is_some_and(|at| self.steps >= at) {
            return Err(io::Error::other("crashed"));
        }
        self.steps += 1;
        Ok(self.fail_at != Some(self.steps - 1))
    }

    fn change(&mut self) -> io::Result<()> {
        if self.step()? {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(5))
        }
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = 0;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let Thing::Folder { names, .. } = &self.things[node] else {
                return Err(ErrorKind::NotADirectory.into());
            };
            node = *names.get(name.to_str().unwrap()).ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn folder(&mut self, path: &Path) -> io::Result<(&mut BTreeMap<String, Node>, String)> {
        let node = self.find(path.parent().unwrap())?;
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match &mut self.things[node] {
            Thing::Folder { names, .. } => Ok((names, name)),
            Thing::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, thing: Thing) -> io::Result<Node> {
        self.change()?;
        let node = self.things.len();
        let (names, name) = self.folder(path)?;
        if names.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        names.insert(name, node);
        self.things.push(thing);
        Ok(node)
    }

    fn bytes(&mut self, node: Node) -> (&mut Vec<u8>, &mut Vec<u8>) {
        match &mut self.things[node] {
            Thing::File { bytes, durable } => (bytes, durable),
            Thing::Folder { .. } => panic!("a folder was opened"),
        }
    }
}

impl Disk for MemoryDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let thing = Thing::Folder {
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
        };
        self.world().add(path, thing).map(drop)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let thing = Thing::File {
            bytes: Vec::new(),
            durable: Vec::new(),
        };
        let node = self.world().add(path, thing)?;
        Ok(Box::new(MemoryFile(self.clone(), node)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let node = self.world().find(path)?;
        Ok(Box::new(MemoryFile(self.clone(), node)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let node = world.find(from)?;
        let (names, name) = world.folder(to)?;
        names.insert(name, node);
        let (names, name) = world.folder(from)?;
        names.remove(&name);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let (names, name) = world.folder(path)?;
        names
            .remove(&name)
            .map(drop)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let node = world.find(path)?;
        if let Thing::Folder { names, durable } = &mut world.things[node] {
            durable.clone_from(names);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        match &world.things[world.find(path)?] {
            Thing::Folder { names, .. } => Ok(names.keys().cloned().collect()),
            Thing::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.world().find(path).is_ok())
    }
}

struct MemoryFile(MemoryDisk, Node);

impl MemoryFile {
    fn write(&self, more: &[u8]) -> io::Result<()> {
        let mut world = self.0.world();
        let whole = match world.step() {
            Ok(whole) => whole,
            // The crash comes in the middle of it.
            Err(error) => {
                if world.crash_at == Some(world.steps) {
                    world.steps += 1;
                    world.bytes(self.1).0.extend_from_slice(&more[..more.len() / 2]);
                }
                return Err(error);
            }
        };
        let room = world.capacity.saturating_sub(world.used());
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(more.len());
        let written = if whole { fits } else { fits / 3 };
        world.bytes(self.1).0.extend_from_slice(&more[..written]);
        match (written == more.len(), whole) {
            (true, _) => Ok(()),
            (false, true) => Err(ErrorKind::StorageFull.into()),
            (false, false) => Err(io::Error::from_raw_os_error(5)),
        }
    }
}

impl DiskFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.0.world();
        let (bytes, _) = world.bytes(self.1);
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        // Never all at once, as a real disk may do, too.
        let length = buffer.len().min(bytes.len() - from).min(1000);
        buffer[..length].copy_from_slice(&bytes[from..from + length]);
        Ok(length)
    }

    fn length(&mut self) -> io::Result<u64> {
        Ok(self.0.world().bytes(self.1).0.len() as u64)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut world = self.0.world();
        world.change()?;
        world.bytes(self.1).0.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.0.world();
        let whole = world.step()?;
        let (bytes, durable) = world.bytes(self.1);
        if whole {
            durable.clone_from(bytes);
            Ok(())
        } else {
            // What could not be written is dropped, and the next sync will not say so.
            bytes.clone_from(durable);
            Err(io::Error::from_raw_os_error(5))
        }
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.write(&vec![0; usize::try_from(bytes).unwrap()])
    }

    fn lock(&mut self) -> io::Result<bool> {
        Ok(self.0.world().locks.insert(self.1))
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if let Ok(mut world) = self.0.0.lock() {
            world.locks.remove(&self.1);
        }
    }
}

/// Where recordings lie on it.
pub fn location() -> PathBuf {
    PathBuf::from("/")
}
