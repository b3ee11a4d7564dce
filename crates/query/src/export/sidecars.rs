//! A file a video: subtitles, chapters, metadata for players and pages, JSON-LD for search engines of the web.

use std::collections::HashSet;

use data_encoding::HEXLOWER;
use datafusion::arrow::{
    array::{Array, AsArray, Float32Array, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float32Type, Int64Type},
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    ExportOptions, Place, Progress, Target,
    documents::{Rows, column, text, texts},
    receipt::{self, Receipt},
};
use crate::{Error, Result, error::CauseFrom, subtitles};

/// Files that are written at once.
const AT_ONCE: usize = 16;
/// Videos that are told of together.
const VIDEOS_TOGETHER: usize = 256;

/// Characters of the identifier of a video.
const VIDEO_ID: usize = 24;

/// What is told of one video.
#[derive(Debug, PartialEq)]
struct Told {
    video_id: String,
    uri: String,
    duration_ms: Option<i64>,
    /// When it came to the corpus, else when it was indexed.
    uploaded_at: Option<String>,
    thumbnail: Option<String>,
    spans: Vec<Span>,
}

/// A part of a video, and what is told of it.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    start_ms: i64,
    end_ms: i64,
    text: String,
    event_id: Option<String>,
    speech: Option<String>,
    score: Option<f32>,
    link: String,
}

pub(super) async fn write(
    rows: &Rows<'_>,
    options: &ExportOptions,
    place: &Place,
    receipt: &mut Receipt,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<()> {
    let mut batches = rows.of_videos(options).await?;
    let (mut videos, mut written) = (Vec::new(), HashSet::new());
    let is_whole = rows.from.is_none();
    while let Some(batch) = batches.next().await {
        add(&batch.map_err(|source| Error::Run { source: source.cause() })?, &mut videos)?;
        if videos.len() > VIDEOS_TOGETHER {
            let last = videos.pop(); // there may be more of it
            if is_whole {
                written.extend(videos.iter().map(|video| name(options.target, &video.video_id)));
            }
            put_all(std::mem::take(&mut videos), options.target, place, receipt).await?;
            videos.extend(last);
            told(receipt.progress());
        }
    }
    if is_whole {
        written.extend(videos.iter().map(|video| name(options.target, &video.video_id)));
    }
    put_all(videos, options.target, place, receipt).await?;
    if is_whole {
        remove_stale(options.target, place, &written, receipt).await?;
    }
    told(receipt.progress());
    Ok(())
}

/// Where the file of a video is.
fn name(target: Target, video_id: &str) -> String {
    format!("{target}/{video_id}.{}", target.extension())
}

/// Removes the files of videos of which nothing is told: all others have just been written. Where other tables have
/// files here, nobody knows whose these are, and they stay.
async fn remove_stale(
    target: Target,
    place: &Place,
    written: &HashSet<String>,
    receipt: &mut Receipt,
) -> Result<()> {
    if !receipt::all_are_of(place, receipt).await? {
        tracing::warn!(
            "files of videos that have gone may be left: other tables have files here, too"
        );
        return Ok(());
    }
    let written: HashSet<_> = written.iter().map(|name| place.path(name)).collect();
    let ending = format!(".{}", target.extension());
    let is_of_a_video = |path: &Path| {
        let id = path.filename().and_then(|name| name.strip_suffix(&ending));
        id.is_some_and(|id| id.len() == VIDEO_ID && id.bytes().all(|c| c.is_ascii_alphanumeric()))
    };
    let found = place.list(&target.to_string()).await?.into_iter().map(|object| object.location);
    let stale: Vec<_> =
        found.filter(|path| is_of_a_video(path) && !written.contains(path)).collect();
    receipt.deletes += stale.len() as u64;
    place.remove_all(stale).await
}

/// Adds rows to the videos that they are of. Rows of a video are neighbours.
fn add(batch: &RecordBatch, videos: &mut Vec<Told>) -> Result<()> {
    let names =
        ["video_id", "uri", "text", "event_id", "speech", "link", "uploaded_at", "thumbnail"];
    let [ids, uris, captions, event_ids, speech, links, uploads, thumbnails] =
        names.map(|name| texts(batch, name));
    let (ids, uris, captions, event_ids) = (ids?, uris?, captions?, event_ids?);
    let (speech, links, uploads, thumbnails) = (speech?, links?, uploads?, thumbnails?);
    let [start, end, duration] = ["start_ms", "end_ms", "duration_ms"].map(|n| longs(batch, n));
    let (start, end, duration, scores) = (start?, end?, duration?, scores(batch)?);
    for row in 0..batch.num_rows() {
        if videos.last().is_none_or(|video| video.video_id != ids.value(row)) {
            videos.push(Told {
                video_id: ids.value(row).to_owned(),
                uri: text(&uris, row).unwrap_or_default().to_owned(),
                duration_ms: duration.is_valid(row).then(|| duration.value(row)),
                uploaded_at: text(&uploads, row).map(str::to_owned),
                thumbnail: text(&thumbnails, row).map(str::to_owned),
                spans: Vec::new(),
            });
        }
        let Some(video) = videos.last_mut().filter(|_| start.is_valid(row)) else { continue };
        video.spans.push(Span {
            start_ms: start.value(row),
            end_ms: end.value(row),
            text: one_line(text(&captions, row).unwrap_or_default()),
            event_id: text(&event_ids, row).map(str::to_owned),
            speech: text(&speech, row).map(str::to_owned),
            score: scores.is_valid(row).then(|| scores.value(row)),
            link: text(&links, row).unwrap_or_default().to_owned(),
        });
    }
    Ok(())
}

fn longs(batch: &RecordBatch, name: &str) -> Result<Int64Array> {
    let cast = cast(column(batch, name)?, &DataType::Int64);
    let cast = cast.map_err(|source| Error::Run { source: source.cause() })?;
    Ok(cast.as_primitive::<Int64Type>().clone())
}

fn scores(batch: &RecordBatch) -> Result<Float32Array> {
    let cast = cast(column(batch, "score")?, &DataType::Float32);
    let cast = cast.map_err(|source| Error::Run { source: source.cause() })?;
    Ok(cast.as_primitive::<Float32Type>().clone())
}

/// Writes the file of each video, and removes that of a video of which nothing is told any more.
async fn put_all(
    videos: Vec<Told>,
    target: Target,
    place: &Place,
    receipt: &mut Receipt,
) -> Result<()> {
    let puts = videos.into_iter().map(|video| async move {
        let name = name(target, &video.video_id);
        if video.spans.is_empty() {
            place.remove(&name).await?;
            return Ok((None, 0));
        }
        let file = file(&video, target);
        let (digest, bytes) = (HEXLOWER.encode(&Sha256::digest(&file)), file.len() as u64);
        place.put(&name, file.into_bytes()).await?;
        Ok::<_, Error>((Some(digest), bytes))
    });
    let done: Vec<_> = stream::iter(puts).buffered(AT_ONCE).try_collect().await?;
    for (digest, bytes) in done {
        receipt.bytes += bytes;
        match digest {
            Some(digest) => {
                receipt.upserts += 1;
                receipt.chain(&digest);
            }
            None => receipt.deletes += 1,
        }
    }
    Ok(())
}

fn file(video: &Told, target: Target) -> String {
    let cues = |spans: &[Span]| -> Vec<_> {
        let cue = |span: &Span| (span.start_ms, span.end_ms, span.text.clone());
        spans.iter().map(cue).collect()
    };
    match target {
        Target::Srt => subtitles::sub_rip(&cues(&video.spans)),
        Target::Chapters => subtitles::web_vtt(&cues(&one_after_another(&video.spans, 1))),
        Target::Metadata => metadata(video),
        Target::JsonLd => json_ld(video),
        _ => subtitles::web_vtt(&cues(&video.spans)),
    }
}

/// Spans that do not overlap: of those that begin within the same `unit_ms` the best stays, and each ends where the
/// next begins.
fn one_after_another(spans: &[Span], unit_ms: i64) -> Vec<Span> {
    let mut kept: Vec<Span> = Vec::new();
    for span in spans {
        match kept.last_mut() {
            Some(last) if last.start_ms / unit_ms == span.start_ms / unit_ms => {
                let value = |span: &Span| span.score.unwrap_or(f32::NEG_INFINITY);
                if value(span) > value(last) {
                    *last = span.clone();
                }
            }
            Some(last) => {
                last.end_ms = last.end_ms.min(span.start_ms);
                kept.push(span.clone());
            }
            None => kept.push(span.clone()),
        }
    }
    kept
}

/// A cue an event, each with an object: WebVTT's metadata cues (4.4 of the standard).
fn metadata(video: &Told) -> String {
    let cues = video.spans.iter().map(|span| {
        let payload = json!({
            "event_id": span.event_id,
            "caption": span.text,
            "speech": span.speech,
            "score": span.score,
        });
        (span.start_ms, span.end_ms, payload.to_string().replace('>', "\\u003e"))
    });
    subtitles::web_vtt_raw(&cues.collect::<Vec<_>>())
}

/// A `VideoObject` with its `Clip`s: key moments, of which no two begin at the same second.
fn json_ld(video: &Told) -> String {
    let clip = |span: &Span| {
        json!({
            "@type": "Clip",
            "name": span.text,
            "startOffset": span.start_ms / 1000,
            "endOffset": (span.end_ms + 999) / 1000,
            "url": span.link,
        })
    };
    let clips: Vec<_> = one_after_another(&video.spans, 1000).iter().map(clip).collect();
    let name = video.uri.rsplit('/').next().unwrap_or_default();
    let mut object = json!({
        "@context": "https://schema.org",
        "@type": "VideoObject",
        "@id": video.uri,
        "identifier": video.video_id,
        "name": name,
        "contentUrl": video.uri,
        "hasPart": clips,
    });
    let duration = video.duration_ms.map(|ms| format!("PT{}S", (ms + 500) / 1000));
    let more = [
        ("duration", duration),
        ("uploadDate", video.uploaded_at.clone()),
        ("thumbnailUrl", video.thumbnail.clone()),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            object[name] = Value::from(value);
        }
    }
    // It is put into a page as it is: nothing in it may end the script that it stands in.
    format!("{object:#}\n").replace('<', "\\u003c")
}

/// Text without line breaks or runs of space.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start_ms: i64, end_ms: i64, text: &str, score: f32) -> Span {
        Span {
            start_ms,
            end_ms,
            text: text.to_owned(),
            event_id: Some("e".to_owned()),
            speech: None,
            score: Some(score),
            link: format!("s3://b/a.mp4#t={}", start_ms / 1000),
        }
    }

    fn video() -> Told {
        Told {
            video_id: "v".to_owned(),
            uri: "s3://b/a.mp4".to_owned(),
            duration_ms: Some(90_400),
            uploaded_at: Some("2026-11-01T12:00:00Z".to_owned()),
            thumbnail: Some("https://site/v.jpg".to_owned()),
            spans: vec![
                span(1200, 9000, "fish & </script> chips", -0.5),
                span(1900, 4000, "better --> one", -0.1),
                span(8000, 9000, "the end", -0.2),
            ],
        }
    }

    #[test]
    fn key_moments_begin_at_different_seconds() {
        let text = json_ld(&video());
        assert!(!text.contains('<'), "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["duration"], "PT90S");
        assert_eq!(object["uploadDate"], "2026-11-01T12:00:00Z");
        assert_eq!(object["thumbnailUrl"], "https://site/v.jpg");
        let names = object["hasPart"].as_array().unwrap();
        let told: Vec<_> = names.iter().map(|clip| (&clip["name"], &clip["startOffset"])).collect();
        assert_eq!(told, [(&json!("better --> one"), &json!(1)), (&json!("the end"), &json!(8))]);
    }

    #[test]
    fn chapters_do_not_overlap() {
        let text = file(&video(), Target::Chapters);
        assert!(text.starts_with("WEBVTT\n"), "{text}");
        assert!(text.contains("00:00:01.200 --> 00:00:01.900\nfish &amp; &lt;/script&gt; chips"));
        assert_eq!(text.matches("-->").count(), 3, "{text}");
    }

    #[test]
    fn metadata_is_an_object_a_cue() {
        let text = file(&video(), Target::Metadata);
        let objects: Vec<Value> = text
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(objects.len(), 3);
        assert_eq!(objects[1]["caption"], "better --> one");
        assert_eq!(text.matches("-->").count(), 3, "{text}");
    }
}
