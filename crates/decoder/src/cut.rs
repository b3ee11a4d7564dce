//! From packets to wanted pictures: where to start, what to pass over, when to stop.

use std::io::Write;

use ffmpeg_next::{
    Discard, Packet, Rational, codec, decoder, format, frame, log, media, picture, threading,
};

use crate::{
    Arguments, Error, Result, Wanted,
    scale::{Scaler, upright},
};

/// Writes all wanted pictures to `pictures`.
pub(crate) fn run(arguments: &Arguments, pictures: &mut dyn Write) -> Result<()> {
    ffmpeg_next::init()?;
    log::set_level(log::Level::Error);
    let mut video = Video::open(arguments)?;
    // Those that one key picture leads to are neighbours.
    for group in arguments.wanted.chunk_by(|a, b| a.key == b.key) {
        video.bring(group, pictures)?;
    }
    Ok(())
}

/// What is still to come of a group.
struct Left {
    /// The key picture, until it is seen.
    key: Option<i64>,
    /// Wanted pictures, increasing.
    at: Vec<i64>,
}

/// A video stream that is being decoded.
struct Video {
    input: format::context::Input,
    stream: usize,
    base: Rational,
    decoder: decoder::Video,
    scaler: Scaler,
}

impl Video {
    fn open(arguments: &Arguments) -> Result<Self> {
        let options =
            [("protocol_whitelist", "file"), ("format_whitelist", arguments.containers.as_str())];
        let input = format::input_with_dictionary(&arguments.file, options.into_iter().collect())?;
        let stream = input.stream(arguments.stream).ok_or(Error::NoStream(arguments.stream))?;
        let base = stream.time_base();
        let upright = upright(&stream)?;
        let mut context = codec::Context::from_parameters(stream.parameters())?;
        if context.medium() != media::Type::Video {
            return Err(Error::NoStream(arguments.stream));
        }
        context.set_threading(threading::Config {
            kind: threading::Type::Frame,
            count: arguments.threads,
            ..Default::default()
        });
        let codec = decoder::find(context.id()).ok_or(Error::NoStream(arguments.stream))?;
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(base);
        let most = arguments.max_pixels.to_string();
        let options = [("max_pixels", most.as_str())].into_iter().collect();
        let decoder = decoder.open_as_with(codec, options)?.video()?;
        let filters = format!("{upright}{}", arguments.filters);
        Ok(Self {
            input,
            stream: arguments.stream,
            base,
            decoder,
            scaler: Scaler::new(filters, base),
        })
    }

    /// Writes the pictures of `group`, which have one key picture.
    fn bring(&mut self, group: &[Wanted], pictures: &mut dyn Write) -> Result<()> {
        let Some(first) = group.first() else { return Ok(()) };
        self.seek(first.key)?;
        let mut left: Vec<i64> = group.iter().map(|wanted| wanted.at).collect();
        left.dedup();
        let mut packet = self.key_packet(first.key)?;
        // Packets are not in the order of their pictures: the last one wanted may come before others that are.
        let mut to_send = left.clone();
        let mut left = Left { key: Some(first.key), at: left };
        loop {
            let at = packet.pts();
            let is_wanted = at.is_none_or(|at| left.at.contains(&at));
            let passed_over = if is_wanted { Discard::Default } else { Discard::NonReference };
            self.decoder.skip_frame(passed_over);
            self.decoder.send_packet(&packet).map_err(|_| Error::Damaged)?;
            self.take(&mut left, pictures)?;
            if left.at.is_empty() {
                return Ok(());
            }
            to_send.retain(|&wanted| Some(wanted) != at);
            if to_send.is_empty() {
                break; // all that they depend on came before them
            }
            match self.next_packet()? {
                Some(next) => packet = next,
                None => break,
            }
        }
        self.decoder.send_eof()?;
        self.take(&mut left, pictures)?;
        left.at.first().map_or(Ok(()), |&missing| Err(Error::NoPicture(missing)))
    }

    /// Goes to the packet of the key picture at `key`, or before it.
    fn seek(&mut self, key: i64) -> Result<()> {
        self.decoder.flush();
        let scaled = i128::from(key) * i128::from(self.base.numerator()) * 1_000_000;
        // The demultiplexer rounds to ticks: a microsecond more, and it does not fall before the picture.
        let at = scaled.div_euclid(i128::from(self.base.denominator().max(1))) + 1;
        let at = i64::try_from(at).map_err(|_| Error::NoKey(key))?;
        self.input.seek(at, ..at.saturating_add(1)).map_err(|_| Error::NoKey(key))
    }

    /// The packet of the key picture at `key`; those before it are passed by.
    fn key_packet(&mut self, key: i64) -> Result<Packet> {
        while let Some(packet) = self.next_packet()? {
            match packet.pts() {
                Some(at) if at == key && packet.is_key() => return Ok(packet),
                Some(at) if at > key => break,
                _ => {}
            }
        }
        Err(Error::NoKey(key))
    }

    /// The next packet of the stream; `None` at the end of the file.
    fn next_packet(&mut self) -> Result<Option<Packet>> {
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() != self.stream => {}
                Ok(()) if packet.is_corrupt() => return Err(Error::Damaged),
                Ok(()) => return Ok(Some(packet)),
                Err(ffmpeg_next::Error::Eof) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes what the decoder has ready and `left` names, and takes it off `left`.
    fn take(&mut self, left: &mut Left, pictures: &mut dyn Write) -> Result<()> {
        let mut picture = frame::Video::empty();
        while self.decoder.receive_frame(&mut picture).is_ok() {
            if let Some(key) = left.key {
                match picture.timestamp() {
                    // Shown before the key picture, and of those before it: nobody asks for it.
                    Some(at) if at < key => continue,
                    // Only what is whole by itself is a start; a refresh in parts says that it is one too.
                    Some(at) if at == key && picture.kind() == picture::Type::I => left.key = None,
                    _ => return Err(Error::NoKey(key)),
                }
            }
            if picture.is_corrupt() || picture.has_decode_errors() {
                return Err(Error::Damaged);
            }
            let Some(&next) = left.at.first() else { return Ok(()) };
            match picture.timestamp() {
                Some(at) if at == next => {
                    self.scaler.write(&picture, pictures)?;
                    left.at.remove(0);
                }
                Some(at) if at > next => return Err(Error::NoPicture(next)),
                _ => {}
            }
        }
        Ok(())
    }
}
