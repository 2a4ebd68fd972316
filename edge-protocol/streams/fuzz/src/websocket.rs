//! What a client of a WebSocket says after the upgrade: masked frames, to everything that a WebSocket carries.
#![no_main]

mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((piece, bytes)) = target::pieces(input) {
        target::survive::websocket(bytes, piece);
    }
});
