//! A sentence bundle on disk: opened, checked, named by its digest.

use std::collections::BTreeMap;

use crate::{
    bundle::{BundleManifest, BundleOf, require},
    error::Result,
    sentence::manifest::{FORMAT_VERSION, SentenceManifest, files},
};

/// A bundle of a text encoder, `sentence.json`.
pub type SentenceBundle = BundleOf<SentenceManifest>;

impl BundleManifest for SentenceManifest {
    const FILE: &'static str = files::MANIFEST;
    const FORMAT_VERSION: u32 = FORMAT_VERSION;
    const REQUIRED: &'static [&'static str] = &[files::ENCODER, files::WEIGHTS, files::TOKENIZER];
    const KIND: &'static str = "eventide-sentence 1";

    fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    fn bare(&self) -> Self {
        Self { files: BTreeMap::new(), ..self.clone() }
    }

    fn validate(&self) -> Result<()> {
        validate_sizes(self)
    }
}

fn validate_sizes(manifest: &SentenceManifest) -> Result<()> {
    let sizes = &manifest.bert;
    let counts = [
        ("bert.width", sizes.width),
        ("bert.layers", sizes.layers),
        ("bert.heads", sizes.heads),
        ("bert.mlp", sizes.mlp),
        ("bert.positions", sizes.positions),
        ("bert.types", sizes.types),
        ("bert.vocab_size", sizes.vocab_size),
    ];
    for (field, count) in counts {
        require(count > 0, field, || "it is 0".to_owned())?;
    }
    require(sizes.width.is_multiple_of(sizes.heads), "bert.heads", || {
        format!("`{}` does not divide the width of `{}`", sizes.heads, sizes.width)
    })?;
    let most = manifest.most_tokens;
    require((3..=sizes.positions).contains(&most), "most_tokens", || {
        format!("`{most}` is not from 3 to the {} positions", sizes.positions)
    })?;
    let eps = sizes.layer_norm_eps;
    require(eps > 0.0 && eps.is_finite(), "bert.layer_norm_eps", || {
        format!("`{eps}` is not positive")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::Precision, sentence::Bert};
    use rstest::rstest;

    fn manifest() -> SentenceManifest {
        SentenceManifest {
            format_version: FORMAT_VERSION,
            model_id: "tiny".to_owned(),
            licence: "MIT".to_owned(),
            provenance: "a test".to_owned(),
            precision: Precision::Fp32,
            bert: Bert {
                width: 8,
                layers: 1,
                heads: 2,
                mlp: 16,
                positions: 32,
                types: 2,
                vocab_size: 10,
                layer_norm_eps: 1e-12,
            },
            most_tokens: 32,
            files: BTreeMap::new(),
        }
    }

    #[rstest]
    #[case::heads(|it: &mut SentenceManifest| it.bert.heads = 3, "bert.heads")]
    #[case::no_layer(|it: &mut SentenceManifest| it.bert.layers = 0, "bert.layers")]
    #[case::too_long(|it: &mut SentenceManifest| it.most_tokens = 33, "most_tokens")]
    #[case::eps(|it: &mut SentenceManifest| it.bert.layer_norm_eps = 0.0, "layer_norm_eps")]
    fn sizes_must_fit(#[case] change: fn(&mut SentenceManifest), #[case] field: &str) {
        let mut manifest = manifest();
        manifest.validate().unwrap();
        change(&mut manifest);
        let error = manifest.validate().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}
