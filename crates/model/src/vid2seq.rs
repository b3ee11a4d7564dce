//! The whole model on a device: frames and words of a window in, sequences and events out.
//!
//! Sessions belong to one thread. Nothing here waits or is shared.

use ndarray::{
    Array1, Array2, Array3, Array4, ArrayView1, ArrayView2, ArrayView3, Axis, Ix2, Ix3, s,
};

use crate::{
    beam::{self, Hypothesis, SearchOptions, Step},
    bundle::Bundle,
    error::{Error, Result},
    manifest::{Decoding, Manifest, Precision, files},
    parse::{self, Parsed},
    runtime::{Device, Runtime, Session, SessionOptions, Tensor},
    tokenizer::Tokenizer,
    vision::VisionEncoder,
};

/// Windows that are generated at once. With T5-base, 100 frames, 1000 tokens of speech and 4 beams a
/// window holds 81 MB of keys and values of its memory and, at 256 tokens, 76 MB of its past, which a
/// step has twice; while its speech is encoded, 100 MB of attention. So under 2.7 GB for 8.
pub const WINDOWS_PER_RUN: usize = 8;

/// Inputs and memories are padded to a multiple of this, also those of a window alone. A window is then padded further
/// only by whole vectors of a processor: zeros that are added to its sums, in no other order.
const BLOCK: usize = 16;

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
    /// `[windows, length, d_model]`: for each window `positions` rows of video, if it has one, then a row
    /// for each id of its input, if it has words, then zeros up to a length that is a multiple of 16 (not
    /// with whole numbers of 8 bits).
    pub rows: Array3<f32>,
    /// `[windows, length]`: 1 where the decoder may look.
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
    /// [`WINDOWS_PER_RUN`] windows share a run of the decoder, the shorter ones padded and masked, and one
    /// that is done leaves it. What a window gives does not depend on the others: on a processor not in
    /// the last digit, on other devices its scores may differ there. With whole numbers of 8 bits each
    /// window has its own run. `should_stop` is asked before each step.
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
        for group in windows.chunks(self.windows_per_run()) {
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
        let memory = self.remember(windows)?;
        let rows = memory.rows.slice_move(s![.., ..self.memory_rows(windows), ..]);
        let mask = memory.mask.slice_move(s![.., ..self.memory_rows(windows)]);
        Ok(Memory {
            rows: rows.as_standard_layout().into_owned(),
            mask: mask.as_standard_layout().into_owned(),
        })
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

    fn windows_per_run(&self) -> usize {
        if self.is_alone() { 1 } else { WINDOWS_PER_RUN }
    }

    /// Inputs that are encoded at once. One keeps a processor busy, and is not padded to another's length.
    fn inputs_per_run(&self) -> usize {
        if self.text_encoder.device() == Device::Cpu { 1 } else { WINDOWS_PER_RUN }
    }

    /// What lengths are padded to a multiple of.
    fn block(&self) -> usize {
        if self.is_alone() { 1 } else { BLOCK }
    }

    /// Whether each window has its own run: whole numbers of 8 bits have one scale for all that is in it.
    fn is_alone(&self) -> bool {
        self.manifest.precision == Precision::Int8
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

    /// Rows of the longest memory of some windows, before any padding.
    fn memory_rows(&self, windows: &[WindowInput]) -> usize {
        let (positions, _) = self.video_shape();
        let rows = |window: &WindowInput| {
            let video = window.features.as_ref().map_or(0, |_| positions);
            video + if self.has_words(window) { ids_of(window).len() } else { 0 }
        };
        windows.iter().map(rows).max().unwrap_or(0)
    }

    /// Both encoders on windows that were checked, each on those that have something for it.
    fn remember(&mut self, windows: &[WindowInput]) -> Result<Memory> {
        let (positions, _) = self.video_shape();
        let width = self.manifest.t5.d_model as usize;
        let video_rows = |window: &WindowInput| window.features.as_ref().map_or(0, |_| positions);
        let all: Vec<usize> = (0..windows.len()).collect();
        let (mut seen, mut heard) = (all.clone(), all);
        seen.retain(|&window| windows[window].features.is_some());
        heard.retain(|&window| self.has_words(&windows[window]));
        let length = self.memory_rows(windows).next_multiple_of(self.block());
        let mut memory = Memory::new(windows.len(), length, width);
        if !seen.is_empty() {
            let video = self.encode_video(windows, &seen)?;
            let video = cube(&video, "memory", [seen.len(), positions, width])?;
            let mask = Array1::ones(positions);
            for (&window, rows) in seen.iter().zip(video.outer_iter()) {
                memory.put(window, 0, &rows, &mask.view());
            }
        }
        for heard in heard.chunks(self.inputs_per_run()) {
            let (ids, mask) = self.padded_ids(windows, heard);
            let shape = [heard.len(), ids.ncols(), width];
            let text = self.encode_text(ids, mask.clone())?;
            let text = cube(&text, "memory", shape)?;
            for ((&window, rows), mask) in heard.iter().zip(text.outer_iter()).zip(mask.rows()) {
                let (first, count) = (video_rows(&windows[window]), ids_of(&windows[window]).len());
                let (rows, mask) = (rows.slice(s![..count, ..]), mask.slice(s![..count]));
                memory.put(window, first, &rows, &mask);
            }
        }
        Ok(memory)
    }

    /// The memory of the frames of the windows at `seen`.
    fn encode_video(&mut self, windows: &[WindowInput], seen: &[usize]) -> Result<Tensor> {
        let (positions, dim) = self.video_shape();
        let mut features = Array3::zeros((seen.len(), positions, dim));
        for (mut row, &window) in features.outer_iter_mut().zip(seen) {
            if let Some(given) = &windows[window].features {
                row.slice_mut(s![..given.nrows(), ..]).assign(given);
            }
        }
        run_one(&mut self.temporal, &[("features", &Tensor::from_array(features)?)], "memory")
    }

    /// Input ids of the windows at `heard`, padded to the block after the longest, as far as the model
    /// has positions, and where they are not padding.
    fn padded_ids(&self, windows: &[WindowInput], heard: &[usize]) -> (Array2<i64>, Array2<i64>) {
        let pad = i64::from(self.manifest.text.pad_id);
        let limit = self.manifest.text.max_input_tokens as usize;
        let longest = heard.iter().map(|&window| ids_of(&windows[window]).len()).max().unwrap_or(0);
        let length = longest.next_multiple_of(self.block()).min(limit);
        let mut padded = Array2::from_elem((heard.len(), length), pad);
        for (mut row, &window) in padded.rows_mut().into_iter().zip(heard) {
            for (place, &id) in row.iter_mut().zip(ids_of(&windows[window])) {
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
        let cross = project(&mut self.cross, &self.names.cross, memory.rows.clone())?;
        let t5 = &self.manifest.t5;
        let nothing = (rows * beams, t5.heads as usize, 0, t5.d_kv as usize);
        let empty = |_: &String| Tensor::from_array(Array4::<f32>::zeros(nothing));
        let past = self.names.past.iter().map(empty).collect::<Result<_, _>>()?;
        Ok(Decoder {
            session: &mut self.decoder,
            projection: &mut self.cross,
            names: &self.names,
            mask: Tensor::from_array(memory.mask.clone())?,
            memory,
            cross,
            past,
            logits: None,
            beams,
            vocabulary: t5.vocab_size as usize,
            should_stop,
        })
    }
}

/// The keys and values that the decoder's layers have of a memory.
fn project(session: &mut Session, names: &[String], memory: Array3<f32>) -> Result<Vec<Tensor>> {
    let mut projected = session.run(&[("memory", &Tensor::from_array(memory)?)])?;
    Ok(names.iter().map(|name| projected.take(name)).collect::<Result<_, _>>()?)
}

fn ids_of(window: &WindowInput) -> &[i64] {
    window.input_ids.as_deref().unwrap_or_default()
}

impl Memory {
    /// Nothing to look at.
    fn new(windows: usize, length: usize, width: usize) -> Self {
        Self {
            rows: Array3::zeros((windows, length, width)),
            mask: Array2::zeros((windows, length)),
        }
    }

    /// Puts rows of a window to their place, with their mask.
    fn put(
        &mut self,
        window: usize,
        first: usize,
        rows: &ArrayView2<'_, f32>,
        mask: &ArrayView1<'_, i64>,
    ) {
        let places = first..first + rows.nrows();
        self.rows.slice_mut(s![window, places.clone(), ..]).assign(rows);
        self.mask.slice_mut(s![window, places]).assign(mask);
    }

    fn select(&self, windows: &[usize]) -> Self {
        Self { rows: self.rows.select(Axis(0), windows), mask: self.mask.select(Axis(0), windows) }
    }
}

/// The decoder in the middle of some sequences.
struct Decoder<'a> {
    session: &'a mut Session,
    projection: &'a mut Session,
    names: &'a Names,
    memory: Memory,
    mask: Tensor,
    cross: Vec<Tensor>,
    past: Vec<Tensor>,
    logits: Option<Tensor>,
    beams: usize,
    vocabulary: usize,
    should_stop: &'a dyn Fn() -> bool,
}

impl Step for Decoder<'_> {
    fn step(&mut self, tokens: &[i64], beam_index: &[i64]) -> Result<ArrayView2<'_, f32>> {
        stop_if(self.should_stop)?;
        let rows = self.memory.rows.len_of(Axis(0));
        let shape = [rows * self.beams, self.vocabulary];
        let tokens = Array1::from(tokens.to_vec())
            .into_shape_with_order((rows, self.beams))
            .map_err(|_| Error::Shape {
                output: "tokens",
                found: vec![tokens.len()],
                expected: vec![rows, self.beams],
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

    /// The pasts of rows that leave go with the next step, which gathers what it needs. Keys and values
    /// of the memory are copied where they can be read, and elsewhere projected anew, which takes a
    /// device less than a step.
    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        self.memory = self.memory.select(rows);
        self.mask = Tensor::from_array(self.memory.mask.clone())?;
        if self.projection.device() == Device::Cpu {
            for tensor in &mut self.cross {
                let kept = tensor.view::<f32>()?.select(Axis(0), rows);
                *tensor = Tensor::from_array(kept)?;
            }
        } else {
            let memory = self.memory.rows.clone();
            self.cross = project(self.projection, &self.names.cross, memory)?;
        }
        Ok(())
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
