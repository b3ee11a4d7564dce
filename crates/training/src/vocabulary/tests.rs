use super::*;
use crate::synth::{Recipe, looks::Split};
use rstest::rstest;
use sentencepiece::SentencePieceProcessor;
use std::fs;

/// What is shown and what is said in the first videos of a data set.
fn said(split: Split, videos: u32) -> (Vec<String>, Vec<String>) {
    let recipe = Recipe::new(5, split);
    let videos: Vec<_> = (0..videos).map(|index| recipe.video(index)).collect();
    let lines = videos.iter().flat_map(|video| video.lines.iter().flatten());
    let lines = lines.map(|line| line.text.clone()).collect();
    (videos.iter().flat_map(|video| video.captions.clone()).collect(), lines)
}

/// Captions and lines of 300 videos.
fn sentences() -> Vec<String> {
    let (captions, lines) = said(Split::Train, 300);
    [captions, lines].concat()
}

fn open(vocabulary: &Vocabulary) -> SentencePieceProcessor {
    let processor = SentencePieceProcessor::from_serialized_proto(&vocabulary.model).unwrap();
    assert_eq!(processor.len(), vocabulary.pieces as usize);
    processor
}

fn ids(processor: &SentencePieceProcessor, text: &str) -> Vec<u32> {
    processor.encode(text).unwrap().into_iter().map(|piece| piece.id).collect()
}

/// The pieces of `text`, where the two libraries agree on them.
fn pieces(processor: &SentencePieceProcessor, text: &str) -> Vec<String> {
    processor.encode(text).unwrap().into_iter().map(|piece| piece.piece).collect()
}

/// The same pieces and scores in the library that trained them.
fn unigram(vocabulary: &Vocabulary) -> Unigram {
    let file = ModelProto::decode(vocabulary.model.as_slice()).unwrap();
    let piece = |piece: SentencePiece| (piece.piece.unwrap(), piece.score.unwrap().into());
    Unigram::from(file.pieces.into_iter().map(piece).collect(), Some(2), false).unwrap()
}

/// `text` comes back, but for doubled spaces and those at its ends.
fn check_round_trip(processor: &SentencePieceProcessor, text: &str) {
    let found = ids(processor, text);
    assert!(found.iter().all(|&id| id > 2), "{text:?}: {found:?}");
    let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).collect();
    assert_eq!(processor.decode_piece_ids(&found).unwrap(), words.join(" "));
}

#[test]
fn special_pieces_and_spaces_are_those_of_t5() {
    let ours = open(&train(sentences(), 400).unwrap());
    let t5 = eventide_testkit::tools().unwrap().t5_tokenizer().unwrap();
    let t5 = SentencePieceProcessor::from_serialized_proto(&fs::read(t5).unwrap()).unwrap();
    for processor in [&ours, &t5] {
        assert_eq!((processor.pad_id(), processor.eos_id()), (Some(0), Some(1)));
        assert_eq!((processor.unk_id(), processor.bos_id()), (2, None));
        assert_eq!(processor.piece_to_id("<pad>").unwrap(), Some(0));
        assert_eq!(processor.piece_to_id("</s>").unwrap(), Some(1));
    }
    for text in ["a red circle", "  A   red\u{2581}circle ", "", " ", "ends."] {
        assert_eq!(ours.normalize(text).unwrap(), t5.normalize(text).unwrap());
    }
}

#[test]
fn four_hundred_pieces_are_a_third_of_the_characters() {
    let (captions, _) = said(Split::Train, 300);
    let vocabulary = train(sentences(), 400).unwrap();
    assert!((200..=400).contains(&vocabulary.pieces), "{}", vocabulary.pieces);
    let processor = open(&vocabulary);
    let characters: usize = captions.iter().map(|caption| caption.chars().count()).sum();
    let tokens: usize = captions.iter().map(|caption| ids(&processor, caption).len()).sum();
    assert!(3 * tokens < characters, "{tokens} tokens, {characters} characters");
    let fewer = open(&train(sentences(), 100).unwrap());
    let more_tokens: usize = captions.iter().map(|caption| ids(&fewer, caption).len()).sum();
    assert!(tokens < more_tokens, "{tokens} {more_tokens}");
}

#[test]
fn both_libraries_cut_unseen_sentences_alike() {
    let vocabulary = train(sentences(), 200).unwrap();
    let (processor, unigram) = (open(&vocabulary), unigram(&vocabulary));
    let (captions, lines) = said(Split::Test, 100);
    for text in captions.iter().chain(&lines) {
        let spaces = format!("▁{}", text.replace(' ', "▁"));
        assert_eq!(pieces(&processor, text), unigram.encode(&spaces).unwrap());
        check_round_trip(&processor, text);
    }
    assert!(captions.len() + lines.len() > 500);
}

#[test]
fn the_order_of_sentences_and_the_threads_do_not_matter() {
    let sentences = sentences();
    let expected = train(&sentences, 300).unwrap();
    let threads = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    threads.install(|| assert_eq!(train(sentences.iter().rev(), 300).unwrap(), expected));
}

/// Characters that occur once, each within a word of its own, are kept by none of the likelier pieces.
#[test]
fn rare_characters_are_pieces_in_every_run_alike() {
    let rare = "a quixotic zebra JUMPS; 7 naïve fjords & Ωmega — 漢字 🐈".to_owned();
    let sentences = [sentences(), vec![rare.clone()]].concat();
    let vocabulary = train(&sentences, 150).unwrap();
    let processor = open(&vocabulary);
    check_round_trip(&processor, &rare);
    for character in rare.chars().filter(|&character| character != ' ') {
        assert!(processor.piece_to_id(&character.to_string()).unwrap().is_some(), "{character}");
    }
    for _ in 0..4 {
        assert_eq!(train(&sentences, 150).unwrap(), vocabulary);
    }
}

#[test]
fn an_unknown_character_is_one_unknown_token() {
    let processor = open(&train(sentences(), 400).unwrap());
    let found = ids(&processor, "a red 凧 circle");
    assert_eq!(found.iter().filter(|&&id| id == 2).count(), 1, "{found:?}");
    assert_eq!(ids(&processor, "</s>").iter().filter(|&&id| id < 2).count(), 0);
}

#[test]
fn no_piece_mixes_words_digits_and_signs() {
    let sentences = ["at 10am: stop. at 10am: stop.", "10am: 20pm: stop. 10am: stop."];
    let vocabulary = train(sentences, 60).unwrap();
    let processor = open(&vocabulary);
    let found = pieces(&processor, "at 10am: stop.");
    for piece in ModelProto::decode(vocabulary.model.as_slice()).unwrap().pieces.split_off(3) {
        let text = piece.piece.unwrap();
        let text = text.strip_prefix(SPACE).unwrap_or(&text);
        let kind = |c: char| (c.is_alphabetic(), c.is_numeric());
        assert!(text.chars().all(|c| kind(c) == kind(text.chars().next().unwrap())), "{text}");
    }
    assert_eq!(found, ["▁at", "▁10", "am", ":", "▁stop", "."]);
}

#[test]
fn few_sentences_give_few_pieces() {
    let sentences = ["a red circle", "a blue circle"];
    let vocabulary = train(sentences, 4000).unwrap();
    assert!((15..60).contains(&vocabulary.pieces), "{}", vocabulary.pieces);
    let processor = open(&vocabulary);
    for sentence in sentences {
        check_round_trip(&processor, sentence);
    }
}

#[rstest]
#[case::nothing(&[], 100, "no sentence has a character")]
#[case::only_spaces(&["", "  ", "\0 "], 100, "no sentence has a character")]
#[case::too_few(&["a red circle"], 11, "11 pieces are too few for the 8 different characters of the sentences: at least 12")]
#[case::none(&["a"], 0, "at least 6 are needed")]
fn refuses(#[case] sentences: &[&str], #[case] pieces: u32, #[case] because: &str) {
    let error = train(sentences, pieces).unwrap_err().to_string();
    assert!(error.contains(because), "{error}");
}
