//! Memory for sealed packets, used again and again. Packets of the usual MTU are just larger than what the C library
//! keeps at hand per thread, and its general path costs as much as a third of sealing them.

use std::sync::{Arc, Mutex, PoisonError};

/// Holds a packet of any usual MTU.
pub const BLOCK: usize = 2048;
/// Up to here the C library keeps memory at hand per thread.
const MIN: usize = 1025;
/// Blocks that wait to be used again; more than are usually under way between a sender and its network sink.
const MAX_FREE: usize = 16;

type Free = Mutex<Vec<Box<[u8; BLOCK]>>>;

/// The blocks of one sender.
#[derive(Clone, Default)]
pub struct Blocks(Arc<Free>);

impl Blocks {
    /// Room for `len` bytes, which hold what earlier packets left in them. `None`: so small or so large that the C
    /// library serves it as fast, or the cost does not show.
    pub fn take(&self, len: usize) -> Option<Block> {
        if !(MIN..=BLOCK).contains(&len) {
            return None;
        }
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Some(Block {
            bytes: Some(free.unwrap_or_else(|| Box::new([0; BLOCK]))),
            len,
            home: self.0.clone(),
        })
    }
}

/// Room for one packet; goes back when it is dropped.
pub struct Block {
    /// Always there until it is dropped.
    bytes: Option<Box<[u8; BLOCK]>>,
    len: usize,
    home: Arc<Free>,
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes
            .as_mut()
            .map_or(&mut [], |bytes| &mut bytes[..self.len])
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            let mut free = self.home.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < MAX_FREE {
                free.push(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_and_are_bounded() {
        let blocks = Blocks::default();
        let mut first = blocks.take(MIN).unwrap();
        assert_eq!(first.as_mut().len(), MIN);
        let address = first.as_mut().as_ptr();
        drop(first);
        assert_eq!(blocks.take(BLOCK).unwrap().as_mut().as_ptr(), address);
        assert!(blocks.take(BLOCK + 1).is_none() && blocks.take(160).is_none());
        let many: Vec<_> = (0..100).map(|_| blocks.take(1200).unwrap()).collect();
        drop(many);
        assert_eq!(blocks.0.lock().unwrap().len(), MAX_FREE);
    }
}
