//! The golden sound of a speech bundle: a spoken sentence, and what was heard in it where the bundle was
//! made. Whoever gets the bundle can tell whether it hears the same on another machine.

use serde::{Deserialize, Serialize};

use crate::{
    bundle::read,
    error::{Error, Result},
    speech::{Recogniser, RecognitionOptions, SpeechBundle, manifest::files, mel::SAMPLE_RATE},
};

/// Bytes of a WAV file before its samples.
const HEADER: usize = 44;
/// What the confidence may differ by where sums are taken in another order.
const TOLERANCE: f32 = 1e-3;

/// What is heard in a sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The language; empty where there was no speech.
    pub language: String,
    /// The text.
    pub text: String,
    /// Its tokens with their times.
    pub tokens: Vec<i64>,
    /// The mean probability of its words, in 0..1.
    pub confidence: f32,
}

impl Expected {
    /// The difference of the confidence from that of `found`, whose text must be the same.
    ///
    /// # Errors
    /// [`Error::Golden`] with what differs.
    pub fn compare(&self, found: &Self) -> Result<f32> {
        let wrong = |problem| Err(Error::Golden { problem });
        if self.language != found.language {
            let (expected, found) = (&self.language, &found.language);
            return wrong(format!("the language is `{found}`, expected `{expected}`"));
        }
        if self.tokens != found.tokens {
            return wrong(format!(
                "the text is `{}`, expected `{}` (tokens {:?}, expected {:?})",
                found.text, self.text, found.tokens, self.tokens
            ));
        }
        let difference = (self.confidence - found.confidence).abs();
        if difference.is_nan() || difference > TOLERANCE {
            let (expected, found) = (self.confidence, found.confidence);
            return wrong(format!(
                "the confidence is {found:.5}, expected {expected:.5} within {TOLERANCE}"
            ));
        }
        Ok(difference)
    }
}

/// What a recogniser hears in a sound now, by the voice detector and then by the network, whatever
/// options it was opened with.
///
/// # Errors
/// Those of [`Recogniser::transcribe`].
pub fn heard(recogniser: &mut Recogniser, samples: &[f32]) -> Result<Expected> {
    // Two texts side by side are enough to tell a decoder that mixes them up.
    let options =
        RecognitionOptions { beams: 2, temperatures: vec![0.0], ..RecognitionOptions::default() };
    let heard = recogniser.with_options(options, |recogniser| {
        recogniser.transcribe(samples, None, false, &|| false)
    })?;
    let words = || heard.iter().flat_map(|heard| &heard.words);
    let count = words().count();
    #[expect(clippy::cast_precision_loss, reason = "a sentence has few words")]
    let confidence = words().map(|word| word.probability).sum::<f32>() / count.max(1) as f32;
    Ok(Expected {
        language: heard.first().map(|heard| heard.language.clone()).unwrap_or_default(),
        text: words().map(|word| word.text.as_str()).collect::<String>().trim().to_owned(),
        tokens: heard.iter().flat_map(|heard| heard.tokens.clone()).collect(),
        confidence,
    })
}

/// Lets a recogniser hear the golden sound of its bundle. The answer is by how much its confidence
/// differs from what is expected; `None` if the bundle has no such sound.
///
/// # Errors
/// [`Error::Golden`] with what differs, [`Error::Read`], [`Error::GoldenFile`], and those of the
/// recogniser.
pub fn verify(bundle: &SpeechBundle, recogniser: &mut Recogniser) -> Result<Option<f32>> {
    let listed = &bundle.manifest().files;
    if ![files::GOLDEN_SOUND, files::GOLDEN_EXPECTED].iter().all(|name| listed.contains_key(*name))
    {
        return Ok(None);
    }
    let (sound, expected) = (bundle.path(files::GOLDEN_SOUND), bundle.path(files::GOLDEN_EXPECTED));
    let samples = samples(&read(&sound)?)
        .map_err(|problem| Error::GoldenFile { path: sound, problem: problem.to_owned() })?;
    let expected: Expected = serde_json::from_slice(&read(&expected)?)
        .map_err(|error| Error::GoldenFile { path: expected, problem: error.to_string() })?;
    expected.compare(&heard(recogniser, &samples)?).map(Some)
}

/// The samples of a WAV file in its plainest form: 16 kHz, one channel, 16 bits, nothing but them.
///
/// # Errors
/// What is wrong with it.
pub fn samples(bytes: &[u8]) -> std::result::Result<Vec<f32>, &'static str> {
    let (header, sound) = bytes.split_at_checked(HEADER).ok_or("it is no WAV file")?;
    if !header.starts_with(b"RIFF") || &header[8..16] != b"WAVEfmt " {
        return Err("it is no WAV file");
    }
    let rate = u32::try_from(SAMPLE_RATE).unwrap_or_default();
    let form: Vec<u8> = [1_u16, 1].into_iter().flat_map(u16::to_le_bytes).collect();
    let rates = [rate, 2 * rate].into_iter().flat_map(u32::to_le_bytes);
    let sizes = [2_u16, 16].into_iter().flat_map(u16::to_le_bytes);
    let form: Vec<u8> = form.into_iter().chain(rates).chain(sizes).collect();
    if header[20..36] != form || &header[36..40] != b"data" {
        return Err("it is not of 16 kHz, one channel and 16 bits");
    }
    let sample = |bytes: &[u8; 2]| f32::from(i16::from_le_bytes(*bytes)) / 32_768.0;
    Ok(sound.as_chunks().0.iter().map(sample).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn expected() -> Expected {
        Expected {
            language: "en".to_owned(),
            text: "Stir it.".to_owned(),
            tokens: vec![50, 7, 8, 60],
            confidence: 0.9,
        }
    }

    #[rstest]
    #[case::another_language(|found: &mut Expected| found.language = "de".to_owned(), "the language is `de`, expected `en`")]
    #[case::another_time(|found: &mut Expected| found.tokens[0] = 51, "tokens [51, 7, 8, 60], expected [50, 7, 8, 60]")]
    #[case::less_sure(|found: &mut Expected| found.confidence = 0.89, "the confidence is 0.89000, expected 0.90000")]
    #[case::no_number(|found: &mut Expected| found.confidence = f32::NAN, "the confidence is NaN")]
    fn what_differs_is_named(#[case] spoil: fn(&mut Expected), #[case] because: &str) {
        let mut found = expected();
        spoil(&mut found);
        let Error::Golden { problem } = expected().compare(&found).unwrap_err() else { panic!() };
        assert!(problem.contains(because), "{problem}");
    }

    #[test]
    fn confidences_may_differ_a_little() {
        let found = Expected { confidence: 0.9005, ..expected() };
        assert!(expected().compare(&found).unwrap() > 4e-4);
    }

    /// A WAV file of so many samples a second, and two samples.
    fn wav(rate: u32) -> Vec<u8> {
        let mut bytes = b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        bytes.extend(rate.to_le_bytes());
        bytes.extend((2 * rate).to_le_bytes());
        bytes.extend(b"\x02\0\x10\0data\x04\0\0\0\0\x40\0\xc0");
        bytes
    }

    #[test]
    fn samples_are_read() {
        assert_eq!(samples(&wav(16_000)).unwrap(), [0.5, -0.5]);
        assert!(samples(&wav(8_000)).unwrap_err().contains("16 kHz"));
        assert!(samples(b"RIFF").unwrap_err().contains("no WAV"));
    }
}
