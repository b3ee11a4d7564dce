//! Upright, scaled, cut: what FFmpeg's filters make of a decoded picture.

use std::io::Write;

use ffmpeg_next::{
    Rational, Stream,
    codec::packet::side_data,
    ffi,
    filter::{self, Graph},
    format, frame,
};

use crate::{Error, Result};

/// One, in the fixed point of a display matrix.
const ONE: i32 = 1 << 16;

/// The filters that set the pictures of a stream upright, as the `ffmpeg` program puts them before all others.
///
/// # Errors
/// [`Error::Turned`] for anything but quarter turns.
pub(crate) fn upright(stream: &Stream<'_>) -> Result<&'static str> {
    let matrix = stream.side_data().find(|data| data.kind() == side_data::Type::DisplayMatrix);
    match matrix {
        None => Ok(""),
        Some(matrix) => turns(matrix.data()).ok_or(Error::Turned),
    }
}

/// The filters for a display matrix: nine numbers of 32 bits, of which four turn.
fn turns(matrix: &[u8]) -> Option<&'static str> {
    let (numbers, _) = matrix.as_chunks::<4>();
    let number = |place: usize| numbers.get(place).map(|&bytes| i32::from_ne_bytes(bytes));
    match [number(0)?, number(1)?, number(3)?, number(4)?] {
        [ONE, 0, 0, ONE] => Some(""),
        [0, ONE, minus, 0] if minus == -ONE => Some("transpose=clock,"),
        [a, 0, 0, b] if a == -ONE && b == -ONE => Some("hflip,vflip,"),
        [0, minus, ONE, 0] if minus == -ONE => Some("transpose=cclock,"),
        _ => None,
    }
}

/// A chain of filters, made for the first picture.
pub(crate) struct Scaler {
    filters: String,
    base: Rational,
    chain: Option<(Form, Graph)>,
}

/// What the filters were made for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Form {
    width: u32,
    height: u32,
    format: format::Pixel,
}

impl Scaler {
    pub(crate) fn new(filters: String, base: Rational) -> Self {
        Self { filters, base, chain: None }
    }

    /// Writes what the filters make of `picture`, row by row.
    pub(crate) fn write(&mut self, picture: &frame::Video, to: &mut dyn Write) -> Result<()> {
        let form =
            Form { width: picture.width(), height: picture.height(), format: picture.format() };
        let made = match self.chain.take() {
            Some(made) => made,
            None => (form, self.chain(form, picture.aspect_ratio())?),
        };
        let (made_for, graph) = self.chain.insert(made);
        if *made_for != form {
            return Err(Error::Changed);
        }
        let (Some(mut source), Some(mut sink)) = (graph.get(SOURCE), graph.get(SINK)) else {
            return Err(Error::Changed);
        };
        source.source().add(picture)?;
        let mut scaled = frame::Video::empty();
        sink.sink().frame(&mut scaled)?;
        if scaled.format() != format::Pixel::RGB24 {
            return Err(Error::Changed);
        }
        let row = usize::try_from(scaled.width()).unwrap_or(0) * 3;
        let rows = usize::try_from(scaled.height()).unwrap_or(0);
        for line in scaled.data(0).chunks(scaled.stride(0)).take(rows) {
            to.write_all(line.get(..row).ok_or(Error::Changed)?)?;
        }
        Ok(())
    }

    fn chain(&self, form: Form, aspect: Rational) -> Result<Graph> {
        let Form { width, height, format } = form;
        let format = ffi::AVPixelFormat::from(format) as i32;
        let Rational(numerator, denominator) = self.base;
        let Rational(wide, high) = aspect;
        let described = format!(
            "video_size={width}x{height}:pix_fmt={format}:time_base={numerator}/{denominator}:\
             pixel_aspect={wide}/{}",
            high.max(1)
        );
        let known = |name| filter::find(name).ok_or(ffmpeg_next::Error::FilterNotFound);
        let mut graph = Graph::new();
        graph.add(&known("buffer")?, SOURCE, &described)?;
        graph.add(&known("buffersink")?, SINK, "")?;
        graph.output(SOURCE, 0)?.input(SINK, 0)?.parse(&self.filters)?;
        graph.validate()?;
        Ok(graph)
    }
}

/// The names of both ends of a chain.
const SOURCE: &str = "in";
const SINK: &str = "out";

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(numbers: [i32; 4]) -> Vec<u8> {
        let [a, b, c, d] = numbers;
        [a, b, 0, c, d, 0, 0, 0, 1 << 30].iter().flat_map(|n: &i32| n.to_ne_bytes()).collect()
    }

    #[test]
    fn quarter_turns_are_known_and_nothing_else() {
        assert_eq!(turns(&matrix([ONE, 0, 0, ONE])), Some(""));
        assert_eq!(turns(&matrix([0, ONE, -ONE, 0])), Some("transpose=clock,"));
        assert_eq!(turns(&matrix([-ONE, 0, 0, -ONE])), Some("hflip,vflip,"));
        assert_eq!(turns(&matrix([0, -ONE, ONE, 0])), Some("transpose=cclock,"));
        for mirrored in [[-ONE, 0, 0, ONE], [0, ONE, ONE, 0], [ONE / 2, 0, 0, ONE]] {
            assert_eq!(turns(&matrix(mirrored)), None);
        }
        assert_eq!(turns(&[0; 8]), None);
    }
}
