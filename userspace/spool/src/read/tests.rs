//! What is appended is read back; what is touched is named.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::ident::SessionId;
use weir_model::time::Now;

use super::*;
use crate::lane::{Lane, LaneStart, SegmentFile, SegmentId, SpoolError};

#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    room: Option<usize>,
}

impl SegmentFile for &mut Memory {
    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        if self
            .room
            .is_some_and(|room| self.bytes.len() + bytes.len() > room)
        {
            return Err(SpoolError::Full);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }

    fn next(&mut self, _id: SegmentId) -> Result<(), SpoolError> {
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

#[test]
fn no_block_is_appended_to_a_segment_without_header() {
    let mut memory = Memory::default();
    let later = Now {
        wall_us: NOW.wall_us + 2 * 3_600_000_000,
        ..NOW
    };
    {
        let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
        lane.push(&fact(9, 1, "a")).unwrap();
        lane.commit(NOW).unwrap();
    }
    let one_block = memory.bytes.len();
    memory.bytes.clear();
    // Room for the second block and the trailer, not for a header.
    memory.room = Some(one_block + 600);
    let mut lane = Lane::open(&mut memory, start(), NOW).unwrap();
    lane.push(&fact(9, 1, "a")).unwrap();
    assert_eq!(lane.commit(later).unwrap().iter().count(), 1);
    lane.push(&fact(9, 2, "b")).unwrap();
    assert!(matches!(lane.commit(later), Err(SpoolError::Poisoned)));
    let verified = verify(&memory.bytes).unwrap();
    assert_eq!((verified.facts, verified.sealed), (1, true));
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
