//! Vectors of captions, by which those that mean alike are found. Each different caption is embedded once for a model and
//! kept on disk beside the indexes; in memory are those of one index.
//!
//! On disk are parts, which are written whole and never changed: a record is 16 bytes of the SHA-256 of a caption and its
//! numbers, 32-bit and little-endian. Processes that embed at the same time write parts of their own, so none waits for
//! another and a caption may be there twice. Parts that are many are made one, without the captions that have gone.

use std::{
    collections::HashMap,
    fs, io,
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tantivy::{
    Searcher, TantivyError, collector::TopDocs, columnar::StrColumn, index::SegmentId, query::Query,
};
use tempfile::NamedTempFile;

use super::{document, index_error};
use crate::{Embedder, Error, Result, error::CauseFrom};

/// Events that are looked at as the nearest to a question. Beyond these a rank adds next to nothing.
pub(super) const NEAREST: usize = 1000;
/// Captions that are embedded before anybody else has a turn.
const TOGETHER: usize = 512;
/// Captions of a part, so that work that is cut off is not lost.
const PART: usize = 8 * TOGETHER;
/// Parts that may lie beside each other.
const MOST_PARTS: usize = 32;
/// What a part's name ends with.
const SUFFIX: &str = "vectors";
/// Numbers that one thread multiplies at least.
const A_THREADS: usize = 1 << 22;

/// What a caption is found by on disk.
type Key = [u8; 16];

/// The vectors of the captions of one index, of length 1, so that a product of two is their cosine.
///
/// A question is compared with every different caption: 10^6 of them with 384 numbers take 1.5 GB and 4 * 10^8
/// multiplications.
pub(crate) struct Vectors {
    embedder: Embedder,
    /// The row of each caption, in the order of each segment's dictionary.
    rows: HashMap<SegmentId, Vec<u32>>,
    numbers: Vec<f32>,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").field("embedder", &self.embedder).finish_non_exhaustive()
    }
}

impl Vectors {
    /// The vectors of all captions that `searcher` sees: from below `folder` where they are kept, else made and
    /// kept.
    ///
    /// # Errors
    /// [`Error::SearchIndex`] when the folder or the index cannot be used, [`Error::Embed`].
    pub(super) async fn open(
        searcher: Searcher,
        folder: PathBuf,
        embedder: Embedder,
    ) -> Result<Self> {
        let begun = busy(move || Draft::begin(&searcher, folder, embedder));
        let mut draft = begun.await??;
        if !draft.missing.is_empty() {
            tracing::info!(captions = draft.missing.len(), "captions are embedded");
        }
        while !draft.missing.is_empty() {
            draft = busy(move || draft.go_on()).await??;
        }
        busy(move || draft.end()).await?
    }

    /// The `NEAREST` events among those that `among` finds, the nearest to `words` first, with their cosines.
    /// This computes.
    ///
    /// # Errors
    /// [`Error::Embed`], [`Error::SearchIndex`].
    pub(super) fn nearest(
        self: &Arc<Self>,
        words: &str,
        searcher: &Searcher,
        among: &dyn Query,
    ) -> Result<Vec<(f32, tantivy::DocAddress)>> {
        let wrong = index_error(Path::new("memory"));
        let cosines = Arc::new(self.cosines(words)?);
        let columns = searcher.segment_readers().iter().map(|segment| {
            let column = segment.fast_fields().str(document::CAPTION)?;
            Ok((segment.segment_id(), column))
        });
        let columns: HashMap<SegmentId, Option<StrColumn>> =
            columns.collect::<tantivy::Result<_>>().map_err(&wrong)?;
        let vectors = Arc::clone(self);
        let best =
            TopDocs::with_limit(NEAREST).tweak_score(move |segment: &tantivy::SegmentReader| {
                let (vectors, cosines) = (Arc::clone(&vectors), Arc::clone(&cosines));
                let segment = segment.segment_id();
                let column = columns.get(&segment).cloned().flatten();
                move |document: tantivy::DocId, _: tantivy::Score| {
                    let place =
                        column.as_ref().and_then(|column| column.term_ords(document).next());
                    let row = place.and_then(|place| vectors.row(segment, place));
                    row.and_then(|row| cosines.get(row).copied()).unwrap_or(f32::NEG_INFINITY)
                }
            });
        let mut found = searcher.search(among, &best).map_err(&wrong)?;
        found.retain(|(cosine, _)| cosine.is_finite());
        Ok(found)
    }

    fn row(&self, segment: SegmentId, place: u64) -> Option<usize> {
        let rows = self.rows.get(&segment)?;
        rows.get(usize::try_from(place).ok()?).map(|row| *row as usize)
    }

    /// How near each caption is to the words.
    fn cosines(&self, words: &str) -> Result<Vec<f32>> {
        let mut question = self.embedder.vectors(&[words])?;
        normalise(&mut question);
        let width = question.len().max(1);
        let mut cosines = vec![0.0; self.numbers.len() / width];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = cosines.len().div_ceil(threads).max(A_THREADS / width).max(1);
        let compare = |cosines: &mut [f32], numbers: &[f32]| {
            for (cosine, vector) in cosines.iter_mut().zip(numbers.chunks_exact(width)) {
                *cosine = product(&question, vector);
            }
        };
        std::thread::scope(|scope| {
            let parts = cosines.chunks_mut(share).zip(self.numbers.chunks(share * width));
            for (cosines, numbers) in parts {
                scope.spawn(move || compare(cosines, numbers));
            }
        });
        Ok(cosines)
    }
}

/// The sum of products, in lanes that the processor adds side by side.
fn product(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (lefts, rights) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = lefts.remainder().iter().zip(rights.remainder());
    let rest: f32 = rest.map(|(left, right)| left * right).sum();
    for (left, right) in lefts.zip(rights) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// Makes a vector one of length 1. One of zeros stays.
fn normalise(vector: &mut [f32]) {
    let length = product(vector, vector).sqrt();
    if length > 0.0 && length.is_finite() {
        for number in vector {
            *number /= length;
        }
    }
}

/// Vectors of which some are still to be made.
struct Draft {
    vectors: Vectors,
    folder: PathBuf,
    /// The caption of each row.
    keys: Vec<Key>,
    /// Rows without a vector, and their captions: the shortest last.
    missing: Vec<(usize, String)>,
    /// Rows that are made and not yet kept.
    unkept: Vec<usize>,
    /// Parts that were read or written.
    parts: Vec<PathBuf>,
    /// Records that were read and are of no use here.
    unused: usize,
}

impl Draft {
    /// The captions of the index, with those vectors that are kept.
    fn begin(searcher: &Searcher, folder: PathBuf, embedder: Embedder) -> Result<Self> {
        let failed = unusable(&folder);
        fs::create_dir_all(&folder).map_err(&failed)?;
        let (mut known, mut keys) = (HashMap::new(), Vec::new());
        let mut rows = HashMap::new();
        for segment in searcher.segment_readers() {
            let of_segment = captions(segment, |caption| {
                let key = key(caption);
                *known.entry(key).or_insert_with(|| {
                    keys.push(key);
                    u32::try_from(keys.len() - 1).unwrap_or(u32::MAX)
                })
            });
            rows.insert(segment.segment_id(), of_segment.map_err(index_error(&folder))?);
        }
        let numbers = vec![0.0; keys.len() * embedder.dimensions];
        let vectors = Vectors { embedder, rows, numbers };
        let (missing, unkept, parts) = (Vec::new(), Vec::new(), Vec::new());
        let mut draft = Self { vectors, folder, keys, missing, unkept, parts, unused: 0 };
        let is_there = draft.read_parts(&known).map_err(failed)?;
        draft.find_missing(searcher, &is_there)?;
        Ok(draft)
    }

    /// Reads what is kept. Gives which rows have a vector now.
    fn read_parts(&mut self, known: &HashMap<Key, u32>) -> io::Result<Vec<bool>> {
        let mut is_there = vec![false; self.keys.len()];
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            match self.read_part(&path, known, &mut is_there) {
                Ok(()) => self.parts.push(path),
                // Another process has just made one of several.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(is_there)
    }

    fn read_part(
        &mut self,
        path: &Path,
        known: &HashMap<Key, u32>,
        is_there: &mut [bool],
    ) -> io::Result<()> {
        let width = self.vectors.embedder.dimensions;
        let file = fs::File::open(path)?;
        let (mut key, mut bytes) = (Key::default(), vec![0; width * size_of::<f32>()]);
        let records = file.metadata()?.len() / (key.len() + bytes.len()) as u64;
        let mut file = BufReader::new(file);
        for _ in 0..records {
            file.read_exact(&mut key)?;
            file.read_exact(&mut bytes)?;
            let row = known.get(&key).map(|row| *row as usize).filter(|row| !is_there[*row]);
            let Some(row) = row else {
                self.unused += 1;
                continue;
            };
            is_there[row] = true;
            let (numbers, _) = bytes.as_chunks();
            let vector = &mut self.vectors.numbers[row * width..][..width];
            for (number, bytes) in vector.iter_mut().zip(numbers) {
                *number = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }

    fn find_missing(&mut self, searcher: &Searcher, is_there: &[bool]) -> Result<()> {
        let mut missing: HashMap<usize, String> = HashMap::new();
        for segment in searcher.segment_readers() {
            let rows = &self.vectors.rows[&segment.segment_id()];
            let mut places = rows.iter();
            let looked = captions(segment, |caption| {
                let row = places.next().map(|row| *row as usize);
                if let Some(row) = row.filter(|row| !is_there[*row]) {
                    missing.entry(row).or_insert_with(|| String::from_utf8_lossy(caption).into());
                }
                0
            });
            looked.map_err(index_error(&self.folder))?;
        }
        self.missing = missing.into_iter().collect();
        // Captions of a length go through the network without padding.
        self.missing.sort_by_key(|(row, caption)| (std::cmp::Reverse(caption.len()), *row));
        Ok(())
    }

    /// Makes some that are missing.
    fn go_on(mut self) -> Result<Self> {
        let width = self.vectors.embedder.dimensions;
        let some = self.missing.split_off(self.missing.len().saturating_sub(TOGETHER));
        let texts: Vec<&str> = some.iter().map(|(_, caption)| caption.as_str()).collect();
        let mut made = self.vectors.embedder.vectors(&texts)?;
        for ((row, _), vector) in some.iter().zip(made.chunks_exact_mut(width)) {
            normalise(vector);
            self.vectors.numbers[row * width..][..width].copy_from_slice(vector);
            self.unkept.push(*row);
        }
        if self.unkept.len() >= PART || self.missing.is_empty() {
            let rows = std::mem::take(&mut self.unkept);
            let part = self.write(&rows).map_err(unusable(&self.folder))?;
            self.parts.push(part);
        }
        Ok(self)
    }

    /// All are there.
    fn end(self) -> Result<Vectors> {
        if self.parts.len() > MOST_PARTS || self.unused > self.keys.len() + PART {
            let all: Vec<usize> = (0..self.keys.len()).collect();
            let whole = self.write(&all).map_err(unusable(&self.folder))?;
            for part in self.parts.iter().filter(|part| **part != whole) {
                if let Err(error) = fs::remove_file(part) {
                    tracing::debug!(part = %part.display(), %error, "a part is gone already");
                }
            }
        }
        Ok(self.vectors)
    }

    /// Keeps rows as a part, which is there whole or not at all.
    fn write(&self, rows: &[usize]) -> io::Result<PathBuf> {
        let width = self.vectors.embedder.dimensions;
        let file = NamedTempFile::new_in(&self.folder)?;
        let (mut out, mut digest) = (io::BufWriter::new(file), Sha256::new());
        for row in rows {
            let vector = &self.vectors.numbers[row * width..][..width];
            out.write_all(&self.keys[*row])?;
            digest.update(self.keys[*row]);
            for number in vector {
                out.write_all(&number.to_le_bytes())?;
            }
        }
        let name = HEXLOWER.encode(&digest.finalize()[..16]);
        let path = self.folder.join(name).with_extension(SUFFIX);
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    }
}

/// The row of each different caption of a segment, as `row` has it. Some may be of events that have gone.
fn captions(
    segment: &tantivy::SegmentReader,
    mut row: impl FnMut(&[u8]) -> u32,
) -> tantivy::Result<Vec<u32>> {
    let Some(column) = segment.fast_fields().str(document::CAPTION)? else { return Ok(Vec::new()) };
    let mut rows = Vec::with_capacity(column.num_terms());
    let mut all = column.dictionary().stream().map_err(TantivyError::from)?;
    while all.advance() {
        rows.push(row(all.key()));
    }
    Ok(rows)
}

fn key(caption: &[u8]) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&Sha256::digest(caption)[..16]);
    key
}

fn unusable(folder: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let folder = folder.to_owned();
    move |source| Error::SearchIndex { folder: folder.clone(), source: source.cause() }
}

/// Work on a thread that may be kept busy.
async fn busy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|source| Error::Run { source: source.cause() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::none(0)]
    #[case::short(3)]
    #[case::lanes(16)]
    #[case::lanes_and_more(37)]
    fn a_product_is_the_sum_of_products(#[case] length: u8) {
        let left: Vec<f32> = (0..length).map(f32::from).collect();
        let expected: f32 = left.iter().map(|number| number * 2.0).sum();
        let right = vec![2.0; left.len()];
        assert!((product(&left, &right) - expected).abs() < 1e-3);
    }

    #[test]
    fn a_vector_of_zeros_is_left_alone() {
        let mut vectors = ([0.0; 4], [3.0, 4.0]);
        normalise(&mut vectors.0);
        normalise(&mut vectors.1);
        assert!(vectors.0.iter().all(|number| *number == 0.0));
        assert!((vectors.1[0] - 0.6).abs() < 1e-6 && (vectors.1[1] - 0.8).abs() < 1e-6);
    }
}
