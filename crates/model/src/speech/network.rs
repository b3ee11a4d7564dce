//! The network of Whisper: sessions over its graphs, and the pasts of its decoder.

use ndarray::{Array2, Array3, Array4, ArrayD, ArrayView4, Axis, Ix4, s};

use crate::{
    error::{Error, Result},
    runtime::{Device, Runtime, Session, SessionOptions, Tensor},
    speech::{SpeechBundle, Whisper, manifest::files},
};

/// What hides a position from another.
const HIDDEN: f32 = -1e30;

/// The opened graphs.
#[derive(Debug)]
pub struct Network {
    encoder: Session,
    decoder: Session,
    aligner: Session,
    sizes: Whisper,
    /// Whether keys and values stay in the memory of a device, where we cannot read them.
    resident: bool,
}

/// The keys and values that the decoder has of some windows.
#[derive(Debug)]
pub struct Cross {
    tensors: Vec<(String, Tensor)>,
    windows: usize,
}

impl Cross {
    /// How many windows there are.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.windows
    }
}

/// What the decoder has read so far: one past a row.
#[derive(Debug)]
pub struct Past {
    tensors: Vec<Tensor>,
    length: usize,
    /// Positions at the front of each row that hold nothing.
    padding: Vec<usize>,
}

impl Network {
    /// Opens the graphs of a bundle.
    ///
    /// # Errors
    /// [`Error::Runtime`] where a graph cannot be opened, or the device not be had.
    pub fn load(
        bundle: &SpeechBundle,
        runtime: &Runtime,
        options: &SessionOptions,
    ) -> Result<Self> {
        let open = |name: &str| runtime.open_frugal(&bundle.path(name), options);
        let mut network = Self {
            encoder: open(files::ENCODER)?,
            decoder: open(files::DECODER)?,
            aligner: open(files::ALIGNER)?,
            sizes: bundle.manifest().whisper.clone(),
            resident: options.device != Device::Cpu,
        };
        if network.resident {
            let names = |kind: &str| network.caches(kind);
            let (cross, present) = (names("cross"), names("present"));
            let borrowed: Vec<&str> = cross.iter().map(String::as_str).collect();
            network.encoder.keep_on_device(&borrowed)?;
            let borrowed: Vec<&str> = present.iter().map(String::as_str).collect();
            network.decoder.keep_on_device(&borrowed)?;
        }
        Ok(network)
    }

    /// The sizes of the network.
    #[must_use]
    pub fn sizes(&self) -> &Whisper {
        &self.sizes
    }

    /// Whether what the decoder remembers stays in the memory of a device.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.resident
    }

    fn caches(&self, kind: &str) -> Vec<String> {
        let layers = 0..self.sizes.decoder_layers;
        let parts = |layer| ["key", "value"].map(|part| format!("{kind}_{part}_{layer}"));
        layers.flat_map(parts).collect()
    }

    /// Takes pictures `[windows, bands, columns]` to what the decoder looks at. A processor takes one after the
    /// other, which is as fast, so that it needs no more memory on the way than for one.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Shape`].
    pub fn encode(&mut self, pictures: &Array3<f32>) -> Result<Cross> {
        let names = self.caches("cross");
        let windows = pictures.len_of(Axis(0));
        if self.resident || windows == 1 {
            let pictures = Tensor::from_array(pictures.clone())?;
            let mut outputs = self.encoder.run(&[("mel", &pictures)])?;
            let take = |name: String| Ok((name.clone(), outputs.take(&name)?));
            return Ok(Cross {
                tensors: names.into_iter().map(take).collect::<Result<_>>()?,
                windows,
            });
        }
        let mut all: Vec<Array4<f32>> =
            names.iter().map(|_| Array4::zeros(self.cross_shape(windows))).collect();
        for (place, picture) in pictures.outer_iter().enumerate() {
            let picture = Tensor::from_array(picture.insert_axis(Axis(0)).to_owned())?;
            let mut outputs = self.encoder.run(&[("mel", &picture)])?;
            for (name, all) in names.iter().zip(&mut all) {
                let one = outputs.take(name)?;
                let one = four(&one, "cross", self.cross_shape(1))?;
                all.slice_mut(s![place..=place, .., .., ..]).assign(&one);
            }
        }
        let tensor = |(name, all)| Ok((name, Tensor::from_array(all)?));
        let tensors = names.into_iter().zip(all).map(tensor).collect::<Result<_>>()?;
        Ok(Cross { tensors, windows })
    }

    /// The shape of the keys, or the values, of some windows.
    fn cross_shape(&self, windows: usize) -> [usize; 4] {
        let Whisper { decoder_heads, audio_positions, .. } = &self.sizes;
        let [heads, positions] = [*decoder_heads, *audio_positions].map(|size| size as usize);
        [windows, heads, positions, self.sizes.head_width()]
    }

    /// The encoder's output, `[windows, positions, width]`.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn memory(&mut self, pictures: &Array3<f32>) -> Result<ArrayD<f32>> {
        let pictures = Tensor::from_array(pictures.clone())?;
        let memory = self.encoder.run(&[("mel", &pictures)])?.take("memory")?;
        Ok(memory.view::<f32>()?.to_owned())
    }

    /// What the decoder looks at of some of the windows, in the order of `places`.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Shape`].
    pub fn select(
        &mut self,
        cross: &Cross,
        pictures: &Array3<f32>,
        places: &[usize],
    ) -> Result<Cross> {
        if self.resident {
            return self.encode(&pictures.select(Axis(0), places));
        }
        let shape = self.cross_shape(cross.windows);
        let chosen = |(name, tensor): &(String, Tensor)| {
            let view = four(tensor, "cross", shape)?;
            Ok((name.clone(), Tensor::from_array(view.select(Axis(0), places))?))
        };
        let tensors = cross.tensors.iter().map(chosen).collect::<Result<_>>()?;
        Ok(Cross { tensors, windows: places.len() })
    }

    /// A decoder that has read nothing; `padding` is how many positions of each row will be empty.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn start(&self, padding: Vec<usize>) -> Result<Past> {
        let sizes = &self.sizes;
        let shape = (padding.len(), sizes.decoder_heads as usize, 0, sizes.head_width());
        let empty = |_| Ok(Tensor::from_array(Array4::<f32>::zeros(shape))?);
        let tensors = (0..2 * sizes.decoder_layers).map(empty).collect::<Result<_>>()?;
        Ok(Past { tensors, length: 0, padding })
    }

    /// Reads more tokens, `[rows, length]`. `rows` says which row of the past each goes on from; there
    /// are as many rows to each window. The answer is the logits behind the last token, `[rows, vocab]`.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn read(
        &mut self,
        cross: &Cross,
        past: &mut Past,
        tokens: &Array2<i64>,
        rows: &[usize],
    ) -> Result<Tensor> {
        past.padding = rows.iter().map(|row| past.padding[*row]).collect();
        let (length, total) = (tokens.ncols(), past.length + tokens.ncols());
        let position = |(row, column): (usize, usize)| {
            signed((past.length + column).saturating_sub(past.padding[row]))
        };
        let positions = Array2::from_shape_fn(tokens.raw_dim(), position);
        let padded = past.padding.iter().any(|padding| *padding > 0);
        let masks = if padded { rows.len() } else { 1 };
        let mask = Array4::from_shape_fn((masks, 1, length, total), |(row, _, query, key)| {
            let empty = padded && key < past.padding[row];
            if empty || key > past.length + query { HIDDEN } else { 0.0 }
        });
        let index: ndarray::Array1<i64> = rows.iter().map(|row| signed(*row)).collect();
        let given = [
            ("tokens", Tensor::from_array(tokens.clone())?),
            ("positions", Tensor::from_array(positions)?),
            ("mask", Tensor::from_array(mask)?),
            ("row_index", Tensor::from_array(index)?),
        ];
        let names = self.caches("past");
        let mut inputs: Vec<(&str, &Tensor)> =
            given.iter().map(|(name, tensor)| (*name, tensor)).collect();
        inputs.extend(cross.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        inputs.extend(names.iter().map(String::as_str).zip(&past.tensors));
        let mut outputs = self.decoder.run(&inputs)?;
        let present = self.caches("present");
        past.tensors = present.iter().map(|name| Ok(outputs.take(name)?)).collect::<Result<_>>()?;
        past.length = total;
        Ok(outputs.take("logits")?)
    }

    /// Where the alignment heads look while the texts `[windows, length]` are read: scores before the
    /// softmax, `[windows, heads, length, positions]`.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Shape`].
    pub fn align(&mut self, cross: &Cross, tokens: &Array2<i64>) -> Result<Array4<f32>> {
        let length = tokens.ncols();
        let positions = Array2::from_shape_fn(tokens.raw_dim(), |(_, column)| signed(column));
        let mask =
            Array4::from_shape_fn(
                (1, 1, length, length),
                |(_, _, query, key)| {
                    if key > query { HIDDEN } else { 0.0 }
                },
            );
        let given = [
            ("tokens", Tensor::from_array(tokens.clone())?),
            ("positions", Tensor::from_array(positions)?),
            ("mask", Tensor::from_array(mask)?),
        ];
        let mut inputs: Vec<(&str, &Tensor)> =
            given.iter().map(|(name, tensor)| (*name, tensor)).collect();
        // Layers above the last alignment head have no part in it.
        let wanted = |name: &str| self.aligner.inputs().iter().any(|input| input == name);
        let cross = cross.tensors.iter().filter(|(name, _)| wanted(name));
        inputs.extend(cross.map(|(name, tensor)| (name.as_str(), tensor)));
        let scores = self.aligner.run(&inputs)?.take("scores")?;
        let shape = [
            tokens.nrows(),
            self.sizes.alignment_heads.len(),
            length,
            self.sizes.audio_positions as usize,
        ];
        Ok(four(&scores, "scores", shape)?.to_owned())
    }
}

/// What is in a tensor that must have this shape.
fn four<'a>(
    tensor: &'a Tensor,
    output: &'static str,
    expected: [usize; 4],
) -> Result<ArrayView4<'a, f32>> {
    let wrong = || Error::Shape { output, found: tensor.shape(), expected: expected.to_vec() };
    let view = tensor.view::<f32>()?.into_dimensionality::<Ix4>().map_err(|_| wrong())?;
    if view.shape() == expected { Ok(view) } else { Err(wrong()) }
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
