//! Synonyms from WordNet's own files: two words are synonyms if a synset has both.
//!
//! Reads `index.noun`, `index.verb`, `index.adj` and `index.adv` as `wndb(5WN)` describes them. A word stands for its
//! base forms too, found by the endings of `morphy(7WN)`; irregular forms (`ran`) are not.

use std::collections::HashMap;

use crate::{Error, Result};

/// The index files, which lie in one folder.
pub const FILES: [&str; 4] = ["index.noun", "index.verb", "index.adj", "index.adv"];

/// Endings and what stands in their place in the base form, by part of speech: nouns, verbs, adjectives.
const ENDINGS: [(char, &[(&str, &str)]); 3] = [
    (
        'n',
        &[
            ("s", ""),
            ("ses", "s"),
            ("xes", "x"),
            ("zes", "z"),
            ("ches", "ch"),
            ("shes", "sh"),
            ("men", "man"),
            ("ies", "y"),
        ],
    ),
    (
        'v',
        &[
            ("s", ""),
            ("ies", "y"),
            ("es", "e"),
            ("es", ""),
            ("ed", "e"),
            ("ed", ""),
            ("ing", "e"),
            ("ing", ""),
        ],
    ),
    ('a', &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")]),
];

/// A synset: its part of speech and its place in that part's data file.
type Synset = (char, u64);

/// Which synsets each word is in.
#[derive(Debug, Clone, Default)]
pub struct WordNet {
    synsets: HashMap<String, Vec<Synset>>,
}

impl WordNet {
    /// Reads the texts of index files.
    ///
    /// # Errors
    /// [`Error::WordNet`] with the first line that is not as it should be.
    pub fn parse<'a>(indexes: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut synsets: HashMap<String, Vec<Synset>> = HashMap::new();
        for text in indexes {
            // The licence stands at the beginning, in lines that begin with spaces.
            for line in text.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()) {
                let (lemma, found) =
                    entry(line).ok_or_else(|| Error::WordNet { line: line.to_owned() })?;
                synsets.entry(lemma.to_owned()).or_default().extend(found);
            }
        }
        Ok(Self { synsets })
    }

    /// The synsets of a lower-case word and of its base forms, sorted.
    #[must_use]
    pub fn synsets(&self, word: &str) -> Vec<Synset> {
        let mut found = self.synsets.get(word).cloned().unwrap_or_default();
        for (part, endings) in ENDINGS {
            for (ending, base) in endings {
                let Some(stem) = word.strip_suffix(ending) else { continue };
                let of_base = self.synsets.get(&format!("{stem}{base}"));
                let of_part = of_base.into_iter().flatten().filter(|synset| synset.0 == part);
                found.extend(of_part);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// `lemma pos synset_cnt p_cnt [symbol...] sense_cnt tagsense_cnt offset...`.
fn entry(line: &str) -> Option<(&str, Vec<Synset>)> {
    let mut fields = line.split_ascii_whitespace();
    let lemma = fields.next()?;
    let part = fields.next()?.chars().next()?;
    let count: usize = fields.next()?.parse().ok()?;
    let pointers: usize = fields.next()?.parse().ok()?;
    let offsets = fields.skip(pointers.checked_add(2)?);
    let synsets: Option<Vec<Synset>> =
        offsets.map(|offset| Some((part, offset.parse().ok()?))).collect();
    synsets.filter(|synsets| synsets.len() == count).map(|synsets| (lemma, synsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the form of the real files; the offsets are made up.
    const NOUNS: &str = "  1 A licence.\nbox n 2 2 @ ~ 2 1 00000100 00000200\ncarton n 1 1 @ 1 0 00000100\nwoman n 1 0 1 1 00000300\n";
    const VERBS: &str = "slice v 1 0 1 0 00000100\ncut v 2 1 @ 2 0 00000100 00000400\n";

    fn synonyms(a: &str, b: &str) -> bool {
        let wordnet = WordNet::parse([NOUNS, VERBS]).unwrap();
        let others = wordnet.synsets(b);
        wordnet.synsets(a).iter().any(|synset| others.contains(synset))
    }

    #[test]
    fn words_that_share_a_synset_are_synonyms_in_all_their_forms() {
        assert!(synonyms("box", "carton") && synonyms("boxes", "cartons"));
        assert!(synonyms("slicing", "cut") && synonyms("sliced", "cuts"));
        assert!(synonyms("women", "woman"));
        assert!(!synonyms("box", "cut"), "the same number in another part of speech");
        assert!(!synonyms("onion", "carton"));
    }

    #[test]
    fn a_file_that_is_no_index_is_refused() {
        for line in ["box n 2 0 2 0 00000100", "box n", "box n x 0 1 0 1", "box n 1 0 1 0 offset"] {
            let error = WordNet::parse([line]).unwrap_err();
            assert!(error.to_string().contains(line), "{error}");
        }
    }
}
