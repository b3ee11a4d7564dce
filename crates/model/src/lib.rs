//! A model bundle and what runs it.

pub mod manifest;
