//! Which of several tracks is in a language.

use isolang::Language;

/// Codes of ISO 639-2/B, which containers use beside those of 639-2/T, where the two differ.
const BIBLIOGRAPHIC: [(&str, &str); 20] = [
    ("alb", "sqi"),
    ("arm", "hye"),
    ("baq", "eus"),
    ("bur", "mya"),
    ("chi", "zho"),
    ("cze", "ces"),
    ("dut", "nld"),
    ("fre", "fra"),
    ("geo", "kat"),
    ("ger", "deu"),
    ("gre", "ell"),
    ("ice", "isl"),
    ("mac", "mkd"),
    ("mao", "mri"),
    ("may", "msa"),
    ("per", "fas"),
    ("rum", "ron"),
    ("slo", "slk"),
    ("tib", "bod"),
    ("wel", "cym"),
];

/// The first of `tracks` that is in the `wanted` language, else the first of all. `language` is what a
/// container says of a track: `de`, `deu`, `ger` and `de-CH` are all German.
pub(crate) fn track_in<'a, T>(
    tracks: impl Iterator<Item = &'a T> + Clone,
    wanted: Option<&str>,
    language: impl Fn(&T) -> Option<&str>,
) -> Option<&'a T> {
    let first = tracks.clone().next();
    let is_in = |track: &&T, wanted| language(track).and_then(code) == Some(wanted);
    let found = wanted.and_then(code).and_then(|wanted| {
        let mut tracks = tracks;
        tracks.find(|track| is_in(track, wanted))
    });
    found.or(first)
}

/// The language of a code with two letters or three, whatever follows it.
fn code(tag: &str) -> Option<Language> {
    let tag = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let same = BIBLIOGRAPHIC.iter().find(|(code, _)| *code == tag).map(|(_, code)| *code);
    let tag = same.unwrap_or(&tag);
    Language::from_639_1(tag).or_else(|| Language::from_639_3(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::terminology("de", &["eng", "deu"], Some(1))]
    #[case::bibliography("de", &["eng", "ger"], Some(1))]
    #[case::region("de", &["en-GB", "de-CH"], Some(1))]
    #[case::three_letters("yue", &["chi", "yue"], Some(1))]
    #[case::the_first_of_two("en", &["fra", "eng", "en"], Some(1))]
    #[case::none_of_them("de", &["eng", "fra"], Some(0))]
    #[case::nobody_says("de", &["", "?"], Some(0))]
    #[case::no_language("??", &["eng", "??"], Some(0))]
    #[case::no_track("de", &[], None)]
    fn the_track_in_a_language(
        #[case] wanted: &str,
        #[case] tracks: &[&str],
        #[case] expected: Option<usize>,
    ) {
        let tracks: Vec<(usize, &str)> = tracks.iter().copied().enumerate().collect();
        let found = track_in(tracks.iter(), Some(wanted), |track| Some(track.1));
        assert_eq!(found.map(|track| track.0), expected);
        let first = track_in(tracks.iter(), None, |track| Some(track.1));
        assert_eq!(first, tracks.first());
    }
}
