//! When each word is said: the path through what the alignment heads look at, by dynamic time warping.

use ndarray::{Array2, ArrayView3, Axis, s};

use crate::speech::Vocabulary;

/// Columns that a median is taken over.
const MEDIAN: usize = 7;

/// Tokens that belong together as a word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// As it is written, with the space before it.
    pub(crate) text: String,
    /// How many tokens.
    pub(crate) tokens: usize,
    /// How many of them come before the signs that close it, and are said.
    pub(crate) spoken: usize,
}

/// Puts tokens together to words: at spaces, or in a script without them at each character.
pub(crate) fn words(vocabulary: &Vocabulary, tokens: &[i64], spaced: bool) -> Vec<Group> {
    let mut words: Vec<Group> = Vec::new();
    let mut open: Vec<i64> = Vec::new();
    for &token in tokens {
        open.push(token);
        let bytes = vocabulary.bytes(&open);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let signs = is_signs(&text);
        let begins = if spaced { text.starts_with(char::is_whitespace) } else { !signs };
        let count = open.len();
        open.clear();
        match words.last_mut() {
            Some(word) if !begins => {
                word.text.push_str(&text);
                word.tokens += count;
                if !signs {
                    word.spoken = word.tokens;
                }
            }
            _ => words.push(Group { text, tokens: count, spoken: count }),
        }
    }
    // Bytes that never became a character belong to what came before.
    if let Some(word) = words.last_mut() {
        word.tokens += open.len();
    }
    words
}

fn is_signs(text: &str) -> bool {
    text.chars().all(|c| !c.is_alphanumeric())
}

/// The column at which each row of `scores` begins to be said. `scores` are `[heads, rows, columns]`
/// before the softmax; of the rows, those in `rows` are on the path. Columns that are not `heard` are
/// not looked at.
pub(crate) fn path(
    scores: &ArrayView3<'_, f32>,
    rows: std::ops::Range<usize>,
    heard: &[bool],
) -> Vec<usize> {
    let columns = heard.len().min(scores.len_of(Axis(2)));
    let scores = scores.slice(s![.., .., ..columns]);
    let mut sum = Array2::<f32>::zeros((scores.len_of(Axis(1)), columns));
    for head in scores.axis_iter(Axis(0)) {
        let mut weights = head.to_owned();
        softmax(&mut weights, heard);
        standardise(&mut weights);
        sum += &medians(&weights);
    }
    warp(&sum.slice(s![rows, ..]).to_owned())
}

fn softmax(weights: &mut Array2<f32>, heard: &[bool]) {
    for mut row in weights.rows_mut() {
        let silent = row.iter_mut().zip(heard).filter(|(_, heard)| !**heard);
        silent.for_each(|(weight, _)| *weight = f32::NEG_INFINITY);
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.mapv_inplace(|weight| if highest.is_finite() { (weight - highest).exp() } else { 0.0 });
        let sum = row.sum().max(f32::MIN_POSITIVE);
        row.mapv_inplace(|weight| weight / sum);
    }
}

/// Brings each column to mean 0 and deviation 1.
fn standardise(weights: &mut Array2<f32>) {
    for mut column in weights.columns_mut() {
        let mean = column.mean().unwrap_or_default();
        let deviation = column.std(0.0);
        column
            .mapv_inplace(|weight| if deviation > 0.0 { (weight - mean) / deviation } else { 0.0 });
    }
}

/// Each value's median with its neighbours in the row, which is mirrored at its ends.
fn medians(weights: &Array2<f32>) -> Array2<f32> {
    let (half, columns) = (MEDIAN / 2, weights.ncols());
    if columns <= half {
        return weights.clone();
    }
    Array2::from_shape_fn(weights.dim(), |(row, column)| {
        let mut near: [f32; MEDIAN] = std::array::from_fn(|i| {
            let place = (column + i).abs_diff(half);
            let place = if place < columns { place } else { 2 * (columns - 1) - place };
            weights[[row, place]]
        });
        near.sort_unstable_by(f32::total_cmp);
        near[half]
    })
}

/// The first column of each row on the path from one corner to the other that has the greatest sum.
fn warp(gains: &Array2<f32>) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum From {
        Both,
        Row,
        Column,
    }
    let (rows, columns) = gains.dim();
    if rows == 0 || columns == 0 {
        return vec![0; rows];
    }
    let mut best = Array2::from_elem((rows + 1, columns + 1), f32::NEG_INFINITY);
    let mut from = Array2::from_elem((rows + 1, columns + 1), From::Column);
    best[[0, 0]] = 0.0;
    for row in 1..=rows {
        for column in 1..=columns {
            let both = best[[row - 1, column - 1]];
            let up = best[[row - 1, column]];
            let left = best[[row, column - 1]];
            let (sum, way) = if both > up && both > left {
                (both, From::Both)
            } else if up > left {
                (up, From::Row)
            } else {
                (left, From::Column)
            };
            best[[row, column]] = sum + gains[[row - 1, column - 1]];
            from[[row, column]] = way;
        }
    }
    let mut firsts = vec![0; rows];
    let (mut row, mut column) = (rows, columns);
    while row > 0 && column > 0 {
        firsts[row - 1] = column - 1;
        match from[[row, column]] {
            From::Both => (row, column) = (row - 1, column - 1),
            From::Row => row -= 1,
            From::Column => column -= 1,
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr2};

    #[test]
    fn the_path_follows_what_is_bright() {
        let gains = arr2(&[
            [9.0, 9.0, -1.0, -1.0, -1.0],
            [-1.0, -1.0, 9.0, -1.0, -1.0],
            [-1.0, -1.0, -1.0, 9.0, 9.0],
        ]);
        assert_eq!(warp(&gains), [0, 2, 3]);
        assert_eq!(warp(&Array2::zeros((2, 0))), [0, 0]);
    }

    #[test]
    fn silence_is_passed_over() {
        // Rows look at 0..10, 20..25 and 25..30, and most of all at what is silent between.
        let mut scores = Array3::<f32>::zeros((1, 3, 30));
        for (row, columns) in [0..10, 20..25, 25..30].into_iter().enumerate() {
            scores.slice_mut(s![0, row, columns]).fill(6.0);
            scores.slice_mut(s![0, row, 10 + row * 3..13 + row * 3]).fill(9.0);
        }
        let heard: Vec<bool> = (0..30).map(|column| !(10..20).contains(&column)).collect();
        let firsts = path(&scores.view(), 0..3, &heard);
        assert_eq!(firsts[0], 0);
        assert!((24..=26).contains(&firsts[2]), "{firsts:?}");
    }

    #[test]
    fn words_begin_at_spaces() {
        let json = r#"{"added_tokens": [], "model": {"vocab":
            {"\u0120Stir": 0, "\u0120it": 1, ".": 2, "ring": 3, "\u00e4\u00bd": 4, "\u0142": 5, "\u00e5\u00a5\u00bd": 6}}}"#;
        let vocabulary = Vocabulary::new(json.as_bytes()).unwrap();
        let group = |text: &str, tokens, spoken| Group { text: text.to_owned(), tokens, spoken };
        let found = words(&vocabulary, &[0, 3, 1, 2], true);
        assert_eq!(found, [group(" Stirring", 2, 2), group(" it.", 2, 1)]);
        let characters = words(&vocabulary, &[6, 6, 2], false);
        assert_eq!(characters, [group("好", 1, 1), group("好.", 2, 1)]);
    }
}
