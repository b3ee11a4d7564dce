//! What is minimised: cross-entropy of the tokens to be written, and the contrastive loss of pictures and captions.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

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

/// The symmetric loss of CLIP (arXiv 2103.00020, section 2.3): each of `n` pictures should be most like its own
/// caption, and each caption like its own picture. `pictures` and `captions` are `[n, dim]`; `scale` multiplies their
/// cosines.
#[must_use]
pub fn contrastive(pictures: Tensor<2>, captions: Tensor<2>, scale: Tensor<1>) -> Tensor<1> {
    let device = pictures.device();
    let count = pictures.dims()[0];
    let cosines = unit(pictures).matmul(unit(captions).transpose());
    let logits = cosines * scale.reshape([1, 1]);
    let one_way = |logits: Tensor<2>| {
        let log = activation::log_softmax(logits, 1);
        log.gather(1, diagonal(count, &device)).mean()
    };
    (one_way(logits.clone()) + one_way(logits.transpose())) * -0.5
}

fn diagonal(count: usize, device: &Device) -> Tensor<2, Int> {
    let end = i64::try_from(count).unwrap_or(i64::MAX);
    Tensor::<1, Int>::arange(0..end, device).reshape([count, 1])
}

fn unit(rows: Tensor<2>) -> Tensor<2> {
    let length = (rows.clone().square().sum_dim(1) + 1e-12).sqrt();
    rows / length
}
