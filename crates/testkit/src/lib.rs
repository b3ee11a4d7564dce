//! What tests need and programs do not: real tools, videos of every bad kind, a store that fails when told to, an S3
//! server and a door before it that fails likewise, and the program under test as a process that can be killed.
//!
//! Nothing here sleeps in place of a condition; each wait has a deadline and says what it waited for.

pub mod bundles;
pub mod error;
pub mod faulty;
pub mod footage;
pub mod hostile;
pub mod lake;
pub mod poison;
pub mod program;
pub mod proxy;
pub mod released;
pub mod s3;
pub mod stand_in;
pub mod timing;
pub mod tools;
pub mod whisper;

pub use error::{Error, Result};
pub use faulty::{Fault, FaultyStore, Gate, Operation, Rule, When};
pub use hostile::{Hostile, Readable};
pub use program::{Finished, Program, Running};
pub use proxy::FaultProxy;
pub use s3::S3Server;
pub use tools::{Tools, tools};

/// The next number of a fixed pseudo-random sequence (`SplitMix64`), the same on every machine and in every version.
///
/// Chain it (`seed = scrambled(seed)`) for a sequence.
#[must_use]
pub fn scrambled(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
