//! Sealing and opening one frame in place (RFC 9605 §4.4.3, §4.4.4): bytes in, bytes out.
//!
//! A sealed frame is `clear prefix ‖ SFrame header ‖ ciphertext ‖ tag`. The clear prefix is empty unless the codec's
//! first bytes must stay readable; it is authenticated as SFrame metadata. Nothing here allocates.

use crate::codec::MAX_CLEAR_PREFIX;
use crate::crypto::{Backend, crate_suite};
use gst_e2ee_common::cipher_suite::CipherSuite;
use gst_e2ee_common::header::{self, Header, HeaderError};
use sframe::crypto::{DecryptionBufferView, EncryptionBufferView};
use sframe::key::{GenericDecryptionKey, GenericEncryptionKey};

/// Longest clear prefix with the longest header: what must be read of a frame before it is known what it is.
pub const MAX_LEAD: usize = MAX_CLEAR_PREFIX + header::MAX_LEN;

/// Longest metadata of an application, in bytes.
pub const MAX_METADATA: usize = 64;

/// The key could not be derived. Says nothing about why: inputs are secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key could not be derived")]
pub struct DeriveError;

/// A frame could not be sealed: it is larger than the cipher allows, or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame cannot be read, or is larger than the cipher allows")]
pub struct SealError;

/// Why bytes did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not an SFrame header, or nothing behind it.
    #[error("not an SFrame ciphertext: {0}")]
    Malformed(#[from] HeaderError),
    /// The tag does not fit: damaged, forged, or another key.
    #[error("authentication failed")]
    AuthFailed,
}

/// Associated data: header, then metadata (RFC 9605 §4.4.3), which is the clear prefix and what the application adds.
struct Aad {
    bytes: [u8; MAX_LEAD + MAX_METADATA],
    len: usize,
}

impl Aad {
    fn new(header: &[u8], clear: &[u8], metadata: &[u8]) -> Self {
        let mut bytes = [0; MAX_LEAD + MAX_METADATA];
        let mut len = 0;
        for part in [header, clear, &metadata[..metadata.len().min(MAX_METADATA)]] {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        Self { bytes, len }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

/// A key to seal with.
pub struct SealKey {
    key: GenericEncryptionKey<Backend, Backend>,
    tag_len: usize,
}

/// Where the parts of a sealed frame go in the output.
pub struct Layout {
    ctr: u64,
    header: [u8; MAX_LEAD],
    header_len: usize,
    clear_len: usize,
    total: usize,
}

impl Layout {
    /// Length of the sealed frame in bytes.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl SealKey {
    /// Derives the key (RFC 9605 §4.4.2).
    pub fn derive(suite: CipherSuite, kid: u64, base_key: &[u8]) -> Result<Self, DeriveError> {
        let key =
            GenericEncryptionKey::derive_from(crate_suite(suite), kid, base_key).map_err(|_| DeriveError)?;
        Ok(Self {
            key,
            tag_len: suite.tag_len(),
        })
    }

    /// Key id that is written into every header.
    pub fn kid(&self) -> u64 {
        self.key.key_id()
    }

    /// Lays out the frame with counter `ctr`: `frame_len` bytes of which the first `clear_len` stay in clear.
    pub fn layout(&self, ctr: u64, clear_len: usize, frame_len: usize) -> Layout {
        let clear_len = clear_len.min(frame_len).min(MAX_CLEAR_PREFIX);
        let mut written = [0; header::MAX_LEN];
        let header_len = Header { kid: self.kid(), ctr }.write(&mut written);
        let mut header = [0; MAX_LEAD];
        header[..header::MAX_LEN].copy_from_slice(&written);
        Layout {
            ctr,
            header,
            header_len,
            clear_len,
            total: header_len + frame_len + self.tag_len,
        }
    }

    /// Seals into `out`, which is `layout.total()` bytes. `fill(at, part)` copies the frame's bytes from offset `at`
    /// on into `part` and says whether they were there; it is called for the clear prefix and for the rest. `metadata` is
    /// authenticated with the frame but not part of it.
    #[inline]
    pub fn seal(
        &self,
        layout: &Layout,
        metadata: &[u8],
        out: &mut [u8],
        mut fill: impl FnMut(usize, &mut [u8]) -> bool,
    ) -> Result<(), SealError> {
        let (clear, rest) = out.split_at_mut_checked(layout.clear_len).ok_or(SealError)?;
        let (header, rest) = rest.split_at_mut_checked(layout.header_len).ok_or(SealError)?;
        let body_len = rest.len().checked_sub(self.tag_len).ok_or(SealError)?;
        let (body, tag) = rest.split_at_mut(body_len);
        header.copy_from_slice(&layout.header[..layout.header_len]);
        let clear_filled = layout.clear_len == 0 || fill(0, clear);
        if !clear_filled || !fill(layout.clear_len, body) {
            return Err(SealError);
        }
        // Mostly the header is all there is, and a copy of fixed length costs nothing.
        let (mut short, mut long) = (layout.header, None);
        let aad = if clear.is_empty() && metadata.is_empty() {
            &mut short[..layout.header_len]
        } else {
            long.insert(Aad::new(header, clear, metadata)).as_mut()
        };
        let view = EncryptionBufferView { aad, data: body, tag };
        self.key.encrypt(view, layout.ctr).map_err(|_| SealError)
    }
}

/// The lead of a sealed frame: what can be read without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// KID and CTR.
    pub header: Header,
    /// Bytes before the header.
    pub clear_len: usize,
    /// Bytes of the header.
    pub header_len: usize,
}

impl Lead {
    /// Reads the lead from a frame's first bytes ([`MAX_LEAD`] of them are always enough).
    pub fn parse(bytes: &[u8], clear_len: usize) -> Result<Self, HeaderError> {
        let sealed = bytes
            .get(clear_len..)
            .filter(|_| clear_len <= MAX_CLEAR_PREFIX)
            .ok_or(HeaderError::Truncated)?;
        let (header, header_len) = Header::parse(sealed)?;
        Ok(Self {
            header,
            clear_len,
            header_len,
        })
    }

    /// Offset of the ciphertext.
    pub fn body_offset(&self) -> usize {
        self.clear_len + self.header_len
    }
}

/// A key to open with.
pub struct OpenKey {
    key: GenericDecryptionKey<Backend, Backend>,
    tag_len: usize,
}

impl OpenKey {
    /// Derives the key (RFC 9605 §4.4.2).
    pub fn derive(suite: CipherSuite, kid: u64, base_key: &[u8]) -> Result<Self, DeriveError> {
        let key =
            GenericDecryptionKey::derive_from(crate_suite(suite), kid, base_key).map_err(|_| DeriveError)?;
        Ok(Self {
            key,
            tag_len: suite.tag_len(),
        })
    }

    /// Opens in place. `lead_bytes` are the frame's first bytes, up to the ciphertext; `out` holds the clear prefix
    /// (still empty) followed by ciphertext and tag; `metadata` is what the sealing side added. Returns the length of the frame at the start of `out`.
    #[inline]
    pub fn open(
        &self,
        lead: &Lead,
        lead_bytes: &[u8; MAX_LEAD],
        metadata: &[u8],
        out: &mut [u8],
    ) -> Result<usize, OpenError> {
        let (clear, header) = lead_bytes[..lead.body_offset()].split_at(lead.clear_len);
        let (out_clear, body) = out
            .split_at_mut_checked(lead.clear_len)
            .ok_or(OpenError::Malformed(HeaderError::Truncated))?;
        let plain_len = body
            .len()
            .checked_sub(self.tag_len)
            .ok_or(OpenError::Malformed(HeaderError::Truncated))?;
        let (mut short, mut long) = (*lead_bytes, None);
        let aad = if clear.is_empty() && metadata.is_empty() {
            &mut short[..lead.header_len]
        } else {
            long.insert(Aad::new(header, clear, metadata)).as_mut()
        };
        let view = DecryptionBufferView { aad, data: body };
        self.key
            .decrypt(view, lead.header.ctr)
            .map_err(|_| OpenError::AuthFailed)?;
        out_clear.copy_from_slice(clear);
        Ok(lead.clear_len + plain_len)
    }
}
