//! The tensors of a BERT: our names and shapes, and what Hugging Face calls them.
//!
//! | part | names |
//! |---|---|
//! | embeddings | `sentence.embedding.weight` `[vocabulary, width]`, `sentence.position_embedding` `[positions, width]`, `sentence.type_embedding` `[types, width]`, `sentence.input_norm` |
//! | block `sentence.{i}` | `attention` with `query`, `key`, `value`, `output`; `feed_forward` with `input`, `output`; the norm behind each is `{part}_norm` |

use eventide_model::sentence::Bert;

use crate::tensors::{Start, Table, TensorSpec};

/// All tensors of a BERT of these sizes that a sentence's vector is made with.
#[must_use]
pub fn bert_tensors(sizes: &Bert) -> Vec<TensorSpec> {
    let [width, wide] = [sizes.width, sizes.mlp].map(|size| size as usize);
    let mut table = Table::default();
    for (to, rows, from) in [
        ("embedding.weight", sizes.vocab_size, "word_embeddings"),
        ("position_embedding", sizes.positions, "position_embeddings"),
        ("type_embedding", sizes.types, "token_type_embeddings"),
    ] {
        let (to, from) = (format!("sentence.{to}"), format!("embeddings.{from}.weight"));
        table.add(&to, vec![rows as usize, width], Start::Normal(0.02), &from);
    }
    table.norm("sentence.input_norm", width, "embeddings.LayerNorm");
    for layer in 0..sizes.layers {
        let (to, from) = (format!("sentence.{layer}"), format!("encoder.layer.{layer}"));
        for (part, shape, source) in [
            ("attention.query", [width; 2], "attention.self.query"),
            ("attention.key", [width; 2], "attention.self.key"),
            ("attention.value", [width; 2], "attention.self.value"),
            ("attention.output", [width; 2], "attention.output.dense"),
            ("feed_forward.input", [width, wide], "intermediate.dense"),
            ("feed_forward.output", [wide, width], "output.dense"),
        ] {
            let (to, from) = (format!("{to}.{part}"), format!("{from}.{source}"));
            table.affine(&to, shape, Start::normal(shape[0]), Start::Zeros, &from);
        }
        for (part, source) in [("attention", "attention.output"), ("feed_forward", "output")] {
            let from = format!("{from}.{source}.LayerNorm");
            table.norm(&format!("{to}.{part}_norm"), width, &from);
        }
    }
    table.0
}
