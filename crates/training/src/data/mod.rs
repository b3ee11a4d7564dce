//! What there is to learn from: videos with what is said in them and what happens, as files have them, as a lake has
//! them, and as numbers.
//!
//! An [`Example`] comes from files of [`annotations`] and a [`folder`] of videos, from rows of a lake, or is
//! [`drawn`]. Its visual
//! [`features`] are computed once and kept in a [`cache`]; [`crop`] makes parts of examples, [`select`] a share of a data
//! set, and [`batch`] the token ids and arrays that a trainer takes. Knows no trainer and no tables.

pub mod annotations;
pub mod batch;
pub mod cache;
pub mod crop;
pub mod drawn;
pub mod features;
pub mod folder;
pub mod pictures;
pub mod select;

mod elsewhere;
mod error;
mod example;

pub use elsewhere::Elsewhere;
pub use error::{Error, Fault, Result};
pub use example::{Example, Mark, OVERRUN_US};
