//! Manifests of architectures with a name. They describe sizes and rules; weights are another matter.

use eventide_model::manifest::{
    Decoding, FORMAT_VERSION, FeedForward, FramePick, FrameRule, Gelu, Manifest, Normalise,
    Precision, Quantise, Scoring, T5, Temporal, TextRule, TimeTokens, Vision,
};

/// The mean of each colour that `OpenAI`'s CLIP is trained with.
pub(crate) const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// The standard deviation of each colour that `OpenAI`'s CLIP is trained with.
pub(crate) const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// A model of half a million parameters for tests and demonstrations: two layers of width 64, a
/// vocabulary of 200 pieces.
#[must_use]
pub fn tiny() -> Manifest {
    Manifest {
        vision: Vision {
            image_size: 56,
            patch: 14,
            width: 128,
            layers: 2,
            heads: 2,
            mlp: 512,
            output_dim: 64,
            ..clip()
        },
        temporal: Temporal { dim: 64, depth: 2, heads: 4, mlp: 128, ..temporal() },
        t5: T5 {
            vocab_size: 400,
            d_model: 64,
            d_kv: 16,
            heads: 4,
            d_ff: 128,
            encoder_layers: 2,
            decoder_layers: 2,
            ..t5()
        },
        time_tokens: TimeTokens { first_id: 300, ..time_tokens() },
        ..untrained("vid2seq-tiny")
    }
}

/// The sizes of the released Vid2Seq: T5-base of version 1.0 with `VidChapters`' rules, and CLIP
/// ViT-L/14 at 224 pixels.
#[must_use]
pub fn base() -> Manifest {
    untrained("vid2seq-base")
}

fn untrained(model_id: &str) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        model_id: model_id.to_owned(),
        trained: false,
        licence: "Apache-2.0".to_owned(),
        provenance: "random weights".to_owned(),
        precision: Precision::Fp32,
        vision: clip(),
        temporal: temporal(),
        t5: t5(),
        frames: FrameRule { count: 100, pick: FramePick::Floor },
        time_tokens: time_tokens(),
        text: TextRule {
            pad_id: 0,
            eos_id: 1,
            unk_id: 2,
            extra_ids: 100,
            max_input_tokens: 1000,
            normalise: Normalise::VidChapters,
        },
        decoding: Decoding {
            beams: 4,
            length_penalty: 1.0,
            max_output_tokens: 256,
            scoring: Scoring::Length,
        },
        metrics: std::collections::BTreeMap::new(),
        files: std::collections::BTreeMap::new(),
    }
}

fn clip() -> Vision {
    Vision {
        image_size: 224,
        patch: 14,
        width: 1024,
        layers: 24,
        heads: 16,
        mlp: 4096,
        output_dim: 768,
        layer_norm_eps: 1e-5,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        std_eps: 1e-8,
    }
}

fn temporal() -> Temporal {
    Temporal {
        dim: 768,
        depth: 12,
        heads: 12,
        mlp: 2048,
        positions: 100,
        layer_norm_eps: 1e-5,
        activation: Gelu::Erf,
        projection: false,
    }
}

fn t5() -> T5 {
    T5 {
        vocab_size: 32_200,
        d_model: 768,
        d_kv: 64,
        heads: 12,
        d_ff: 3072,
        encoder_layers: 12,
        decoder_layers: 12,
        relative_buckets: 32,
        relative_max_distance: 128,
        layer_norm_eps: 1e-6,
        feed_forward: FeedForward::Relu,
        tied: true,
    }
}

fn time_tokens() -> TimeTokens {
    TimeTokens { bins: 100, first_id: 32_100, quantise: Quantise::VidChapters }
}

#[cfg(test)]
mod tests {
    use crate::tensors::{t5_tensors, temporal_tensors, tensors, vision_tensors};

    fn parameters(table: &[crate::tensors::TensorSpec]) -> usize {
        table.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn the_base_model_has_the_parameters_of_the_released_one() {
        let base = super::base();
        let temporal = temporal_tensors(&base.temporal, base.t5.d_model);
        assert_eq!(parameters(&temporal), 66_246_144);
        // 222,903,552 of T5-base, with 72 rows more than its 32,128.
        assert_eq!(parameters(&t5_tensors(&base.t5)), 222_903_552 + 72 * 768);
        assert_eq!(parameters(&vision_tensors(&base.vision)), 303_966_208);
    }

    #[test]
    fn no_two_tensors_have_one_name() {
        let table = tensors(&super::base());
        let names: std::collections::HashSet<_> = table.iter().map(|tensor| &tensor.name).collect();
        let sources: std::collections::HashSet<_> =
            table.iter().map(|tensor| &tensor.source).collect();
        assert_eq!((names.len(), sources.len()), (table.len(), table.len()));
    }
}
