//! CLIP's vision encoder under Hugging Face's names, and what `OpenAI` calls the same tensors.
//!
//! | Hugging Face | `OpenAI` |
//! |---|---|
//! | `vision_model.embeddings` with `class_embedding`, `patch_embedding.weight`, `position_embedding.weight` | `visual` with `class_embedding`, `conv1.weight`, `positional_embedding` |
//! | `vision_model.pre_layrnorm`, `post_layernorm` | `visual.ln_pre`, `ln_post` |
//! | `vision_model.encoder.layers.{i}` with `layer_norm1`, `layer_norm2`, `mlp.fc1`, `mlp.fc2`, `self_attn.out_proj` | `visual.transformer.resblocks.{i}` with `ln_1`, `ln_2`, `mlp.c_fc`, `mlp.c_proj`, `attn.out_proj` |
//! | `self_attn` with `q_proj`, `k_proj`, `v_proj` | `attn.in_proj_weight` and `attn.in_proj_bias`, one below the other |
//! | `visual_projection.weight` | `visual.proj`, the other way round |

use std::collections::BTreeMap;

use super::Stored;
use crate::error::{Error, Result};

const LAYERS: &str = "vision_model.encoder.layers.";

/// How names begin, and how they begin at `OpenAI`. The first that fits is taken.
const PREFIXES: [(&str, &str); 5] = [
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
];

/// The same for what comes after the number of a layer.
const IN_LAYERS: [(&str, &str); 5] = [
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.out_proj.", "attn.out_proj."),
];

/// All tensors under `OpenAI`'s names. The text tower is left out; what is unknown keeps its name.
pub(super) fn renamed(tensors: &BTreeMap<String, Stored>) -> Result<BTreeMap<String, Stored>> {
    let mut renamed = BTreeMap::new();
    for (name, stored) in tensors {
        if is_left_out(name) {
            continue;
        }
        if name == "visual_projection.weight" {
            let shape = stored.shape.iter().rev().copied().collect();
            let turned = Stored { turned: true, shape, ..stored.clone() };
            renamed.insert("visual.proj".to_owned(), turned);
        } else if let Some((layer, kind)) = attention(name) {
            let stacked = stacked(tensors, layer, kind)?;
            let name = format!("visual.transformer.resblocks.{layer}.attn.in_proj_{kind}");
            renamed.insert(name, stacked);
        } else {
            renamed.insert(new_name(name), stored.clone());
        }
    }
    Ok(renamed)
}

fn is_left_out(name: &str) -> bool {
    name.starts_with("text_model.")
        || name == "text_projection.weight"
        || name == "vision_model.embeddings.position_ids"
}

/// The layer and kind, `weight` or `bias`, of a part of an attention's input.
fn attention(name: &str) -> Option<(&str, &str)> {
    let (layer, rest) = name.strip_prefix(LAYERS)?.split_once('.')?;
    let (part, kind) = rest.strip_prefix("self_attn.")?.split_once('.')?;
    let fits = ["q_proj", "k_proj", "v_proj"].contains(&part) && ["weight", "bias"].contains(&kind);
    fits.then_some((layer, kind))
}

/// Query, key and value of a layer, one below the other.
fn stacked(tensors: &BTreeMap<String, Stored>, layer: &str, kind: &str) -> Result<Stored> {
    let mut parts = Vec::new();
    let mut shape: Vec<usize> = Vec::new();
    for part in ["q_proj", "k_proj", "v_proj"] {
        let name = format!("{LAYERS}{layer}.self_attn.{part}.{kind}");
        let stored = tensors.get(&name).ok_or_else(|| Error::Missing { name: name.clone() })?;
        match (shape.first_mut(), stored.shape.first()) {
            (Some(rows), Some(more)) => *rows += more,
            _ => shape.clone_from(&stored.shape),
        }
        parts.extend(stored.parts.iter().cloned());
    }
    Ok(Stored { parts, turned: false, shape })
}

fn new_name(name: &str) -> String {
    let replaced = |table: &[(&str, &str)], name: &str| {
        table.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
    };
    let in_layer = || {
        let (layer, rest) = name.strip_prefix(LAYERS)?.split_once('.')?;
        Some(format!("visual.transformer.resblocks.{layer}.{}", replaced(&IN_LAYERS, rest)?))
    };
    replaced(&PREFIXES, name).or_else(in_layer).unwrap_or_else(|| name.to_owned())
}
