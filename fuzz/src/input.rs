//! Reads the fuzzer's bytes as commands and values.

/// The bytes that are left; zeros follow their end.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    /// Up to `n` bytes.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Does with the rest what somebody who has no key can do to a file.
    pub fn change(&mut self, bytes: &mut Vec<u8>) {
        while !self.is_empty() {
            let (what, at, value) = (self.u8(), usize::from(self.u16()), self.u8());
            let at = at % (bytes.len() + 1);
            let end = (at + usize::from(value)).min(bytes.len());
            match what % 5 {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value),
                1 => bytes.truncate(at),
                2 => bytes.insert(at, value),
                3 => drop(bytes.drain(at..end)),
                _ => {
                    let part = bytes[at..end].to_vec();
                    let to = usize::from(self.u16()) % (bytes.len() + 1);
                    bytes.splice(to..to, part);
                }
            }
        }
    }
}
