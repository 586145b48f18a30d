//! What is appended is read back; what is touched is named.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::ident::SessionId;
use weir_model::time::Now;

use super::*;
use crate::lane::{Lane, LaneStart, SegmentFile, SegmentId, SpoolError};

/// The segments of one lane, one after the other; `bytes` is the one that is written.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    ended: Vec<Vec<u8>>,
    /// Bytes of all segments together.
    room: Option<usize>,
    /// Beginning a segment fails so often.
    refuse_next: usize,
}

impl Memory {
    fn used(&self) -> usize {
        self.bytes.len() + self.ended.iter().map(Vec::len).sum::<usize>()
    }
}

impl SegmentFile for &mut Memory {
    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        if self
            .room
            .is_some_and(|room| self.used() + bytes.len() > room)
        {
            return Err(SpoolError::Full);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }

    fn next(&mut self, _id: SegmentId, header: &[u8]) -> Result<(), SpoolError> {
        if self.refuse_next > 0 {
            self.refuse_next -= 1;
            return Err(SpoolError::Full);
        }
        let ended = std::mem::replace(&mut self.bytes, header.to_vec());
        self.ended.push(ended);
        Ok(())
    }
}

const NOW: Now = Now {
    mono_us: 0,
    wall_us: 1_800_000_000_000_000,
};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn start() -> LaneStart {
    LaneStart {
        node: 1,
        epoch: 2,
        lane: 0,
        key: Arc::new(key()),
        segment_bytes: 1 << 20,
    }
}

fn fact(session: u128, seq: u32, statement: &str) -> Fact {
    let context = Arc::new(FactContext {
        session_id: session,
        ..FactContext::default()
    });
    let mut fact = Fact::new(context, FactKind::Request, seq, NOW.wall_us);
    fact.statement = Arc::from(statement);
    fact
}

/// Three blocks of two facts, sealed.
fn sealed() -> Vec<u8> {
    let mut memory = Memory::default();
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    for block in 0..3_u32 {
        lane.push(&fact(9, block * 2 + 1, "select 1")).unwrap();
        lane.push(&fact(9, block * 2 + 2, "select 2")).unwrap();
        lane.commit(NOW).unwrap();
    }
    lane.close(NOW).unwrap();
    memory.bytes
}

fn verify(bytes: &[u8]) -> Result<Verified, ReadError> {
    verify_segment(bytes, &key().verifying_key())
}

#[test]
fn what_is_committed_is_read_back_and_verified() {
    let verified = verify(&sealed()).unwrap();
    assert_eq!((verified.facts, verified.sealed), (6, true));
}

#[test]
fn receipts_cover_what_was_committed_and_nothing_else() {
    let mut memory = Memory::default();
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    lane.push(&fact(9, 1, "a")).unwrap();
    lane.push(&fact(8, 1, "b")).unwrap();
    lane.push(&fact(9, 2, "c")).unwrap();
    let receipts = lane.commit(NOW).unwrap();
    let of = |session| {
        *receipts
            .iter()
            .find(|r| r.session() == SessionId(session))
            .unwrap()
    };
    assert!(of(9).covers(SessionId(9), 2));
    assert!(!of(9).covers(SessionId(9), 3));
    assert!(!of(9).covers(SessionId(8), 1));
    assert!(of(8).covers(SessionId(8), 1));
    assert_eq!(lane.commit(NOW).unwrap().iter().count(), 0);
}

#[test]
fn a_gap_in_a_session_is_refused_and_leaves_no_trace() {
    let mut memory = Memory::default();
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    lane.push(&fact(9, 1, "a")).unwrap();
    let gap = lane.push(&fact(9, 3, "c")).unwrap_err();
    assert!(matches!(gap, SpoolError::Gap { last: 1, seq: 3 }));
    lane.push(&fact(9, 2, "b")).unwrap();
    lane.close(NOW).unwrap();
    assert_eq!(verify(&memory.bytes).unwrap().facts, 2);
}

#[test]
fn a_full_spool_gives_no_receipt_and_goes_on_when_there_is_room() {
    let mut memory = Memory {
        bytes: Vec::new(),
        room: Some(4600),
        ..Memory::default()
    };
    {
        let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
        lane.push(&fact(9, 1, &"x".repeat(4000))).unwrap();
        assert!(matches!(lane.commit(NOW), Err(SpoolError::Full)));
        lane.push(&fact(9, 2, "y")).unwrap();
        assert!(matches!(lane.commit(NOW), Err(SpoolError::Full)));
    }
    assert_eq!(verify(&memory.bytes).unwrap().facts, 0);
}

/// Facts of all segments, each proven to follow the one before it, the last one aside all sealed.
fn follow(memory: &Memory) -> u32 {
    let mut previous = [0; 32];
    let mut facts = 0;
    for (index, bytes) in memory.ended.iter().chain([&memory.bytes]).enumerate() {
        let verified = verify(bytes).unwrap();
        assert_eq!(verified.header.previous, previous, "segment {index}");
        assert_eq!(verified.header.number as usize, index + 1);
        assert!(verified.sealed || index == memory.ended.len());
        previous = verified.hash;
        facts += verified.facts;
    }
    facts
}

#[test]
fn a_full_segment_ends_so_that_it_can_be_freed_and_what_waited_moves_to_the_next() {
    let mut memory = Memory::default();
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    lane.push(&fact(9, 1, "a")).unwrap();
    lane.commit(NOW).unwrap();
    lane.file_mut().room = Some(0);
    lane.push(&fact(9, 2, "b")).unwrap();
    lane.push(&fact(8, 1, "c")).unwrap();
    for _again in 0..3 {
        assert!(matches!(lane.commit(NOW), Err(SpoolError::Full)));
    }
    lane.file_mut().room = None;
    let receipts = lane.commit(NOW).unwrap();
    assert_eq!(receipts.iter().count(), 2);
    lane.close(NOW).unwrap();
    // Sealed once, however often it was tried; the rows say where they lie now.
    assert_eq!((memory.ended.len(), follow(&memory)), (1, 3));
    let header = read_header(&memory.bytes).unwrap();
    let mut reader = BlockReader::new(&header);
    let Ok(Next::Block(block, _)) = reader.next(&memory.bytes[header.len..]) else {
        panic!("a block")
    };
    let rows: Vec<&[u8]> = block.rows().flatten().collect();
    for (position, row) in (1_u32..).zip(&rows) {
        let place = &row[row.len() - 24..];
        let segment = SegmentId {
            epoch: 2,
            lane: 0,
            number: 2,
        };
        assert_eq!(place[..4], 2_u32.to_le_bytes());
        assert_eq!(place[4..12], segment.packed().to_le_bytes());
        assert_eq!(place[12..16], position.to_le_bytes());
        let digest = blake3::hash(&row[..row.len() - 8]);
        assert_eq!(place[16..], digest.as_bytes()[..8]);
    }
}

#[test]
fn a_next_segment_that_cannot_be_begun_is_begun_later() {
    let mut memory = Memory {
        refuse_next: 3,
        ..Memory::default()
    };
    let later = Now {
        mono_us: NOW.mono_us + 2 * 3_600_000_000,
        ..NOW
    };
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    lane.push(&fact(9, 1, "a")).unwrap();
    // The facts are in the spool, whatever becomes of the segment.
    assert_eq!(lane.commit(later).unwrap().iter().count(), 1);
    lane.push(&fact(9, 2, "b")).unwrap();
    assert!(matches!(lane.commit(later), Err(SpoolError::Full)));
    assert!(matches!(lane.commit(later), Err(SpoolError::Full)));
    assert_eq!(lane.commit(later).unwrap().iter().count(), 1);
    lane.close(later).unwrap();
    assert_eq!((memory.ended.len(), follow(&memory)), (1, 2));
}

#[test]
fn a_lane_that_rests_is_sealed_by_age_however_the_clock_is_set() {
    let mut memory = Memory::default();
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    lane.rest(Now {
        mono_us: 9 * 3_600_000_000,
        ..NOW
    });
    lane.push(&fact(9, 1, "a")).unwrap();
    lane.commit(NOW).unwrap();
    for wall_us in [0, NOW.wall_us * 2] {
        lane.rest(Now {
            mono_us: 1,
            wall_us,
        });
    }
    let later = Now {
        mono_us: 2 * 3_600_000_000,
        wall_us: 0,
    };
    lane.rest(later);
    lane.rest(later);
    lane.push(&fact(9, 2, "b")).unwrap();
    lane.commit(later).unwrap();
    drop(lane);
    // An empty segment is never sealed, a full one only by its age on the monotonic clock.
    assert_eq!((memory.ended.len(), follow(&memory)), (1, 2));
}

#[test]
fn what_waits_for_room_has_a_limit() {
    let mut memory = Memory {
        room: Some(4600),
        ..Memory::default()
    };
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    let large = "x".repeat(8 << 20);
    let pushed = (1..100).take_while(|seq| lane.push(&fact(9, *seq, &large)).is_ok());
    assert_eq!(pushed.count(), 8);
    assert!(matches!(lane.commit(NOW), Err(SpoolError::Full)));
}

#[test]
fn every_flipped_byte_is_found() {
    let good = sealed();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(verify(&bad).is_err(), "byte {at} can be changed");
    }
}

#[test]
fn every_cut_is_found_or_is_a_clean_end_of_an_unsealed_segment() {
    let good = sealed();
    for len in 0..good.len() {
        match verify(&good[..len]) {
            Ok(verified) => assert!(!verified.sealed && verified.len == len),
            Err(ReadError::Header | ReadError::Torn { .. }) => {}
            Err(other) => panic!("cut at {len}: {other}"),
        }
    }
}

#[test]
fn deleted_and_swapped_blocks_are_named() {
    let good = sealed();
    let header = read_header(&good).unwrap();
    let mut reader = BlockReader::new(&header);
    let mut cuts = vec![header.len];
    while let Next::Block(_, len) = reader.next(&good[*cuts.last().unwrap()..]).unwrap() {
        cuts.push(cuts.last().unwrap() + len);
    }
    assert_eq!(cuts.len(), 4);
    let deleted = [&good[..cuts[1]], &good[cuts[2]..]].concat();
    assert!(matches!(
        verify(&deleted),
        Err(ReadError::Changed { first: 3, .. })
    ));
    let swapped = [
        &good[..cuts[0]],
        &good[cuts[1]..cuts[2]],
        &good[cuts[0]..cuts[1]],
        &good[cuts[2]..],
    ]
    .concat();
    assert!(matches!(
        verify(&swapped),
        Err(ReadError::Changed { first: 1, .. })
    ));
}

#[test]
fn another_key_does_not_verify() {
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    assert_eq!(
        verify_segment(&sealed(), &other).unwrap_err(),
        ReadError::Signature
    );
}
