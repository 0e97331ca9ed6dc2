//! A recording's Matroska: its muxer's stream on the way into members, and members on the way out.

use super::Seen;
use super::input::Input;
use super::memory;
use gstcompliance::matroska::{Cluster, Cutter, Header, MatroskaError, Piece, blocks};

/// What is kept beside the stream's own bytes: pieces, and room that vectors take in advance.
const SLACK: isize = 16 << 10;

/// Pushes the stream in parts of at most so many bytes, and cuts its last Cluster off; all pieces, and the error that
/// ended it.
fn cut(stream: &[u8], part: usize) -> (Cutter, Vec<Piece>, Option<MatroskaError>) {
    let mut cutter = Cutter::new();
    let mut pieces = Vec::new();
    for part in stream.chunks(part) {
        match cutter.push(part) {
            Ok(made) => pieces.extend(made),
            Err(error) => {
                assert_eq!(cutter.push(b"more"), Err(error), "it goes on after an error");
                return (cutter, pieces, Some(error));
            }
        }
    }
    match cutter.cut() {
        Ok(cluster) => pieces.extend(cluster.map(Piece::Cluster)),
        Err(error) => return (cutter, pieces, Some(error)),
    }
    (cutter, pieces, None)
}

fn bytes(piece: &Piece) -> &[u8] {
    match piece {
        Piece::Header(bytes) => bytes,
        Piece::Cluster(cluster) => &cluster.bytes,
    }
}

/// The blocks of a Cluster are those that the cutter counted, and lie where it says.
fn look_at(cluster: &Cluster, scale: u64, seen: &mut Seen) {
    assert!(cluster.first_ns <= cluster.last_ns);
    let Ok(blocks) = blocks(&cluster.bytes, scale) else {
        // Several frames in a block are no error for who only cuts.
        seen.insert("refused blocks");
        return;
    };
    assert_eq!(blocks.len(), cluster.blocks as usize);
    let times = || blocks.iter().map(|block| block.time_ns);
    if let (Some(first), Some(last)) = (times().min(), times().max()) {
        assert_eq!((first, last), (cluster.first_ns, cluster.last_ns));
        seen.insert("blocks");
    }
    if blocks.iter().any(|block| block.duration_ns.is_some()) {
        seen.insert("duration");
    }
    if blocks.iter().any(|block| !block.keyframe) {
        seen.insert("delta");
    }
}

/// The bytes are how they come, and a stream.
pub fn run(bytes_in: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut input = Input(bytes_in);
    let part = usize::from(input.u8()).max(1);
    let stream = input.0;
    let before = memory::live();
    let (cutter, pieces, failed) = cut(stream, part);
    let kept = memory::live() - before;
    assert!(kept <= 4 * stream.len() as isize + SLACK, "{kept} bytes are kept");

    let together: Vec<u8> = pieces.iter().flat_map(|piece| bytes(piece).to_vec()).collect();
    assert!(stream.starts_with(&together), "the pieces are not the stream");
    match failed {
        None => assert_eq!(together.len() + cutter.pending(), stream.len()),
        Some(MatroskaError::Unfinished { .. }) => drop(seen.insert("unfinished")),
        Some(_) => drop(seen.insert("refused")),
    }
    // However it comes it is the same.
    let (_, at_once, error) = cut(stream, stream.len().max(1));
    assert_eq!(error, failed);
    assert!(failed.is_some() || at_once == pieces);

    for piece in &pieces {
        match piece {
            Piece::Header(_) => drop(seen.insert("header")),
            Piece::Cluster(cluster) => {
                seen.insert("cluster");
                look_at(cluster, cutter.scale(), &mut seen);
            }
        }
    }
    // The reader of a member: whatever it says of the header is what the cutter saw.
    if let Some(header) = Header::read(stream) {
        assert!(header.len <= stream.len());
        if let Some(Piece::Header(made)) = pieces.first() {
            assert_eq!((header.len, header.scale), (made.len(), cutter.scale()));
            seen.insert("read header");
        }
        let _ = blocks(&stream[header.len..], header.scale);
    }
    let _ = blocks(stream, cutter.scale());
    seen
}
