//! One fuzz target: the first byte says in which pieces the others come.

#[path = "../../tests/it/survive.rs"]
#[expect(dead_code, reason = "each target uses a part of what the tests use")]
pub mod survive;

/// Splits an input of libFuzzer into the size of the pieces and the bytes.
pub fn pieces(input: &[u8]) -> Option<(usize, &[u8])> {
    let (piece, bytes) = input.split_first()?;
    Some((usize::from(*piece).max(1), bytes))
}
