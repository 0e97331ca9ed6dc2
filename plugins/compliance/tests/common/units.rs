//! The NAL units of H.264 and H.265.

/// The NAL units of an access unit with start codes.
pub fn by_start_codes(unit: &[u8]) -> Vec<Vec<u8>> {
    let mut units = Vec::new();
    let mut begin = None;
    let mut at = 0;
    while at + 3 <= unit.len() {
        if unit[at..at + 3] == [0, 0, 1] {
            units.extend(begin.map(|begin| unit[begin..at].to_vec()));
            begin = Some(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    units.extend(begin.map(|begin: usize| unit[begin..].to_vec()));
    for unit in &mut units {
        while unit.last() == Some(&0) {
            unit.pop();
        }
    }
    units
}

/// The NAL units of an access unit with lengths of four bytes.
pub fn by_lengths(mut unit: &[u8]) -> Vec<Vec<u8>> {
    let mut units = Vec::new();
    while let Some((length, rest)) = unit.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        units.push(nal.to_vec());
        unit = rest;
    }
    units
}
