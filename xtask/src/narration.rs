//! Narrated videos: real footage with sentences spoken over it at known times, a side-car, and the truth about both.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::children;
use crate::error::{Error, Result};
use crate::fetch::{hex, obtain};
use crate::parts;
use crate::python::environment;
use crate::workspace::{Draft, Workspace, say, write};

const SPEAK: &str = include_str!("speak.py");

/// What is said over a video: the moments in milliseconds, and the sentences.
pub(crate) type Script = [(u64, &'static str)];

/// Said over the trailer of Big Buck Bunny, of what is to be seen.
pub(crate) const BUNNY: &Script = &[
    (2_000, "Pink clouds drift over a green valley."),
    (10_300, "A fat purple bird sings on a branch."),
    (15_500, "A big rabbit sleeps in a dark burrow."),
    (24_500, "The rabbit crawls out and stretches his arms."),
    (32_300, "Three small animals laugh beside a tree."),
    (36_200, "The rabbit runs across the meadow."),
    (40_200, "He turns around and looks surprised."),
    (46_500, "The rabbit stares and plans his revenge."),
];

/// Said over the Earth at night.
pub(crate) const EARTH: &Script = &[
    (1_000, "The Earth turns slowly in the dark."),
    (6_000, "City lights shine over Europe and Africa."),
    (14_500, "The lights of North America come into view."),
    (20_500, "The Pacific Ocean is almost black."),
    (26_000, "Lights appear over Asia again."),
];

/// A sentence that was spoken: milliseconds from the start of the video, half-open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Spoken {
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    pub(crate) text: &'static str,
}

/// A narration as sound: one file a sentence.
#[derive(Debug)]
pub(crate) struct Narration {
    pub(crate) spoken: Vec<Spoken>,
    sounds: Vec<PathBuf>,
}

/// Speaks a script, or finds it spoken in the cache. The caller holds the cache's lock.
pub(crate) fn speak(workspace: &Workspace, script: &Script) -> Result<Narration> {
    let digest =
        hex(&Sha256::digest(format!("{SPEAK}{script:?}{:?}{:?}", parts::VOICE, parts::ESPEAK)));
    let place = workspace.cache().join("speech").join(&digest[..16]);
    let lengths_file = place.join("lengths.json");
    if !lengths_file.exists() {
        let voice = obtain(workspace, &parts::VOICE)?;
        let espeak = obtain(workspace, &parts::ESPEAK)?;
        let python = environment(workspace, &parts::SPEECH)?;
        say("speak", &format!("{} sentences", script.len()));
        let draft = Draft::start(&place)?;
        let mut command = Command::new(python);
        command.args(["-c", SPEAK]).arg(voice.join("voice.onnx"));
        command
            .arg(espeak.join("libespeak-ng.so"))
            .arg(espeak.join("espeak-ng-data"))
            .arg(draft.folder());
        let lengths = children::output(command.args(script.iter().map(|(_, sentence)| sentence)))?;
        write(&draft.folder().join("lengths.json"), lengths)?;
        draft.finish()?;
    }
    let lengths = std::fs::read(&lengths_file).map_err(Error::file("read", &lengths_file))?;
    let lengths: Vec<u64> = serde_json::from_slice(&lengths)
        .map_err(|source| Error::Answer { program: "speak.py", source })?;
    Ok(Narration {
        spoken: timed(script, &lengths),
        sounds: (0..script.len()).map(|number| place.join(format!("{number}.wav"))).collect(),
    })
}

fn timed(script: &Script, lengths: &[u64]) -> Vec<Spoken> {
    let sentences = script.iter().zip(lengths);
    sentences
        .map(|(&(start_ms, text), length)| Spoken { start_ms, end_ms: start_ms + length, text })
        .collect()
}

impl Narration {
    /// Writes `to`: the pictures of `from` as they are, its sound turned down, and the narration over it.
    pub(crate) fn lay_over(&self, ffmpeg: &Path, from: &Path, to: &Path) -> Result<()> {
        let mut command = Command::new(ffmpeg);
        command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(from);
        for sound in &self.sounds {
            command.arg("-i").arg(sound);
        }
        command.args([
            "-filter_complex",
            &mix(&self.spoken),
            "-map",
            "0:v:0",
            "-map",
            "[mix]",
            "-c:v",
            "copy",
        ]);
        command.args([
            "-c:a",
            "aac",
            "-b:a",
            "128k",
            "-ar",
            "44100",
            "-ac",
            "2",
            "-map_metadata",
            "-1",
        ]);
        command.args(["-fflags", "+bitexact", "-flags:a", "+bitexact", "-movflags", "+faststart"]);
        children::output(command.arg(to))?;
        Ok(())
    }

    /// Writes `to`, a sound: the narration over silence.
    pub(crate) fn over_silence(&self, ffmpeg: &Path, to: &Path) -> Result<()> {
        let end_ms = self.spoken.last().map_or(0, |spoken| spoken.end_ms);
        let silence = format!("anullsrc=r=44100:cl=mono:d={}", end_ms / 1000 + 2);
        let mut command = Command::new(ffmpeg);
        command.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &silence]);
        for sound in &self.sounds {
            command.arg("-i").arg(sound);
        }
        command.args(["-filter_complex", &mix(&self.spoken), "-map", "[mix]", "-ar", "16000"]);
        children::output(command.arg(to))?;
        Ok(())
    }

    /// The side-car with what is said when.
    pub(crate) fn side_car(&self) -> String {
        web_vtt(&self.spoken)
    }
}

/// Cues as a WebVTT file.
pub(crate) fn web_vtt(cues: &[Spoken]) -> String {
    cues.iter().fold("WEBVTT\n".to_owned(), |mut text, cue| {
        let _ = write!(text, "\n{} --> {}\n{}\n", clock(cue.start_ms), clock(cue.end_ms), cue.text);
        text
    })
}

/// The filter that moves each sentence to its time and adds it to the video's own sound.
fn mix(spoken: &[Spoken]) -> String {
    let mut graph = "[0:a]volume=0.2[bed];".to_owned();
    let mut inputs = "[bed]".to_owned();
    for (number, sentence) in spoken.iter().enumerate() {
        let input = number + 1;
        let _ = write!(
            graph,
            "[{input}:a]aresample=44100,adelay={}:all=1[s{input}];",
            sentence.start_ms
        );
        let _ = write!(inputs, "[s{input}]");
    }
    let count = spoken.len() + 1;
    let _ = write!(graph, "{inputs}amix=inputs={count}:duration=first:normalize=0[mix]");
    graph
}

/// `hh:mm:ss.mmm`.
fn clock(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{rest:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_cues_as_players_read_them() {
        let cues = [Spoken { start_ms: 3_723_004, end_ms: 3_724_000, text: "Hello." }];
        assert_eq!(web_vtt(&cues), "WEBVTT\n\n01:02:03.004 --> 01:02:04.000\nHello.\n");
    }

    #[test]
    fn delays_every_sentence_and_keeps_the_length_of_the_video() {
        let spoken = timed(&[(500, "One."), (2_000, "Two.")], &[400, 900]);
        assert_eq!(spoken[1], Spoken { start_ms: 2_000, end_ms: 2_900, text: "Two." });
        assert_eq!(
            mix(&spoken),
            "[0:a]volume=0.2[bed];[1:a]aresample=44100,adelay=500:all=1[s1];\
             [2:a]aresample=44100,adelay=2000:all=1[s2];[bed][s1][s2]amix=inputs=3:duration=first:normalize=0[mix]"
        );
    }

    #[test]
    fn sentences_come_in_order_and_leave_time_to_be_said() {
        for script in [BUNNY, EARTH] {
            for pair in script.windows(2) {
                // The voice says about fifteen letters a second.
                let length = pair[0].1.len() as u64 * 1000 / 15;
                assert!(pair[0].0 + length < pair[1].0, "{} runs into {}", pair[0].1, pair[1].1);
            }
        }
    }
}
