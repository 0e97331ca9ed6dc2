//! How values become bytes: CBOR (RFC 8949).
//!
//! openmls' types need a self-describing format: the compact ones that are not (postcard, bincode) fail when they are
//! read. JSON is three times as long, and what is written has to be encrypted and synced at every merge.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// CBOR, with the names of fields, so that a later openmls may add some.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

/// What does not encode or decode; tells nothing of the value.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Encoding failed.
    #[error("a value of the state cannot be encoded")]
    Encode,
    /// Decoding failed.
    #[error("a value of the state cannot be decoded: it is damaged, or another version wrote it")]
    Decode,
}

impl openmls_sqlite_storage::Codec for Codec {
    type Error = CodecError;

    fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
        cbor4ii::serde::to_vec(Vec::new(), value).map_err(|_| CodecError::Encode)
    }

    fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        cbor4ii::serde::from_slice(bytes).map_err(|_| CodecError::Decode)
    }
}
