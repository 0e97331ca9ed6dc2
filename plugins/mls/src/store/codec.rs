//! How values become bytes: MessagePack, with byte strings as such.
//!
//! openmls' types need a self-describing format: the compact ones that are not (postcard, bincode) fail when they are
//! read. In JSON and CBOR most of their byte strings are lists of numbers, two to four times as long, and what is written
//! has to be encrypted and synced at every merge.

use rmp_serde::Serializer;
use rmp_serde::config::BytesMode;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// MessagePack, with the names of fields, so that a later openmls may add some.
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
        let mut bytes = Vec::with_capacity(256);
        let mut serializer = Serializer::new(&mut bytes)
            .with_struct_map()
            .with_bytes(BytesMode::ForceIterables);
        value.serialize(&mut serializer).map_err(|_| CodecError::Encode)?;
        Ok(bytes)
    }

    fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        rmp_serde::from_slice(bytes).map_err(|_| CodecError::Decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openmls_sqlite_storage::Codec as _;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    /// Everything that openmls' types are made of, and what looks like bytes but is not.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Value {
        bytes: Vec<u8>,
        maybe: Option<Vec<u8>>,
        array: [u8; 32],
        lists: Vec<Vec<u8>>,
        numbers: Vec<u64>,
        flags: Vec<bool>,
        options: Vec<Option<u8>>,
        pairs: Vec<(u8, Vec<u8>)>,
        map: BTreeMap<u32, Vec<u8>>,
        kinds: Vec<Kind>,
        boxed: Box<[u8]>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        One(u8),
        Bytes(Vec<u8>),
        Two(u8, u8),
        Named { a: u8, b: Vec<u8> },
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..300)
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Unit),
            any::<u8>().prop_map(Kind::One),
            bytes().prop_map(Kind::Bytes),
            any::<(u8, u8)>().prop_map(|(a, b)| Kind::Two(a, b)),
            (any::<u8>(), bytes()).prop_map(|(a, b)| Kind::Named { a, b }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            bytes in bytes(),
            array in any::<[u8; 32]>(),
            lists in prop::collection::vec(bytes(), 0..4),
            numbers in any::<Vec<u64>>(),
            options in any::<Vec<Option<u8>>>(),
            map in prop::collection::btree_map(any::<u32>(), bytes(), 0..4),
            kinds in prop::collection::vec(kinds(), 0..4),
        ) {
            let value = Value {
                maybe: lists.first().cloned(),
                flags: options.iter().map(Option::is_some).collect(),
                pairs: lists.iter().map(|list| (list.len() as u8, list.clone())).collect(),
                boxed: bytes.clone().into(),
                bytes, array, lists, numbers, options, map, kinds,
            };
            let written = Codec::to_vec(&value).unwrap();
            prop_assert_eq!(Codec::from_slice::<Value>(&written).unwrap(), value);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in bytes()) {
            let _ = Codec::from_slice::<Value>(&bytes);
        }
    }

    #[test]
    fn bytes_are_as_long_as_they_are() {
        assert!(Codec::to_vec(&vec![0xff_u8; 200]).unwrap().len() <= 202);
    }

    #[test]
    fn a_field_that_is_new_gets_its_default() {
        #[derive(Serialize)]
        struct Old {
            a: u8,
        }
        #[derive(Deserialize)]
        struct New {
            #[serde(default)]
            added: Option<u8>,
            a: u8,
        }
        let new: New = Codec::from_slice(&Codec::to_vec(&Old { a: 7 }).unwrap()).unwrap();
        assert_eq!((new.a, new.added), (7, None));
    }
}
