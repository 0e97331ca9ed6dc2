//! Matroska written by hand, for tests.

fn element(id: u32, contents: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let start = id.iter().position(|byte| *byte != 0).unwrap();
    let size = (contents.len() as u64 | 1 << 56).to_be_bytes();
    [&id[start..], &size, contents].concat()
}

fn number(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// What stands in front of the first Cluster.
pub fn header(scale: u64, private: &[u8], delay: u64, duration: u64) -> Vec<u8> {
    let entry = [
        element(0xD7, &[1]),
        element(0x63A2, private),
        element(0x56AA, &number(delay)),
        element(0x23_E383, &number(duration)),
    ]
    .concat();
    [
        element(0x1A45_DFA3, b""),
        // A Segment of unknown size.
        vec![
            0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
        element(0x1549_A966, &element(0x2A_D7B1, &number(scale))),
        element(0x1654_AE6B, &element(0xAE, &entry)),
    ]
    .concat()
}

/// A block at a time relative to its Cluster.
pub fn block(relative: i16, keyframe: bool, frame: &[u8]) -> Vec<u8> {
    let mut contents = vec![0x81];
    contents.extend(relative.to_be_bytes());
    contents.push(if keyframe { 0x80 } else { 0 });
    contents.extend(frame);
    element(0xA3, &contents)
}

/// A Cluster.
pub fn cluster(time: u64, blocks: &[Vec<u8>]) -> Vec<u8> {
    element(
        0x1F43_B675,
        &[element(0xE7, &number(time)), blocks.concat()].concat(),
    )
}
