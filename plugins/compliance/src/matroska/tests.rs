use super::*;
use proptest::prelude::*;

fn element(id: &[u8], contents: &[u8]) -> Vec<u8> {
    let size = 0x0100_0000_0000_0000 | contents.len() as u64;
    [id, &size.to_be_bytes(), contents].concat()
}

fn unknown(id: &[u8]) -> Vec<u8> {
    [id, &[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat()
}

fn header(scale: Option<u64>) -> Vec<u8> {
    let scale = scale.map(|scale| element(&[0x2a, 0xd7, 0xb1], &scale.to_be_bytes()));
    let info = element(&[0x15, 0x49, 0xa9, 0x66], &scale.unwrap_or_default());
    let tracks = element(&[0x16, 0x54, 0xae, 0x6b], b"as good as any");
    let ebml = element(&[0x1a, 0x45, 0xdf, 0xa3], b"the form");
    [ebml, unknown(&[0x18, 0x53, 0x80, 0x67]), info, tracks].concat()
}

#[derive(Debug, Clone)]
struct TestBlock {
    relative: i16,
    duration: Option<u8>,
    frame: Vec<u8>,
}

impl TestBlock {
    fn bytes(&self) -> Vec<u8> {
        let block = [&[0x81], &self.relative.to_be_bytes()[..], &[0x80], &self.frame].concat();
        match self.duration {
            None => element(&[0xa3], &block),
            Some(ticks) => element(
                &[0xa0],
                &[element(&[0x9b], &[ticks]), element(&[0xa1], &block)].concat(),
            ),
        }
    }
}

#[derive(Debug, Clone)]
struct TestCluster {
    time: u32,
    known: bool,
    blocks: Vec<TestBlock>,
}

impl TestCluster {
    fn bytes(&self) -> Vec<u8> {
        let mut contents = element(&[0xe7], &self.time.to_be_bytes());
        contents.extend(element(&[0xab], &[7, 7]));
        contents.extend(self.blocks.iter().flat_map(TestBlock::bytes));
        const ID: [u8; 4] = [0x1f, 0x43, 0xb6, 0x75];
        if self.known {
            element(&ID, &contents)
        } else {
            [unknown(&ID), contents].concat()
        }
    }

    fn times(&self, scale: u64) -> Vec<u64> {
        let time = |block: &TestBlock| {
            let ticks = i64::from(self.time) + i64::from(block.relative);
            ticks.max(0) as u64 * scale
        };
        self.blocks.iter().map(time).collect()
    }
}

fn test_block() -> impl Strategy<Value = TestBlock> {
    let frame = prop::collection::vec(any::<u8>(), 0..40);
    (any::<i16>(), any::<Option<u8>>(), frame).prop_map(|(relative, duration, frame)| TestBlock {
        relative,
        duration,
        frame,
    })
}

fn test_cluster() -> impl Strategy<Value = TestCluster> {
    let blocks = prop::collection::vec(test_block(), 0..5);
    (any::<u32>(), any::<bool>(), blocks).prop_map(|(time, known, blocks)| TestCluster {
        time,
        known,
        blocks,
    })
}

fn stream(clusters: &[TestCluster]) -> Vec<u8> {
    let mut stream = header(Some(1_000_000));
    stream.extend(clusters.iter().flat_map(TestCluster::bytes));
    stream
}

/// All pieces of a stream that comes in parts of these sizes, again and again; with the last one cut off.
fn cut(stream: &[u8], sizes: &[usize]) -> Result<Vec<Piece>, MatroskaError> {
    let mut cutter = Cutter::new();
    let mut pieces = Vec::new();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        let (part, behind) = rest.split_at((*size).min(rest.len()));
        pieces.extend(cutter.push(part)?);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    pieces.extend(cutter.cut()?.map(Piece::Cluster));
    Ok(pieces)
}

fn bytes(piece: &Piece) -> &[u8] {
    match piece {
        Piece::Header(bytes) => bytes,
        Piece::Cluster(cluster) => &cluster.bytes,
    }
}

proptest! {
    #[test]
    fn pieces_are_the_stream_however_it_comes(
        clusters in prop::collection::vec(test_cluster(), 1..6),
        sizes in prop::collection::vec(1usize..60, 1..6),
    ) {
        let stream = stream(&clusters);
        let pieces = cut(&stream, &sizes).unwrap();
        prop_assert_eq!(&pieces, &cut(&stream, &[stream.len()]).unwrap());
        let together: Vec<u8> = pieces.iter().flat_map(|piece| bytes(piece).to_vec()).collect();
        prop_assert_eq!(together, stream);
        prop_assert_eq!(pieces.len(), clusters.len() + 1);
        for (piece, cluster) in pieces[1..].iter().zip(&clusters) {
            let Piece::Cluster(found) = piece else { panic!("two headers") };
            let times = cluster.times(1_000_000);
            let own = u64::from(cluster.time) * 1_000_000;
            prop_assert_eq!(found.first_ns, times.iter().copied().min().unwrap_or(own));
            prop_assert_eq!(found.last_ns, times.iter().copied().max().unwrap_or(own));
            prop_assert_eq!(found.blocks as usize, times.len());
        }
    }

    #[test]
    fn blocks_come_back_with_their_times(clusters in prop::collection::vec(test_cluster(), 0..4)) {
        let bytes: Vec<u8> = clusters.iter().flat_map(TestCluster::bytes).collect();
        let found = blocks(&bytes, 1_000).unwrap();
        let times: Vec<u64> = clusters.iter().flat_map(|cluster| cluster.times(1_000)).collect();
        prop_assert_eq!(found.iter().map(|block| block.time_ns).collect::<Vec<_>>(), times);
        for (found, sent) in found.iter().zip(clusters.iter().flat_map(|cluster| &cluster.blocks)) {
            prop_assert_eq!(found.frame, &sent.frame[..]);
            prop_assert_eq!(found.duration_ns, sent.duration.map(|ticks| u64::from(ticks) * 1_000));
            prop_assert_eq!((found.track, found.keyframe, found.invisible), (1, true, false));
        }
    }

    #[test]
    fn garbage_is_an_error_or_waits_for_more(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut cutter = Cutter::new();
        if let Err(error) = cutter.push(&bytes) {
            prop_assert_eq!(cutter.push(b"more"), Err(error));
            prop_assert_eq!(cutter.pending(), 0);
        }
        let _ = blocks(&bytes, 1);
    }
}

fn one_second() -> Vec<u8> {
    let block = |relative| TestBlock {
        relative,
        duration: (relative == 40).then_some(40),
        frame: b"frame".to_vec(),
    };
    let clusters = [0, 40].map(|time| TestCluster {
        time,
        known: time == 40,
        blocks: vec![block(0), block(40)],
    });
    stream(&clusters)
}

#[test]
fn any_flipped_bit_or_end_is_borne() {
    let stream = one_second();
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut flipped = stream.clone();
            flipped[at] ^= 1 << bit;
            if let Ok(pieces) = cut(&flipped, &[stream.len()]) {
                let together: Vec<u8> = pieces.iter().flat_map(|piece| bytes(piece).to_vec()).collect();
                assert_eq!(together, flipped, "byte {at}, bit {bit}");
            }
            let _ = blocks(&flipped, 1);
        }
        let mut cutter = Cutter::new();
        cutter.push(&stream[..at]).unwrap();
        let _ = cutter.cut();
    }
}

#[test]
fn a_cluster_can_be_cut_between_two_blocks_and_a_cluster_must_follow() {
    let blocks = |frames: &[&[u8]]| {
        let block = |frame: &&[u8]| TestBlock {
            relative: 5,
            duration: None,
            frame: frame.to_vec(),
        };
        TestCluster {
            time: 100,
            known: false,
            blocks: frames.iter().map(block).collect(),
        }
    };
    let mut cutter = Cutter::new();
    assert_eq!(cutter.cut(), Ok(None));
    let first = blocks(&[b"one", b"two"]);
    assert_eq!(
        cutter.push(&stream(std::slice::from_ref(&first))).unwrap().len(),
        1
    );
    let cluster = cutter.cut().unwrap().unwrap();
    assert_eq!(cluster.bytes, first.bytes());
    assert_eq!(
        (cluster.first_ns, cluster.last_ns, cluster.blocks),
        (105_000_000, 105_000_000, 2)
    );
    assert_eq!(cutter.cut(), Ok(None));
    let second = blocks(&[b"three"]);
    assert_eq!(cutter.push(&second.bytes()), Ok(vec![]));
    assert_eq!(cutter.cut().unwrap().unwrap().bytes, second.bytes());
    let block = TestBlock {
        relative: 0,
        duration: None,
        frame: vec![],
    };
    let error = cutter.push(&block.bytes()).unwrap_err();
    assert!(
        matches!(error, MatroskaError::Misplaced { id: 0xa3, .. }),
        "{error}"
    );
}

#[test]
fn there_is_no_cut_within_an_element() {
    let stream = one_second();
    let mut cutter = Cutter::new();
    for byte in &stream[..stream.len() - 1] {
        cutter.push(&[*byte]).unwrap();
    }
    let error = cutter.cut().unwrap_err();
    assert!(matches!(error, MatroskaError::Unfinished { .. }), "{error}");
    cutter.push(&stream[stream.len() - 1..]).unwrap();
    assert!(cutter.cut().unwrap().is_some());
}

#[test]
fn the_header_says_how_long_a_tick_is() {
    let cluster = TestCluster {
        time: 3,
        known: false,
        blocks: vec![],
    };
    for (scale, first_ns) in [(None, 3_000_000), (Some(1), 3), (Some(1_000), 3_000)] {
        let mut cutter = Cutter::new();
        cutter.push(&header(scale)).unwrap();
        cutter.push(&cluster.bytes()).unwrap();
        assert_eq!(cutter.cut().unwrap().unwrap().first_ns, first_ns);
    }
    let error = Cutter::new().push(&header(Some(0))).unwrap_err();
    assert!(
        matches!(error, MatroskaError::BadContents { id: 0x1549_a966, .. }),
        "{error}"
    );
}

#[test]
fn sizes_are_judged_before_anything_is_kept() {
    let claim = |id: &[u8], size: u64| [id, &(0x0100_0000_0000_0000 | size).to_be_bytes()].concat();
    let too_large = |before: &[u8], id: &[u8], size: usize| {
        let mut cutter = Cutter::new();
        cutter.push(before).unwrap();
        let error = cutter.push(&claim(id, size as u64)).unwrap_err();
        assert!(matches!(error, MatroskaError::TooLarge { .. }), "{error}");
    };
    too_large(b"", &[0x1a, 0x45, 0xdf, 0xa3], MAX_HEADER);
    too_large(&header(None), &[0x12, 0x54, 0xc3, 0x67], MAX_HEADER);
    too_large(&header(None), &[0x1f, 0x43, 0xb6, 0x75], MAX_CLUSTER);
    let in_cluster = [header(None), unknown(&[0x1f, 0x43, 0xb6, 0x75])].concat();
    too_large(&in_cluster, &[0xa3], MAX_CLUSTER);
    let in_small_cluster = [header(None), claim(&[0x1f, 0x43, 0xb6, 0x75], 40)].concat();
    too_large(&in_small_cluster, &[0xec], 40);
}

#[test]
fn a_block_needs_the_time_of_its_cluster() {
    let block = element(&[0xa3], &[0x81, 0, 0, 0x80]);
    let stream = [header(None), unknown(&[0x1f, 0x43, 0xb6, 0x75]), block.clone()].concat();
    let error = Cutter::new().push(&stream).unwrap_err();
    assert!(
        matches!(error, MatroskaError::BadContents { id: 0xa3, .. }),
        "{error}"
    );
    assert!(blocks(&block, 1).is_err());
}

#[test]
fn frames_that_share_a_block_are_refused() {
    let time = element(&[0xe7], &[0]);
    for flags in [0x02, 0x04, 0x06] {
        let block = element(&[0xa3], &[0x81, 0, 0, flags, 1, 2, 3]);
        assert!(blocks(&[time.clone(), block].concat(), 1).is_err());
    }
}
