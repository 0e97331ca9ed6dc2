//! Elements of EBML (RFC 8794): ids, sizes, numbers.

/// Ids, their marker bits included (RFC 9559 §5.1).
pub mod id {
    pub const EBML: u32 = 0x1A45_DFA3;
    pub const SEGMENT: u32 = 0x1853_8067;
    pub const INFO: u32 = 0x1549_A966;
    pub const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
    pub const CLUSTER: u32 = 0x1F43_B675;
    pub const TIMESTAMP: u32 = 0xE7;
    pub const SIMPLE_BLOCK: u32 = 0xA3;
    pub const BLOCK_GROUP: u32 = 0xA0;
    pub const BLOCK: u32 = 0xA1;
    pub const BLOCK_DURATION: u32 = 0x9B;
    pub const REFERENCE_BLOCK: u32 = 0xFB;
    pub const POSITION: u32 = 0xA7;
    pub const PREV_SIZE: u32 = 0xAB;
    pub const VOID: u32 = 0xEC;
    pub const CRC_32: u32 = 0xBF;

    /// What else stands in a Segment beside its Clusters.
    pub const BESIDE_CLUSTERS: [u32; 9] = [
        INFO,
        0x114D_9B74, // SeekHead
        0x1654_AE6B, // Tracks
        0x1254_C367, // Tags
        0x1C53_BB6B, // Cues
        0x1043_A770, // Chapters
        0x1941_A469, // Attachments
        VOID,
        CRC_32,
    ];

    /// What else stands in a Cluster beside its blocks and its time.
    pub const BESIDE_BLOCKS: [u32; 4] = [POSITION, PREV_SIZE, VOID, CRC_32];
}

/// Id, size and length of an element's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Id with its marker bits.
    pub id: u32,
    /// Bytes of the contents; `None`: not known (RFC 8794 §6.2).
    pub size: Option<u64>,
    /// Bytes of id and size.
    pub len: usize,
}

/// What the first bytes of an element tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// All that they can.
    Head(Head),
    /// More bytes are needed.
    NeedMore,
    /// No element begins so.
    NoElement,
}

/// Reads id and size of the element that begins `bytes`.
pub fn head(bytes: &[u8]) -> Read {
    let Some((id, id_len)) = (match vint_len(bytes, 4) {
        Err(read) => return read,
        Ok(len) => u32::try_from(number(&bytes[..len])).ok().map(|id| (id, len)),
    }) else {
        return Read::NoElement;
    };
    let rest = &bytes[id_len..];
    match vint_len(rest, 8) {
        Err(read) => read,
        Ok(len) => Read::Head(Head {
            id,
            size: vint(&rest[..len]),
            len: id_len + len,
        }),
    }
}

/// Length of the variable-size integer that begins `bytes`, all of which are there.
fn vint_len(bytes: &[u8], max: usize) -> Result<usize, Read> {
    let first = *bytes.first().ok_or(Read::NeedMore)?;
    let len = first.leading_zeros() as usize + 1;
    if len > max {
        return Err(Read::NoElement);
    }
    if bytes.len() < len {
        Err(Read::NeedMore)
    } else {
        Ok(len)
    }
}

/// Value of a variable-size integer; `None` where all its bits are set, which means that it is not known.
fn vint(bytes: &[u8]) -> Option<u64> {
    let bits = 7 * bytes.len() as u32;
    let mask = (1u64 << bits) - 1;
    let value = number(bytes) & mask;
    (value != mask).then_some(value)
}

/// The unsigned integer with these bytes, at most 8 (RFC 8794 §7.2); more than that count as their last 8.
pub fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Track, time relative to the Cluster and flags of a block; the length of what stands in front of its frame
/// (RFC 9559 §10). `None`: no block begins so.
pub fn block(bytes: &[u8]) -> Option<(u64, i16, u8, usize)> {
    let len = vint_len(bytes, 8).ok()?;
    let track = vint(&bytes[..len])?;
    let [high, low, flags] = *bytes.get(len..)?.first_chunk()?;
    Some((track, i16::from_be_bytes([high, low]), flags, len + 3))
}

/// The elements that `contents` is made of; an item is `None` where something else follows.
pub fn children(contents: &[u8]) -> impl Iterator<Item = Option<(u32, &[u8])>> {
    let mut rest = Some(contents);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|rest| !rest.is_empty())?;
        let Read::Head(Head {
            id,
            size: Some(size),
            len,
        }) = head(bytes)
        else {
            return Some(None);
        };
        let end = usize::try_from(size).ok().and_then(|size| size.checked_add(len));
        let Some((child, behind)) = end.and_then(|end| bytes.split_at_checked(end)) else {
            return Some(None);
        };
        rest = Some(behind);
        Some(Some((id, &child[len..])))
    })
}
