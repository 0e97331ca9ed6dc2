//! How values become bytes. openmls' types need a self-describing format, so the compact ones that are not (postcard,
//! bincode) fail when they are read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

impl openmls_sqlite_storage::Codec for Codec {
    type Error = serde_json::Error;

    fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, Self::Error> {
        serde_json::to_vec(value)
    }

    fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Self::Error> {
        serde_json::from_slice(bytes)
    }
}
