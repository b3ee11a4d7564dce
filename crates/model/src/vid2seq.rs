//! The whole model on a device: frames and words of a window in, sequences and events out.
//!
//! Sessions belong to one thread. Nothing here waits or is shared.

use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, ArrayView3, Axis, Ix2, Ix3, s};

use crate::{
    beam::{self, Hypothesis, SearchOptions, Step},
    bundle::Bundle,
    error::{Error, Result},
    manifest::{Decoding, Manifest, files},
    parse::{self, Parsed},
    runtime::{Runtime, Session, SessionOptions, Tensor},
    tokenizer::Tokenizer,
    vision::VisionEncoder,
};

/// Windows that are generated at once. With T5-base, 100 frames, 1000 tokens of speech and 4 beams a
/// window holds 81 MB of keys and values of its memory and, at 256 tokens, 76 MB of its past, which a
/// step has twice; while its speech is encoded, 100 MB of attention. So under 2.7 GB for 8.
pub const WINDOWS_PER_RUN: usize = 8;

/// Most hypotheses that a search may keep.
pub const MAX_BEAMS: u32 = 64;

/// Every bundle can generate this many tokens, whatever its default limit.
const MIN_OUTPUT_LIMIT: u32 = 1000;

/// What the model is told about a window. At least one of the two must be there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WindowInput {
    /// Features of its frames, `[frames, dim]` with at most `positions` rows. Missing rows are zero
    /// and, as in training, not masked. `None` leaves the video out altogether.
    pub features: Option<Array2<f32>>,
    /// Its input ids, as [`input_ids`](crate::input::input_ids) makes them. Pad ids are masked.
    /// `None`, or no id but pad, leaves the speech out altogether.
    pub input_ids: Option<Vec<i64>>,
}

/// What the decoder looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// `[windows, video + text, d_model]`: `positions` rows of video, if any window has a video, then
    /// as many rows of text as the longest input has ids.
    pub rows: Array3<f32>,
    /// `[windows, video + text]`: 1 where the decoder may look.
    pub mask: Array2<i64>,
}

/// A model bundle, loaded.
#[derive(Debug)]
pub struct Vid2Seq {
    manifest: Manifest,
    tokenizer: Tokenizer,
    vision: VisionEncoder,
    temporal: Session,
    text_encoder: Session,
    cross: Session,
    decoder: Session,
    names: Names,
}

/// Names of the decoder's keys and values, for each layer the key and then the value.
#[derive(Debug)]
struct Names {
    cross: Vec<String>,
    past: Vec<String>,
    present: Vec<String>,
}

impl Names {
    fn new(layers: u32) -> Self {
        let both = |prefix: &str| {
            let each = |layer| ["key", "value"].map(|kind| format!("{prefix}_{kind}_{layer}"));
            (0..layers).flat_map(each).collect()
        };
        Self { cross: both("cross"), past: both("past"), present: both("present") }
    }
}

impl Vid2Seq {
    /// Opens the graphs and the tokenizer of a bundle.
    ///
    /// # Errors
    /// [`Error::Runtime`] if a graph cannot be opened on that device, and as [`Tokenizer::open`].
    pub fn load(bundle: &Bundle, runtime: &Runtime, options: &SessionOptions) -> Result<Self> {
        let open = |name| runtime.open(&bundle.path(name), options);
        let names = Names::new(bundle.manifest().t5.decoder_layers);
        let (mut cross, mut decoder) = (open(files::CROSS)?, open(files::DECODER)?);
        cross.keep_on_device(&borrowed(&names.cross))?;
        decoder.keep_on_device(&borrowed(&names.present))?;
        Ok(Self {
            manifest: bundle.manifest().clone(),
            tokenizer: Tokenizer::open(bundle)?,
            vision: VisionEncoder::load(bundle, runtime, options)?,
            temporal: open(files::TEMPORAL)?,
            text_encoder: open(files::TEXT_ENCODER)?,
            cross,
            decoder,
            names,
        })
    }

    /// What the bundle says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bundle's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Features `[count, dim]` of `count` RGB pictures, as [`VisionEncoder::encode`] gives them.
    ///
    /// # Errors
    /// As [`VisionEncoder::encode`].
    pub fn encode_frames(
        &mut self,
        frames: &[u8],
        count: usize,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Array2<f32>> {
        self.vision.encode(frames, count, should_stop)
    }

    /// Sequences for each window, best first: at most `decoding.beams`, at least one.
    ///
    /// [`WINDOWS_PER_RUN`] windows share a run of the decoder, the shorter ones padded and masked. What
    /// a window gives does not depend on the others; its scores may differ in the last digits, since
    /// sums are taken in another order. `should_stop` is asked before each step.
    ///
    /// # Errors
    /// [`Error::Decoding`] if a setting is out of range; [`Error::Features`], [`Error::InputLength`],
    /// [`Error::Token`] or [`Error::EmptyWindow`] if a window does not fit the model;
    /// [`Error::Cancelled`]; [`Error::Runtime`]; [`Error::Logits`] if the model is broken.
    pub fn generate(
        &mut self,
        windows: &[WindowInput],
        decoding: &Decoding,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let options = self.search_options(decoding)?;
        for (index, window) in windows.iter().enumerate() {
            self.check(index, window)?;
        }
        let mut found = Vec::with_capacity(windows.len());
        for group in windows.chunks(WINDOWS_PER_RUN) {
            stop_if(should_stop)?;
            let memory = self.remember(group)?;
            let mut decoder = self.decoder(memory, options.beams, should_stop)?;
            found.extend(beam::search(&mut decoder, group.len(), &options)?);
        }
        Ok(found)
    }

    /// The events of one window that lasts `duration_us` microseconds: those of its best sequence.
    ///
    /// # Errors
    /// As [`Vid2Seq::generate`] and [`parse::parse`].
    pub fn caption(
        &mut self,
        window: &WindowInput,
        duration_us: i64,
        decoding: &Decoding,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Parsed> {
        let found = self.generate(std::slice::from_ref(window), decoding, should_stop)?;
        match found.first().and_then(|hypotheses| hypotheses.first()) {
            Some(best) => self.parse(best, duration_us),
            None => Ok(Parsed::Nothing(parse::NoEvents::Silent)),
        }
    }

    /// The events of a sequence of a window that lasts `duration_us` microseconds.
    ///
    /// # Errors
    /// As [`parse::parse`].
    pub fn parse(&self, hypothesis: &Hypothesis, duration_us: i64) -> Result<Parsed> {
        let Hypothesis { tokens, log_probabilities, .. } = hypothesis;
        parse::parse(&self.tokenizer, tokens, log_probabilities, duration_us)
    }

    /// What the decoder sees of some windows.
    ///
    /// # Errors
    /// As [`Vid2Seq::generate`], for the windows.
    pub fn encode(&mut self, windows: &[WindowInput]) -> Result<Memory> {
        for (index, window) in windows.iter().enumerate() {
            self.check(index, window)?;
        }
        self.remember(windows)
    }

    /// Logits `[target, vocabulary]` of the decoder on a window when it is made to write `target_ids`:
    /// row `i` is what it says after the first `i` of them.
    ///
    /// # Errors
    /// As [`Vid2Seq::generate`]; [`Error::Token`] for a target outside the vocabulary too.
    pub fn teacher_forced(
        &mut self,
        window: &WindowInput,
        target_ids: &[i64],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Array2<f32>> {
        self.check(0, window)?;
        self.check_ids(target_ids)?;
        let start = i64::from(self.manifest.text.pad_id);
        let vocabulary = self.manifest.t5.vocab_size as usize;
        let memory = self.remember(std::slice::from_ref(window))?;
        let mut decoder = self.decoder(memory, 1, should_stop)?;
        let mut logits = Array2::zeros((target_ids.len(), vocabulary));
        let read = std::iter::once(&start).chain(target_ids);
        for (mut row, &token) in logits.rows_mut().into_iter().zip(read) {
            row.assign(&decoder.step(&[token], &[0])?.row(0));
        }
        Ok(logits)
    }

    fn search_options(&self, decoding: &Decoding) -> Result<SearchOptions> {
        let refused = |setting, value: f64, range| Error::Decoding { setting, value, range };
        let &Decoding { beams, length_penalty, max_output_tokens, scoring } = decoding;
        if !(1..=MAX_BEAMS).contains(&beams) {
            return Err(refused("beams", beams.into(), format!("1 to {MAX_BEAMS}")));
        }
        if !(length_penalty.is_finite() && length_penalty >= 0.0) {
            return Err(refused("length_penalty", length_penalty.into(), "0 and up".to_owned()));
        }
        let limit = self.manifest.decoding.max_output_tokens.max(MIN_OUTPUT_LIMIT);
        if !(1..=limit).contains(&max_output_tokens) {
            let range = format!("1 to {limit}");
            return Err(refused("max_output_tokens", max_output_tokens.into(), range));
        }
        Ok(SearchOptions {
            beams: beams as usize,
            length_penalty: length_penalty.into(),
            max_tokens: max_output_tokens as usize,
            scoring,
            start_id: self.manifest.text.pad_id.into(),
            eos_id: self.manifest.text.eos_id.into(),
        })
    }

    fn check(&self, index: usize, window: &WindowInput) -> Result<()> {
        if let Some(features) = &window.features {
            let (positions, dim) = self.video_shape();
            let found = [features.nrows(), features.ncols()];
            if found[0] > positions || found[1] != dim {
                return Err(Error::Features { found, positions, dim });
            }
        }
        let ids = window.input_ids.as_deref().unwrap_or_default();
        let limit = self.manifest.text.max_input_tokens as usize;
        if ids.len() > limit {
            return Err(Error::InputLength { found: ids.len(), limit });
        }
        self.check_ids(ids)?;
        if window.features.is_none() && !self.has_words(window) {
            return Err(Error::EmptyWindow { window: index });
        }
        Ok(())
    }

    fn check_ids(&self, ids: &[i64]) -> Result<()> {
        let vocabulary = self.manifest.t5.vocab_size;
        match ids.iter().find(|&&id| !(0..i64::from(vocabulary)).contains(&id)) {
            Some(&id) => Err(Error::Token { id, vocabulary: vocabulary as usize }),
            None => Ok(()),
        }
    }

    fn video_shape(&self) -> (usize, usize) {
        (self.manifest.temporal.positions as usize, self.manifest.temporal.dim as usize)
    }

    fn has_words(&self, window: &WindowInput) -> bool {
        let pad = i64::from(self.manifest.text.pad_id);
        window.input_ids.iter().flatten().any(|&id| id != pad)
    }

    /// Both encoders on windows that were checked.
    fn remember(&mut self, windows: &[WindowInput]) -> Result<Memory> {
        let width = self.manifest.t5.d_model as usize;
        let mut memory = Memory {
            rows: Array3::zeros((windows.len(), 0, width)),
            mask: Array2::zeros((windows.len(), 0)),
        };
        if windows.iter().any(|window| window.features.is_some()) {
            let (positions, _) = self.video_shape();
            let video = self.encode_video(windows)?;
            let seen = |(window, _): (usize, usize)| i64::from(windows[window].features.is_some());
            let mask = Array2::from_shape_fn((windows.len(), positions), seen);
            let shape = [windows.len(), positions, width];
            memory.append(&cube(&video, "memory", shape)?, &mask.view())?;
        }
        if windows.iter().any(|window| self.has_words(window)) {
            let (ids, mask) = self.padded_ids(windows);
            let shape = [windows.len(), ids.ncols(), width];
            let text = self.encode_text(ids, mask.clone())?;
            memory.append(&cube(&text, "memory", shape)?, &mask.view())?;
        }
        Ok(memory)
    }

    fn encode_video(&mut self, windows: &[WindowInput]) -> Result<Tensor> {
        let (positions, dim) = self.video_shape();
        let mut features = Array3::zeros((windows.len(), positions, dim));
        for (mut row, window) in features.outer_iter_mut().zip(windows) {
            if let Some(given) = &window.features {
                row.slice_mut(s![..given.nrows(), ..]).assign(given);
            }
        }
        run_one(&mut self.temporal, &[("features", &Tensor::from_array(features)?)], "memory")
    }

    /// Input ids of all windows, padded to the longest, and where they are not padding.
    fn padded_ids(&self, windows: &[WindowInput]) -> (Array2<i64>, Array2<i64>) {
        let pad = i64::from(self.manifest.text.pad_id);
        let ids = |window: &WindowInput| window.input_ids.as_ref().map_or(0, Vec::len);
        let longest = windows.iter().map(ids).max().unwrap_or(0);
        let mut padded = Array2::from_elem((windows.len(), longest), pad);
        for (mut row, window) in padded.rows_mut().into_iter().zip(windows) {
            for (place, &id) in row.iter_mut().zip(window.input_ids.iter().flatten()) {
                *place = id;
            }
        }
        let mask = padded.mapv(|id| i64::from(id != pad));
        (padded, mask)
    }

    fn encode_text(&mut self, ids: Array2<i64>, mask: Array2<i64>) -> Result<Tensor> {
        let (ids, mask) = (Tensor::from_array(ids)?, Tensor::from_array(mask)?);
        let inputs = [("input_ids", &ids), ("attention_mask", &mask)];
        run_one(&mut self.text_encoder, &inputs, "memory")
    }

    /// A decoder that looks at `memory` and has read nothing yet.
    fn decoder<'a>(
        &'a mut self,
        memory: Memory,
        beams: usize,
        should_stop: &'a dyn Fn() -> bool,
    ) -> Result<Decoder<'a>> {
        let rows = memory.rows.len_of(Axis(0));
        let seen = Tensor::from_array(memory.rows)?;
        let mut projected = self.cross.run(&[("memory", &seen)])?;
        let take = |name: &String| projected.take(name);
        let cross = self.names.cross.iter().map(take).collect::<Result<_, _>>()?;
        let t5 = &self.manifest.t5;
        let nothing = (rows * beams, t5.heads as usize, 0, t5.d_kv as usize);
        let empty = |_: &String| Tensor::from_array(Array4::<f32>::zeros(nothing));
        let past = self.names.past.iter().map(empty).collect::<Result<_, _>>()?;
        Ok(Decoder {
            session: &mut self.decoder,
            names: &self.names,
            mask: Tensor::from_array(memory.mask)?,
            cross,
            past,
            logits: None,
            rows,
            beams,
            vocabulary: t5.vocab_size as usize,
            should_stop,
        })
    }
}

impl Memory {
    /// Appends more rows for each window, and their mask.
    fn append(&mut self, rows: &ArrayView3<'_, f32>, mask: &ArrayView2<'_, i64>) -> Result<()> {
        let wrong = || Error::Shape {
            output: "memory",
            found: rows.shape().to_vec(),
            expected: self.rows.shape().to_vec(),
        };
        let joined =
            ndarray::concatenate(Axis(1), &[self.rows.view(), *rows]).map_err(|_| wrong())?;
        self.mask =
            ndarray::concatenate(Axis(1), &[self.mask.view(), *mask]).map_err(|_| wrong())?;
        self.rows = joined;
        Ok(())
    }
}

/// The decoder in the middle of some sequences.
struct Decoder<'a> {
    session: &'a mut Session,
    names: &'a Names,
    mask: Tensor,
    cross: Vec<Tensor>,
    past: Vec<Tensor>,
    logits: Option<Tensor>,
    rows: usize,
    beams: usize,
    vocabulary: usize,
    should_stop: &'a dyn Fn() -> bool,
}

impl Step for Decoder<'_> {
    fn step(&mut self, tokens: &[i64], beam_index: &[i64]) -> Result<ArrayView2<'_, f32>> {
        stop_if(self.should_stop)?;
        let shape = [self.rows * self.beams, self.vocabulary];
        let tokens = Array1::from(tokens.to_vec())
            .into_shape_with_order((self.rows, self.beams))
            .map_err(|_| Error::Shape {
            output: "tokens",
            found: vec![tokens.len()],
            expected: vec![self.rows, self.beams],
        })?;
        let tokens = Tensor::from_array(tokens)?;
        let beam_index = Tensor::from_array(Array1::from(beam_index.to_vec()))?;
        let mut inputs =
            vec![("tokens", &tokens), ("beam_index", &beam_index), ("memory_mask", &self.mask)];
        inputs.extend(self.names.cross.iter().map(String::as_str).zip(&self.cross));
        inputs.extend(self.names.past.iter().map(String::as_str).zip(&self.past));
        let mut outputs = self.session.run(&inputs)?;
        let take = |name: &String| outputs.take(name);
        self.past = self.names.present.iter().map(take).collect::<Result<_, _>>()?;
        let logits = self.logits.insert(outputs.take("logits")?);
        matrix(logits, "logits", shape)
    }
}

pub(crate) fn run_one(
    session: &mut Session,
    inputs: &[(&str, &Tensor)],
    output: &str,
) -> Result<Tensor> {
    Ok(session.run(inputs)?.take(output)?)
}

pub(crate) fn matrix<'a>(
    tensor: &'a Tensor,
    output: &'static str,
    expected: [usize; 2],
) -> Result<ArrayView2<'a, f32>> {
    let wrong = || Error::Shape { output, found: tensor.shape(), expected: expected.to_vec() };
    let view = tensor.view::<f32>()?.into_dimensionality::<Ix2>().map_err(|_| wrong())?;
    if view.shape() == expected { Ok(view) } else { Err(wrong()) }
}

fn cube<'a>(
    tensor: &'a Tensor,
    output: &'static str,
    expected: [usize; 3],
) -> Result<ArrayView3<'a, f32>> {
    let wrong = || Error::Shape { output, found: tensor.shape(), expected: expected.to_vec() };
    let view = tensor.view::<f32>()?.into_dimensionality::<Ix3>().map_err(|_| wrong())?;
    if view.shape() == expected { Ok(view) } else { Err(wrong()) }
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

pub(crate) fn stop_if(should_stop: &dyn Fn() -> bool) -> Result<()> {
    if should_stop() { Err(Error::Cancelled) } else { Ok(()) }
}
