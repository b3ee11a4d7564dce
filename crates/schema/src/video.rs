//! A video as the corpus lists it.

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An object of the corpus that should be indexed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Video {
    /// [`video_id`] of `uri`.
    pub video_id: String,
    /// Where the bytes are, such as `s3://bucket/a.mp4` or `file:///videos/a.mp4`.
    pub uri: String,
    /// Changes whenever the bytes do, or those of a side-car.
    pub source_version: String,
    /// Size of the object in bytes.
    pub size_bytes: u64,
    /// Milliseconds since 1970 (UTC) at which the store says the object was last written.
    pub last_modified_ms: i64,
    /// The subtitle files that lie beside the video under the same stem, in the order in which they
    /// are tried: at most one a format.
    pub sidecars: Vec<Sidecar>,
}

/// A subtitle file beside a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Where the file is.
    pub uri: String,
    /// How to read it.
    pub format: SidecarFormat,
    /// Language in the file's name, as `en` in `talk.en.vtt`.
    pub language: Option<String>,
}

/// The kinds of subtitle file that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SidecarFormat {
    /// WebVTT.
    Vtt,
    /// SubRip.
    Srt,
    /// The JSON that Whisper and WhisperX write: `{"segments": [{"start", "end", "text"}]}`.
    Json,
}

impl SidecarFormat {
    /// The format that a file extension stands for, without its dot and in any case.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "vtt" => Some(Self::Vtt),
            "srt" => Some(Self::Srt),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The name of a video in every table: lower-case base32 of the first 15 bytes of the SHA-256 of
/// its URI, so 24 characters of `[a-z2-7]`.
#[must_use]
pub fn video_id(uri: &str) -> String {
    short_hash(uri.as_bytes())
}

/// 24 characters of `[a-z2-7]` that stand for `bytes`.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(&Sha256::digest(bytes)[..15]).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_lower_case_and_stable() {
        let id = video_id("s3://bucket/a.mp4");
        assert_eq!(id, video_id("s3://bucket/a.mp4"));
        assert_ne!(id, video_id("s3://bucket/b.mp4"));
        assert_eq!(id.len(), 24);
        assert!(id.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{id}");
    }
}
