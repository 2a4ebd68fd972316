//! What the peer of a command's pipe says, to both roles.
#![no_main]

mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((piece, bytes)) = target::pieces(input) {
        target::survive::pipe(bytes, piece);
    }
});
