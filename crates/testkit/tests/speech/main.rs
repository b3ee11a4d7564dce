//! Real Whispers, against what another program says of the same weights and the same sound.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod network;
mod recognition;
mod sound;
