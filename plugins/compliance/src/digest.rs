//! SHA-256, as it stands in files: 64 lower-case hex digits.

use crate::hex_form::hex_form;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(data: &[u8]) -> Self {
        let mut digest = Digester::new();
        digest.update(data);
        digest.finish()
    }
}

/// 16 bytes of salt, and a SHA-256 that cannot be compared with anything without them: a room's reference to a consent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salted(pub [u8; 48]);

/// A digest in the making, of data that comes in pieces.
pub struct Digester(ring::digest::Context);

impl Digester {
    /// Of nothing so far.
    pub fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Takes the next piece.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

impl Default for Digester {
    fn default() -> Self {
        Self::new()
    }
}

hex_form!(Digest, "a SHA-256");
hex_form!(Salted, "a salted SHA-256");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256_of_all_pieces() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        let mut pieces = Digester::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), digest);
    }
}
