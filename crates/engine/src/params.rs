//! The digest of every parameter that can change a row.

use eventide_pipeline::{CaptioningOptions, TranscriptOption};
use sha2::{Digest, Sha256};

/// Raised whenever the program itself would give other rows for the same parameters.
const RULES_VERSION: u32 = 2;

/// 16 hexadecimal digits that stand for the parameters. Limits are not among them: they decide
/// whether a video gets rows, never which. `speech_digest` stands for the recogniser, where words may
/// come from one.
#[must_use]
pub fn params_digest(
    captioning: &CaptioningOptions,
    transcripts: &[TranscriptOption],
    speech_digest: Option<&str>,
) -> String {
    let mut parameters = serde_json::json!([RULES_VERSION, captioning, transcripts]);
    if let (Some(digest), Some(parameters)) = (speech_digest, parameters.as_array_mut()) {
        parameters.push(digest.into()); // what is not heard has the digest that it always had
    }
    let text = parameters.to_string();
    let mut digits = format!("{:x}", Sha256::digest(text.as_bytes()));
    digits.truncate(16);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventide_pipeline::{CaptioningSource, WindowOption};
    use std::time::Duration;

    #[test]
    fn changes_with_what_changes_rows() {
        let plain = CaptioningOptions::default();
        let speech =
            CaptioningOptions { source: CaptioningSource::Speech, ..CaptioningOptions::default() };
        let windowed = CaptioningOptions {
            window: WindowOption::Length(Duration::from_mins(5)),
            ..CaptioningOptions::default()
        };
        let both = [TranscriptOption::Sidecar, TranscriptOption::Embedded];
        let mut digests: Vec<_> =
            [&plain, &speech, &windowed].map(|options| params_digest(options, &both, None)).into();
        digests.push(params_digest(&plain, &both[..1], None));
        digests.push(params_digest(&plain, &both, Some("one")));
        digests.push(params_digest(&plain, &both, Some("other")));
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 6);
        let again = params_digest(&plain.clone(), &both, None);
        assert_eq!(params_digest(&plain, &both, None), again);
    }
}
