//! What the tests of several modules need.

use eventide_catalog::CorpusOptions;
use eventide_pipeline::{CaptioningOptions, LimitOptions, TranscriptOption};
use eventide_schema::Provenance;

use crate::{CaptionOptions, How, IndexOptions, Marks, ShardOptions};

/// Options of a table of captions.
pub(crate) fn caption_options() -> CaptionOptions {
    CaptionOptions {
        corpus: CorpusOptions { uri: "s3://videos".to_owned(), ..CorpusOptions::default() },
        how: index_options().how,
        shards: ShardOptions { bytes: 7, videos: 3, split_bytes: 9 },
        marks: Some(Marks { tables: "s3://lake/tables".to_owned(), query: "q".to_owned() }),
    }
}

/// Options of an operator that makes events of what is said.
pub(crate) fn index_options() -> IndexOptions {
    IndexOptions {
        how: How {
            transcripts: vec![TranscriptOption::Sidecar],
            captioning: CaptioningOptions::default(),
            limits: LimitOptions::default(),
            model: None,
            speech: None,
        },
        tables: "s3://lake/tables".to_owned(),
        plan: "p".to_owned(),
        provenance: Provenance {
            model_id: "tiny".to_owned(),
            model_digest: "m".to_owned(),
            params_digest: "p".to_owned(),
            speech_model_digest: "none".to_owned(),
            speech_digest: "none".to_owned(),
            run_id: "r".to_owned(),
            indexed_at_ms: 1,
            worker: String::new(),
            pipeline_version: "0".to_owned(),
        },
        shard_deadline: None,
    }
}
