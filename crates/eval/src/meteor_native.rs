//! A relative of METEOR that needs no other program: words match if they, or their stems, are equal, or if they are
//! synonyms, where the data of WordNet is given.
//!
//! From Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language"
//! (2014), section 2, with the parameters for English. It lacks the paraphrases of METEOR 1.5, its list
//! of function words and its normalisation, so its figures are lower and not comparable; hence its own name.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use rust_stemmers::{Algorithm, Stemmer};

use crate::{Pair, PairScores, ScorerError, SentenceScorer, localisation::count, wordnet::WordNet};

/// Recall counts for this share of the harmonic mean.
const ALPHA: f64 = 0.85;
/// How fast the punishment for scattered matches grows.
const BETA: f64 = 0.2;
/// The largest punishment for scattered matches.
const GAMMA: f64 = 0.6;
/// The weight of a content word; a function word has the rest.
const DELTA: f64 = 0.75;
/// What a match of equal stems is worth; one of equal words is worth 1.
const STEM: f64 = 0.6;
/// What a match of synonyms is worth.
const SYNONYM: f64 = 0.8;
/// How many partial alignments are followed at a time.
const BEAM: usize = 40;
/// The most words of a caption that are looked at; time grows with their square. No captioner writes as many.
const MOST_WORDS: usize = 300;

/// Words that carry little meaning: the most frequent of English. Not the list of METEOR 1.5.
const FUNCTION_WORDS: &[&str] = &[
    "'s", "a", "about", "after", "all", "also", "an", "and", "are", "as", "at", "be", "been",
    "but", "by", "can", "for", "from", "had", "has", "have", "he", "her", "his", "i", "if", "in",
    "into", "is", "it", "its", "more", "n't", "no", "not", "of", "on", "or", "other", "she", "so",
    "some", "than", "that", "the", "their", "them", "then", "there", "they", "this", "to", "up",
    "was", "we", "were", "what", "when", "which", "who", "will", "with", "would", "you",
];

/// The measure `meteor_native`, of exact and stem matches, or `meteor_native_wordnet`, of synonyms too. Never report it
/// as METEOR.
///
/// Looks at the first 300 words of a caption. Remembers every word that it has seen.
pub struct MeteorNative {
    stemmer: Stemmer,
    words: HashMap<String, Word>,
    /// The number of each stem.
    stems: HashMap<String, usize>,
    wordnet: Option<WordNet>,
}

impl Default for MeteorNative {
    fn default() -> Self {
        Self::new()
    }
}

impl MeteorNative {
    /// A scorer for English.
    #[must_use]
    pub fn new() -> Self {
        let stemmer = Stemmer::create(Algorithm::English);
        Self { stemmer, words: HashMap::new(), stems: HashMap::new(), wordnet: None }
    }

    /// The same, with these synonyms.
    #[must_use]
    pub fn with_synonyms(wordnet: WordNet) -> Self {
        Self { wordnet: Some(wordnet), ..Self::new() }
    }

    /// The figures of the best reference; zeros without any.
    fn best(&mut self, pair: &Pair<'_, String>) -> Figures {
        let hypothesis = self.words(pair.hypothesis);
        let each = pair.references.iter().map(|reference| {
            let reference = self.words(reference);
            Figures::of(&hypothesis, &reference)
        });
        each.max_by(|a, b| a.score().total_cmp(&b.score())).unwrap_or_default()
    }

    fn words(&mut self, tokens: &[String]) -> Vec<Word> {
        tokens.iter().take(MOST_WORDS).map(|token| self.word(token)).collect()
    }

    fn word(&mut self, token: &str) -> Word {
        if let Some(word) = self.words.get(token) {
            return word.clone();
        }
        let next = self.stems.len();
        let stem = *self.stems.entry(self.stemmer.stem(token).into_owned()).or_insert(next);
        let function = FUNCTION_WORDS.contains(&token);
        let weight = if function { 1.0 - DELTA } else { DELTA };
        let synsets = self.wordnet.as_ref().map(|wordnet| wordnet.synsets(token));
        let synsets = synsets.unwrap_or_default().into();
        let word = Word { text: self.words.len(), stem, weight, synsets };
        self.words.insert(token.to_owned(), word.clone());
        word
    }
}

impl SentenceScorer for MeteorNative {
    fn name(&self) -> &'static str {
        if self.wordnet.is_some() { "meteor_native_wordnet" } else { "meteor_native" }
    }

    /// The total is that of the added figures of all pairs, as METEOR's is.
    fn score(&mut self, pairs: &[Pair<'_, String>]) -> Result<PairScores, ScorerError> {
        let figures: Vec<_> = pairs.iter().map(|pair| self.best(pair)).collect();
        let mut sum = Figures::default();
        for each in &figures {
            sum.add(each);
        }
        let each = figures.iter().map(Figures::score).collect();
        Ok(PairScores { total: sum.score(), each })
    }
}

#[derive(Clone)]
struct Word {
    /// The same number for the same text, and likewise for stems.
    text: usize,
    stem: usize,
    weight: f64,
    /// The synsets that it is in, sorted.
    synsets: Arc<[(char, u64)]>,
}

impl Word {
    /// What a match of the two is worth, if they match.
    fn matched(&self, other: &Self) -> Option<f64> {
        if self.text == other.text {
            Some(1.0)
        } else if self.stem == other.stem {
            Some(STEM)
        } else {
            let shared = |synset| other.synsets.binary_search(synset).is_ok();
            self.synsets.iter().any(shared).then_some(SYNONYM)
        }
    }
}

/// What a score is computed from. Those of several pairs add up.
#[derive(Debug, Clone, Default)]
struct Figures {
    /// Weights of all words of the hypothesis, and of the reference.
    weight: [f64; 2],
    /// Weights of the matched ones times what their matches are worth.
    matched_weight: [f64; 2],
    /// Words of both.
    words: usize,
    /// Matched words of both.
    matched_words: usize,
    /// Runs of matches that stand together in both; none where the two are the same.
    chunks: usize,
}

impl Figures {
    fn of(hypothesis: &[Word], reference: &[Word]) -> Self {
        let total = |words: &[Word]| words.iter().map(|word| word.weight).sum();
        let alignment = align(hypothesis, reference);
        let mut figures = Self {
            weight: [total(hypothesis), total(reference)],
            words: hypothesis.len() + reference.len(),
            matched_words: 2 * alignment.matches.len(),
            chunks: alignment.chunks,
            ..Self::default()
        };
        for &(ours, theirs, worth) in &alignment.matches {
            figures.matched_weight[0] += hypothesis[ours].weight * worth;
            figures.matched_weight[1] += reference[theirs].weight * worth;
        }
        if figures.chunks == 1 && figures.matched_words == figures.words {
            figures.chunks = 0;
        }
        figures
    }

    fn add(&mut self, other: &Self) {
        for side in 0..2 {
            self.weight[side] += other.weight[side];
            self.matched_weight[side] += other.matched_weight[side];
        }
        self.words += other.words;
        self.matched_words += other.matched_words;
        self.chunks += other.chunks;
    }

    fn score(&self) -> f64 {
        if self.matched_words == 0 {
            return 0.0;
        }
        let precision = self.matched_weight[0] / self.weight[0];
        let recall = self.matched_weight[1] / self.weight[1];
        let mean = precision * recall / (ALPHA * precision + (1.0 - ALPHA) * recall);
        let scattered = 2.0 * count(self.chunks) / count(self.matched_words);
        mean * (1.0 - GAMMA * scattered.powf(BETA))
    }
}

/// The best alignment that was found.
struct Alignment {
    /// Place in the hypothesis, place in the reference, worth; the last one first.
    matches: Vec<(usize, usize, f64)>,
    chunks: usize,
}

/// A partial alignment. Its matches are a chain of [`Link`]s that partial alignments share.
#[derive(Clone, Default)]
struct Partial {
    /// The last match.
    last: Option<usize>,
    matches: usize,
    chunks: usize,
    /// How far matched words are from each other's place, in all.
    distance: usize,
    /// One bit for each word of the reference: whether it is matched.
    taken: [u64; MOST_WORDS.div_ceil(64)],
}

/// A match, and where among all links the one before it is.
struct Link {
    ours: usize,
    theirs: usize,
    worth: f64,
    before: Option<usize>,
}

/// What makes an alignment better than another: the greater, the better. More matches first, then fewer chunks, then
/// less distance.
type Rank = (usize, Reverse<usize>, Reverse<usize>);

impl Partial {
    fn rank(&self) -> Rank {
        (self.matches, Reverse(self.chunks), Reverse(self.distance))
    }

    /// Its rank with one match more.
    fn rank_with(&self, ours: usize, theirs: usize, links: &[Link]) -> Rank {
        let last = self.last.map(|last| &links[last]);
        let follows = last.is_some_and(|last| last.ours + 1 == ours && last.theirs + 1 == theirs);
        (
            self.matches + 1,
            Reverse(self.chunks + usize::from(!follows)),
            Reverse(self.distance + ours.abs_diff(theirs)),
        )
    }

    fn has(&self, theirs: usize) -> bool {
        self.taken[theirs / 64] >> (theirs % 64) & 1 == 1
    }

    /// With the match that `links` ends with.
    fn with_last(
        &self,
        (matches, Reverse(chunks), Reverse(distance)): Rank,
        links: &[Link],
    ) -> Self {
        let mut next = Self { last: Some(links.len() - 1), matches, chunks, distance, ..*self };
        if let Some(link) = links.last() {
            next.taken[link.theirs / 64] |= 1 << (link.theirs % 64);
        }
        next
    }
}

/// The best alignment. Neither side has more than [`MOST_WORDS`].
fn align(hypothesis: &[Word], reference: &[Word]) -> Alignment {
    only_alignment(hypothesis, reference).unwrap_or_else(|| search(hypothesis, reference))
}

/// All matches there are, if no word matches two: then no alignment is better. `None` if one does.
fn only_alignment(hypothesis: &[Word], reference: &[Word]) -> Option<Alignment> {
    let mut best = Partial::default();
    let mut links: Vec<Link> = Vec::new();
    for (ours, word) in hypothesis.iter().enumerate() {
        let others = reference.iter().enumerate();
        let mut candidates =
            others.filter_map(|(theirs, other)| Some((theirs, word.matched(other)?)));
        let Some((theirs, worth)) = candidates.next() else { continue };
        if candidates.next().is_some() || best.has(theirs) {
            return None;
        }
        let rank = best.rank_with(ours, theirs, &links);
        links.push(Link { ours, theirs, worth, before: None });
        best = best.with_last(rank, &links);
    }
    let matches = links.iter().rev().map(|link| (link.ours, link.theirs, link.worth)).collect();
    Some(Alignment { matches, chunks: best.chunks })
}

/// The best alignment among those that a beam finds.
fn search(hypothesis: &[Word], reference: &[Word]) -> Alignment {
    let mut links: Vec<Link> = Vec::new();
    let mut beam = vec![Partial::default()];
    for (ours, word) in hypothesis.iter().enumerate() {
        let others = reference.iter().enumerate();
        let candidates: Vec<_> =
            others.filter_map(|(theirs, other)| Some((theirs, word.matched(other)?))).collect();
        if candidates.is_empty() {
            continue;
        }
        let mut next: Vec<_> = beam.iter().map(|each| (each.rank(), each, None)).collect();
        for each in &beam {
            let free = candidates.iter().filter(|(theirs, _)| !each.has(*theirs));
            next.extend(free.map(|&(theirs, worth)| {
                (each.rank_with(ours, theirs, &links), each, Some((theirs, worth)))
            }));
        }
        next.sort_by_key(|(rank, ..)| Reverse(*rank));
        next.truncate(BEAM);
        let mut following = Vec::with_capacity(next.len());
        for (rank, each, candidate) in next {
            following.push(match candidate {
                None => each.clone(),
                Some((theirs, worth)) => {
                    links.push(Link { ours, theirs, worth, before: each.last });
                    each.with_last(rank, &links)
                }
            });
        }
        beam = following;
    }
    let best = beam.into_iter().next().unwrap_or_default();
    let chain = std::iter::successors(best.last.map(|last| &links[last]), |link| {
        link.before.map(|before| &links[before])
    });
    let matches = chain.map(|link| (link.ours, link.theirs, link.worth)).collect();
    Alignment { matches, chunks: best.chunks }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn synonyms_match_where_they_are_known() {
        let verbs = "slice v 1 0 1 0 00000100\ncut v 1 0 1 0 00000100\n";
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (hypothesis, reference) = (words("sliced onion"), words("cuts onion"));
        let pairs = [Pair::new(&hypothesis, &reference)];
        let mut known = MeteorNative::with_synonyms(WordNet::parse([verbs]).unwrap());
        assert_eq!(known.name(), "meteor_native_wordnet");
        let answer = known.score(&pairs).unwrap();
        // All words match in one chunk, one of them for 0.8.
        let expected = f64::midpoint(1.0, SYNONYM);
        assert!((answer.total - expected).abs() < 1e-12, "{}", answer.total);
        assert!(MeteorNative::new().score(&pairs).unwrap().total < answer.total);
    }

    // Worked out by hand from the formulas.
    #[rstest]
    #[case::same("cut the onion", "cut the onion", 1.0)]
    #[case::nothing("cut the onion", "play ball", 0.0)]
    #[case::no_words("", "play ball", 0.0)]
    // One chunk of two words in each; both sentences have a third content word.
    #[case::one_chunk("red apple pie", "red apple cake", (2.0 / 3.0) * (1.0 - 0.6 * 0.5_f64.powf(0.2)))]
    // A stem is worth 0.6, whole match in one chunk.
    #[case::stem("jumps", "jumped", 0.6)]
    // The function word weighs a third of the content word.
    #[case::function_word("the dog", "the cat", 0.25 * (1.0 - 0.6))]
    fn scores(#[case] hypothesis: &str, #[case] reference: &str, #[case] expected: f64) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (hypothesis, reference) = (words(hypothesis), words(reference));
        let answer = MeteorNative::new().score(&[Pair::new(&hypothesis, &reference)]).unwrap();
        assert!((answer.each[0] - expected).abs() < 1e-9, "{}", answer.each[0]);
        assert!((answer.total - expected).abs() < 1e-9, "{}", answer.total);
    }

    proptest::proptest! {
        /// Words of few letters, so that some are the same and some are not.
        #[test]
        fn the_only_alignment_is_what_a_search_finds(
            hypothesis in "[a-h]( [a-h]){0,5}",
            reference in "[a-h]( [a-h]){0,5}",
        ) {
            let mut native = MeteorNative::new();
            let mut words = |text: &str| text.split(' ').map(|word| native.word(word)).collect::<Vec<_>>();
            let (hypothesis, reference) = (words(&hypothesis), words(&reference));
            if let Some(only) = only_alignment(&hypothesis, &reference) {
                let found = search(&hypothesis, &reference);
                proptest::prop_assert_eq!((only.matches, only.chunks), (found.matches, found.chunks));
            }
        }
    }

    #[test]
    fn a_caption_that_repeats_itself_takes_no_time() {
        let words = vec!["same".to_owned(); 5000];
        let answer = MeteorNative::new().score(&[Pair::new(&words, &words)]).unwrap();
        assert!((answer.total - 1.0).abs() < 1e-9, "{}", answer.total);
    }
}
