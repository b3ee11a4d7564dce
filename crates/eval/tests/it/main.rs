//! The figures of the reference programs, from `tests/data/golden/eval`.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod bad_input;
mod clips;
mod figures;
mod forms;
mod golden;
mod hand_made;
mod support;
