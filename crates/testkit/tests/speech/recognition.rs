//! What a real Whisper hears.

use eventide_model::{
    runtime::{Runtime, SessionOptions},
    speech::{
        Conversation, Evidence, Heard, Listener, Recogniser, RecognitionOptions, Request,
        SpeechBundle, SpeechWindow, Word,
        sentences::{SentenceOptions, sentences},
    },
};
use eventide_testkit::{tools, whisper};
use eventide_training::Style;
use rstest::rstest;
use tempfile::TempDir;

use crate::sound::{narration, recording};

/// What is read aloud in `two_cities.wav`: the first paragraph of Dickens's novel, as far as it goes.
const TWO_CITIES: &str = "it was the best of times it was the worst of times it was the age of wisdom it was \
    the age of foolishness it was the epoch of belief it was the epoch of incredulity it was the season of \
    light it was the season of darkness it was the spring of hope it was the winter of despair we had \
    everything before us we had nothing before us we were all going direct to heaven we were all going \
    direct the other way in short the period was so far like the present period that some of its noisiest \
    authorities insisted on its being received for good or for evil in the superlative degree of \
    comparison only";

fn recogniser(size: whisper::Size, options: RecognitionOptions) -> (TempDir, Recogniser) {
    let (tools, folder) = (tools().unwrap(), TempDir::new().unwrap());
    let place = folder.path().join("bundle");
    whisper::bundle(&tools, size, &place, Style::Fused).unwrap();
    let bundle = SpeechBundle::open(&place).unwrap();
    let runtime = Runtime::load(&tools.onnx_runtime().unwrap()).unwrap();
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    (folder, Recogniser::load(&bundle, &runtime, &session, options).unwrap())
}

fn words(heard: &[Heard]) -> Vec<Word> {
    heard.iter().flat_map(|heard| heard.words.clone()).collect()
}

fn plain(text: &str) -> Vec<String> {
    let letters =
        |c: char| if c.is_alphanumeric() || c == '\'' { c.to_ascii_lowercase() } else { ' ' };
    let text: String = text.chars().map(letters).collect();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Words that have to be put in, left out or changed.
fn errors(found: &str, expected: &str) -> usize {
    strsim::generic_levenshtein(&plain(found), &plain(expected))
}

#[test]
fn base_hears_every_word_and_when() {
    let (_folder, mut recogniser) = recogniser(whisper::Size::Base, RecognitionOptions::default());
    let sound = recording("two_cities.wav");
    let heard = recogniser.transcribe(&sound, None, false, &|| false).unwrap();
    assert_eq!(heard[0].language, "en");
    let words = words(&heard);
    let text: String = words.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(errors(&text, TWO_CITIES), 0, "{text}");
    let ordered = words.windows(2).all(|pair| pair[0].span.start <= pair[1].span.start);
    assert!(ordered && words.iter().all(|word| word.span.start <= word.span.end));
    let sentences = sentences(&words, "en", &SentenceOptions::default());
    let first = sentences.iter().find(|sentence| sentence.text.contains("best of times")).unwrap();
    let second = sentences
        .iter()
        .find(|sentence| {
            sentence.text.contains("we had everything")
                || sentence.text.contains("We had everything")
        })
        .unwrap();
    // By ear and by the picture of the sound.
    assert!(first.span.start.abs_diff(16_000 * 12 / 10) < 16_000 * 3 / 10, "{first:?}");
    assert!(second.span.start.abs_diff(16_000 * 2125 / 100) < 16_000 * 3 / 10, "{second:?}");
}

#[test]
fn a_narrator_is_heard_when_he_speaks() {
    let (_folder, mut recogniser) = recogniser(whisper::Size::Base, RecognitionOptions::default());
    let (mut wrong, mut all) = (0, 0);
    for name in ["bunny", "earth"] {
        let (sound, spoken) = narration(name);
        let heard = recogniser.transcribe(&sound, None, false, &|| false).unwrap();
        let found = sentences(&words(&heard), "en", &SentenceOptions::default());
        assert_eq!(found.len(), spoken.len(), "{found:#?}");
        for (found, spoken) in found.iter().zip(&spoken) {
            let text = spoken["text"].as_str().unwrap();
            let missed = errors(&found.text, text);
            assert!(missed <= 1, "`{text}`: {found:?}");
            (wrong, all) = (wrong + missed, all + plain(text).len());
            let off =
                |sample: u64, name: &str| (sample / 16).abs_diff(spoken[name].as_u64().unwrap());
            let off = [off(found.span.start, "start_ms"), off(found.span.end, "end_ms")];
            assert!(off.iter().all(|ms| *ms <= 300), "`{text}` is off by {off:?} ms");
        }
    }
    assert!(wrong * 100 <= all * 3, "{wrong} of {all} words are wrong");
}

#[test]
fn another_language_is_told_and_heard() {
    let (_folder, mut recogniser) = recogniser(whisper::Size::Base, RecognitionOptions::default());
    let (sound, spoken) = narration("japanese");
    let heard = recogniser.transcribe(&sound, None, false, &|| false).unwrap();
    assert_eq!(heard[0].language, "ja");
    assert!(heard[0].language_probability > 0.9, "{}", heard[0].language_probability);
    let said = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let expected: String = spoken.iter().map(|said| said["text"].as_str().unwrap()).collect();
    let words = words(&heard);
    let found: String = words.iter().map(|word| word.text.as_str()).collect();
    let (found, expected) = (said(&found), said(&expected));
    // Japanese is written in more than one way, and this Whisper is small: one character in four may be another.
    let wrong = strsim::levenshtein(&found, &expected);
    assert!(wrong * 4 <= expected.chars().count(), "{wrong} characters of {expected}: {found}");
    // A script without spaces has words of a character, each within what is said.
    let ends = [&spoken[0]["start_ms"], &spoken[spoken.len() - 1]["end_ms"]];
    let [start, end] = ends.map(|ms| ms.as_u64().unwrap() * 16);
    let margin = 16 * 300;
    assert!(words[0].span.start.abs_diff(start) <= margin, "{:?}", words[0]);
    assert!(words[words.len() - 1].span.end.abs_diff(end) <= margin, "{:?}", words.last());
    assert!(words.len() > expected.chars().count() / 2, "{words:?}");
    // Asked for another language, it writes that.
    let told = recogniser.transcribe(&sound, Some("en"), false, &|| false).unwrap();
    assert!(told.iter().all(|heard| heard.language == "en"), "{told:?}");
}

/// Sentences below this confidence are left out unless a job says otherwise.
const LEAST_CONFIDENCE: f32 = 0.5;

#[test]
fn music_says_nothing() {
    let (_folder, mut recogniser) = recogniser(whisper::Size::Base, RecognitionOptions::default());
    let sound = recording("big-buck-bunny-trailer.mp4");
    let loudest = sound.iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
    assert!(loudest > 0.1, "there is music");
    let heard = recogniser.transcribe(&sound, None, false, &|| false).unwrap();
    let mut found = sentences(&words(&heard), "en", &SentenceOptions::default());
    found.retain(|sentence| sentence.confidence >= LEAST_CONFIDENCE);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_was_said_before_can_be_told() {
    let (_folder, mut recogniser) =
        recogniser(whisper::Size::TinyEnglish, RecognitionOptions::default());
    let heard = recogniser.transcribe(&recording("two_cities.wav"), Some("en"), true, &|| false);
    let text: String = words(&heard.unwrap()).iter().map(|word| word.text.clone()).collect();
    // One word in twenty may be wrong: this Whisper is the smallest.
    assert!(errors(&text, TWO_CITIES) <= 6, "{text}");
}

#[rstest]
#[case::the_smallest(whisper::Size::TinyEnglish)]
#[case::base(whisper::Size::Base)]
fn windows_are_heard_alike_in_any_company(#[case] size: whisper::Size) {
    let options = RecognitionOptions { batch: 3, ..RecognitionOptions::default() };
    let (_folder, mut recogniser) = recogniser(size, options);
    let requests = requests(&mut recogniser);
    let together = recogniser.recognise(&requests, &|| false).unwrap();
    assert!(together.iter().all(|heard| !heard.words.is_empty()));
    check_alone(&mut recogniser, &requests, &together);
}

/// The three windows of two recordings.
fn requests(recogniser: &mut Recogniser) -> Vec<Request> {
    let mut windows = Vec::new();
    for name in ["beckett.wav", "two_cities.wav"] {
        let mut listener = Listener::default();
        windows.extend(recogniser.hear(&mut listener, &recording(name)).unwrap());
        windows.extend(recogniser.finish(listener).unwrap());
    }
    let mut conversation = Conversation::new(Some("en".to_owned()), false);
    conversation.add(windows);
    let requests = conversation.next(8);
    assert_eq!(requests.len(), 3);
    requests
}

/// Fails unless each window alone says what it said in company.
fn check_alone(recogniser: &mut Recogniser, requests: &[Request], together: &[Heard]) {
    let told = |heard: &Heard| {
        let words = heard.words.iter().map(|word| (word.text.clone(), word.span.clone()));
        (heard.tokens.clone(), words.collect::<Vec<_>>(), heard.temperature)
    };
    for (request, expected) in requests.iter().zip(together) {
        let alone = recogniser.recognise(std::slice::from_ref(request), &|| false).unwrap();
        assert_eq!(told(&alone[0]), told(expected));
    }
}

/// A temperature above 0 is tried for whatever is less likely than the likeliest window.
#[test]
fn windows_that_are_doubted_are_tried_again_and_no_others() {
    let options = RecognitionOptions {
        batch: 3,
        temperatures: vec![0.0],
        most_compression: f32::INFINITY,
        most_silence: 1.0,
        ..RecognitionOptions::default()
    };
    let (_folder, mut recogniser) = recogniser(whisper::Size::TinyEnglish, options.clone());
    let requests = requests(&mut recogniser);
    let easily = recogniser.recognise(&requests, &|| false).unwrap();
    let mut likely: Vec<f32> = easily.iter().map(|heard| heard.evidence.log_probability).collect();
    likely.sort_by(f32::total_cmp);
    let [_, second, best] = likely[..] else { panic!("{likely:?}") };
    // One window passes, the others never do.
    let gate = f32::midpoint(second, best);
    let temperatures = vec![0.0, 0.4, 1.0];
    let strict = RecognitionOptions { least_log_probability: gate, temperatures, ..options };
    let (_folder, mut recogniser) = self::recogniser(whisper::Size::TinyEnglish, strict);
    let together = recogniser.recognise(&requests, &|| false).unwrap();
    for (easily, together) in easily.iter().zip(&together) {
        let passes = easily.evidence.log_probability >= gate;
        let last_tried = if passes { 0.0 } else { 1.0 };
        let off = (together.temperature - last_tried).abs();
        assert!(off < 1e-6, "{} for {:?}", together.temperature, together.evidence);
        // The best of all attempts, which the first of them is one of.
        assert!(together.evidence.log_probability >= easily.evidence.log_probability);
        assert!(!passes || together == easily);
        assert!(!together.words.is_empty());
    }
    check_alone(&mut recogniser, &requests, &together);
}

/// Noise makes Whisper say something: the gate for silence holds it back.
#[test]
fn what_seems_silent_and_is_unlikely_says_nothing() {
    let options = RecognitionOptions { temperatures: vec![0.0], ..RecognitionOptions::default() };
    let samples = noise(10);
    let voiced = std::iter::once(0..samples.len()).collect();
    let window = SpeechWindow { start: 0, samples, voiced };
    let request = Request { window, language: Some("en".to_owned()), previous: Vec::new() };
    let heard = |options: RecognitionOptions| {
        let (_folder, mut recogniser) = recogniser(whisper::Size::TinyEnglish, options);
        recogniser.recognise(std::slice::from_ref(&request), &|| false).unwrap().remove(0)
    };
    let open = heard(RecognitionOptions { most_silence: 1.0, ..options.clone() });
    let Evidence { log_probability, silence, .. } = open.evidence;
    assert!(!open.words.is_empty(), "{open:?}");
    let least_log_probability = log_probability + 0.1;
    let gated = |most_silence| {
        heard(RecognitionOptions { most_silence, least_log_probability, ..options.clone() })
    };
    let closed = gated(silence - 0.05);
    assert_eq!((closed.words.len(), closed.tokens.len()), (0, 0), "{closed:?}");
    assert_eq!(closed.evidence, open.evidence);
    assert_eq!(gated(silence + 0.05).words, open.words, "it does not seem silent enough");
}

/// Windows that know what was said before, each as much as it does.
#[test]
fn prompts_of_different_lengths_share_a_run() {
    let options = RecognitionOptions { batch: 3, ..RecognitionOptions::default() };
    let (_folder, mut recogniser) = recogniser(whisper::Size::TinyEnglish, options);
    let mut requests = requests(&mut recogniser);
    let said = recogniser.recognise(&requests, &|| false).unwrap();
    requests[1].previous = said[0].tokens.clone();
    requests[2].previous = [said[0].tokens.clone(), said[1].tokens.clone()].concat();
    let lengths: Vec<usize> = requests.iter().map(|request| request.previous.len()).collect();
    assert!(lengths.is_sorted_by(|one, other| one < other), "{lengths:?}");
    let together = recogniser.recognise(&requests, &|| false).unwrap();
    check_alone(&mut recogniser, &requests, &together);
}

#[test]
fn base_hears_hardly_another_word_without_beams() {
    let options = RecognitionOptions { beams: 1, ..RecognitionOptions::default() };
    let (_folder, mut recogniser) = recogniser(whisper::Size::Base, options);
    let heard = recogniser.transcribe(&recording("two_cities.wav"), Some("en"), false, &|| false);
    let text: String = words(&heard.unwrap()).iter().map(|word| word.text.clone()).collect();
    // `Noisiest` comes as two words.
    assert!(errors(&text, TWO_CITIES) <= 2, "{text}");
}

/// So many seconds of noise.
fn noise(seconds: usize) -> Vec<f32> {
    let mut noise = 1_u64;
    let sample = |_| {
        noise = eventide_testkit::scrambled(noise);
        f32::from(u16::try_from(noise >> 48).unwrap()) / 65_536.0 - 0.5
    };
    (0..seconds * 16_000).map(sample).collect()
}

#[test]
fn what_is_no_speech_says_nothing() {
    let (_folder, mut recogniser) =
        recogniser(whisper::Size::TinyEnglish, RecognitionOptions::default());
    let second = |second: usize| second * 16_000;
    let tones = [220.0_f32, 277.2, 329.6];
    let chord: Vec<f32> = (0..second(20))
        .map(|i| {
            let at = f32::from(u16::try_from(i % 16_000).unwrap()) / 16_000.0;
            tones.iter().map(|tone| (tone * at * std::f32::consts::TAU).sin()).sum::<f32>() * 0.2
        })
        .collect();
    for (name, sound) in
        [("silence", vec![0.0; second(70)]), ("noise", noise(20)), ("a chord", chord)]
    {
        // Not even a window: what the voice detector leaves out costs nothing.
        let mut listener = Listener::default();
        let mut windows = recogniser.hear(&mut listener, &sound).unwrap();
        windows.extend(recogniser.finish(listener).unwrap());
        assert_eq!(windows, [], "{name}");
        assert!(recogniser.transcribe(&sound, None, false, &|| false).unwrap().is_empty());
    }
    assert!(recogniser.transcribe(&[], None, false, &|| false).unwrap().is_empty());
}

#[test]
fn a_stop_is_obeyed() {
    let (_folder, mut recogniser) =
        recogniser(whisper::Size::TinyEnglish, RecognitionOptions::default());
    let error =
        recogniser.transcribe(&recording("beckett.wav"), None, false, &|| true).unwrap_err();
    assert_eq!(error.reason_code(), Some("cancelled"));
}
