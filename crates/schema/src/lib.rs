//! The words that every room shares: videos, spans, transcripts, events, outcomes, shards, and the
//! Arrow schemas of the published tables.
//!
//! Plain data only: no I/O, no async, no clock. What makes or moves these values lives elsewhere.

mod event;
mod feedback;
mod outcome;
mod shard;
mod span;
pub mod tables;
mod transcript;
mod video;

pub use event::{Event, EventSource, event_id};
pub use feedback::{Feedback, Verdict};
pub use outcome::{Costs, Failure, MediaFacts, Outcome, Provenance, Stage, Status};
pub use shard::{Heard, Shard, Stretch, WorkItem};
pub use span::TimeSpan;
pub use transcript::{Cue, Transcript, TranscriptSource};
pub use video::{Sidecar, SidecarFormat, Video, video_id};
