//! `vision.onnx`: pictures to features, by CLIP's vision transformer.

use eventide_model::manifest::Vision;

use crate::{
    blocks::{Heads, Norm, Stream, biased_block, quick_gelu, usual_scale},
    error::Result,
    graph::{Graph, Size, Style, integer_attribute, integers_attribute, signed},
    layout::Layout,
    pb::DataType,
};

/// The graph `frames` u8 `[n, side, side, 3]` (RGB) to `features` f32 `[n, output_dim]`: the
/// projected class token, not normalised to length one.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn vision(sizes: &Vision, layout: &Layout, style: Style) -> Result<Vec<u8>> {
    let mut graph = Graph::new("vision", layout, style);
    let side = Size::Fixed(sizes.image_size as usize);
    let shape = [Size::Named("n"), side, side, Size::Fixed(3)];
    let frames = graph.input("frames", DataType::Uint8, &shape);

    let pixels = normalise_pixels(&mut graph, &frames, sizes);
    let tokens = tokens(&mut graph, &pixels, sizes);
    let first = Stream::new(tokens, Norm::Layer, sizes.layer_norm_eps)
        .normalise(&mut graph, "vision.input_norm");
    let mut stream = Stream::new(first, Norm::Layer, sizes.layer_norm_eps);
    let width = (sizes.width / sizes.heads) as usize;
    let heads = Heads { count: sizes.heads as usize, width, scale: usual_scale(width) };
    for layer in 0..sizes.layers {
        biased_block(&mut graph, &mut stream, &format!("vision.{layer}"), heads, quick_gelu);
    }
    let normalised = class_token(&mut graph, &mut stream);
    let projection = graph.weight("vision.projection.weight");
    let features = graph.node("MatMul", &[&normalised, &projection]);
    let shape = [Size::Named("n"), Size::Fixed(sizes.output_dim as usize)];
    graph.output(&features, "features", &shape);
    graph.finish()
}

/// `(x / 255 - mean) / (std + std_eps)`, channels last.
fn normalise_pixels(graph: &mut Graph<'_>, frames: &str, sizes: &Vision) -> String {
    let to = DataType::Float as i64;
    let pixels = graph.node_with("Cast", &[frames], vec![integer_attribute("to", to)]);
    let most = graph.float(255.0);
    let fractions = graph.node("Div", &[&pixels, &most]);
    let mean = graph.floats(&sizes.mean);
    let centred = graph.node("Sub", &[&fractions, &mean]);
    let spread = graph.floats(&sizes.std.map(|std| std + sizes.std_eps));
    graph.node("Div", &[&centred, &spread])
}

/// The class token and one token a patch, with their positions: `[n, 1 + patches, width]`.
fn tokens(graph: &mut Graph<'_>, pixels: &str, sizes: &Vision) -> String {
    let (patch, width) = (signed(sizes.patch as usize), signed(sizes.width as usize));
    let planes = graph.transpose(pixels, &[0, 3, 1, 2]);
    let kernel = graph.weight("vision.patch_embedding.weight");
    let attributes = vec![
        integers_attribute("kernel_shape", &[patch, patch]),
        integers_attribute("strides", &[patch, patch]),
    ];
    let grid = graph.node_with("Conv", &[&planes, &kernel], attributes);
    let row = graph.reshape(&grid, &[0, width, -1]);
    let patches = graph.transpose(&row, &[0, 2, 1]);

    let count = graph.sizes(pixels, 0, 1);
    let one_token = graph.integers(&[1, width]);
    let shape = graph.concat(&[&count, &one_token], 0);
    let class = graph.weight("vision.class_embedding");
    let classes = graph.node("Expand", &[&class, &shape]);
    let tokens = graph.concat(&[&classes, &patches], 1);
    let positions = graph.weight("vision.position_embedding");
    graph.node("Add", &[&tokens, &positions])
}

/// The class token of every picture, normalised: `[n, width]`.
fn class_token(graph: &mut Graph<'_>, stream: &mut Stream) -> String {
    let normalised = stream.normalise(graph, "vision.output_norm");
    let first = graph.integer(0);
    graph.gather(&normalised, &first, 1)
}
