//! The tensors of Whisper: our names and shapes, and what Hugging Face calls them.
//!
//! | part | names |
//! |---|---|
//! | encoder | `audio.conv.{0,1}`, `audio.position_embedding` `[positions, width]`, blocks `audio.{i}`, `audio.output_norm` |
//! | decoder | `speech.embedding.weight` `[vocabulary, width]`, `speech.position_embedding`, blocks `speech.{i}`, `speech.output_norm` |
//! | a block | `attention` (in the decoder `self_attention` and `cross_attention`) with `query`, `key` (no bias), `value`, `output`; `feed_forward` with `input`, `output`; each part's norm is `{part}_norm` |

use eventide_model::speech::Whisper;

use crate::tensors::{Start, Table, TensorSpec};

/// All tensors of a Whisper of these sizes.
#[must_use]
pub fn whisper_tensors(sizes: &Whisper) -> Vec<TensorSpec> {
    let [width, bands, vocabulary] =
        [sizes.width, sizes.mel_bands, sizes.vocab_size].map(|size| size as usize);
    let mut table = Table::default();
    for (index, input) in [(0, bands), (1, width)] {
        let from = format!("model.encoder.conv{}", index + 1);
        let to = format!("audio.conv.{index}");
        let kernel = vec![width, input, 3];
        table.add(
            &format!("{to}.weight"),
            kernel,
            Start::normal(3 * input),
            &format!("{from}.weight"),
        );
        table.add(&format!("{to}.bias"), vec![width], Start::Zeros, &format!("{from}.bias"));
    }
    let positions = vec![sizes.audio_positions as usize, width];
    let from = "model.encoder.embed_positions.weight";
    table.add("audio.position_embedding", positions, Start::Normal(0.02), from);
    for layer in 0..sizes.encoder_layers {
        let (to, from) = (format!("audio.{layer}"), format!("model.encoder.layers.{layer}"));
        attention(&mut table, width, [&to, "attention"], [&from, "self_attn"]);
        feed_forward(&mut table, [width, sizes.encoder_mlp as usize], &to, &from);
    }
    table.norm("audio.output_norm", width, "model.encoder.layer_norm");

    let from = "model.decoder.embed_tokens.weight";
    table.add("speech.embedding.weight", vec![vocabulary, width], Start::Normal(0.02), from);
    let positions = vec![sizes.text_positions as usize, width];
    let from = "model.decoder.embed_positions.weight";
    table.add("speech.position_embedding", positions, Start::Normal(0.02), from);
    for layer in 0..sizes.decoder_layers {
        let (to, from) = (format!("speech.{layer}"), format!("model.decoder.layers.{layer}"));
        attention(&mut table, width, [&to, "self_attention"], [&from, "self_attn"]);
        attention(&mut table, width, [&to, "cross_attention"], [&from, "encoder_attn"]);
        feed_forward(&mut table, [width, sizes.decoder_mlp as usize], &to, &from);
    }
    table.norm("speech.output_norm", width, "model.decoder.layer_norm");
    table.0
}

fn attention(table: &mut Table, width: usize, [to, part]: [&str; 2], [from, module]: [&str; 2]) {
    let (to, from) = (format!("{to}.{part}"), format!("{from}.{module}"));
    table.norm(&format!("{to}_norm"), width, &format!("{from}_layer_norm"));
    for (part, source) in
        [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "out_proj")]
    {
        let (to, from) = (format!("{to}.{part}"), format!("{from}.{source}"));
        let (shape, start) = ([width; 2], Start::normal(width));
        if part == "key" {
            table.turned(&format!("{to}.weight"), shape, start, &format!("{from}.weight"));
        } else {
            table.affine(&to, shape, start, Start::Zeros, &from);
        }
    }
}

fn feed_forward(table: &mut Table, [width, wide]: [usize; 2], to: &str, from: &str) {
    table.norm(&format!("{to}.feed_forward_norm"), width, &format!("{from}.final_layer_norm"));
    for (part, shape, source) in [("input", [width, wide], "fc1"), ("output", [wide, width], "fc2")]
    {
        let (to, from) = (format!("{to}.feed_forward.{part}"), format!("{from}.{source}"));
        table.affine(&to, shape, Start::normal(shape[0]), Start::Zeros, &from);
    }
}
