//! What is minimised: cross-entropy of the tokens to be written, and the contrastive loss of pictures and captions.

use burn::tensor::{Int, Tensor, TensorData, activation};

use ndarray::Array2;

/// The mean over all tokens of `targets` that are not `pad` of their cross-entropy under `logits`
/// `[b * t, vocabulary]`, with a share of `smoothing` spread evenly over the vocabulary (the reference trains with
/// 0.1; `vid2seq.md` §6). Zero, without a gradient, where there is no such token.
#[must_use]
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: &Array2<i64>,
    pad: i64,
    smoothing: f64,
) -> Tensor<1> {
    let device = logits.device();
    let count = targets.len();
    let weights = token_weights(targets, pad);
    let log = activation::log_softmax(logits, 1);
    let indices = Tensor::<2, Int>::from_data(
        TensorData::new(targets.iter().copied().collect::<Vec<_>>(), [count, 1]),
        &device,
    );
    let chosen = log.clone().gather(1, indices).reshape([count]);
    let spread = log.mean_dim(1).reshape([count]);
    let entropy = chosen * (smoothing - 1.0) - spread * smoothing;
    (entropy * Tensor::<1>::from_floats(weights.as_slice(), &device)).sum()
}

/// One over the number of tokens for each token, zero for padding.
#[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^24 tokens")]
fn token_weights(targets: &Array2<i64>, pad: i64) -> Vec<f32> {
    let tokens = targets.iter().filter(|&&id| id != pad).count();
    let each = (tokens.max(1) as f32).recip();
    targets.iter().map(|&id| if id == pad { 0.0 } else { each }).collect()
}

/// The loss of `SigLIP` (arXiv 2303.15343, section 3.2) where a picture has several captions, and a caption fits several
/// pictures: each pair is judged by itself. `logits` and `fits` are `[pictures, captions]`; `fits` is 1 where a caption is
/// one of a picture, else 0. A sum over captions, and a mean over pictures.
#[must_use]
pub fn contrastive(logits: Tensor<2>, fits: Tensor<2>) -> Tensor<1> {
    // -log sigmoid(x) where the pair fits, -log sigmoid(-x) where it does not.
    let costs = -activation::log_sigmoid(-logits.clone()) - logits * fits;
    costs.sum_dim(1).mean()
}
