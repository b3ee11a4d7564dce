// One video: the player, a timeline, its events with where they come from, and what is said.
import { html, useEffect, useMemo, useRef, useState } from "/preact.js";
import { Feedback } from "/feedback.js";
import { Trouble, Waiting, ask, count, fileName, time, useAnswer } from "/ask.js";

/** Columns that say where an event comes from. */
const PROVENANCE = [
  "event_id", "score", "source", "language", "time_resolution_ms", "model_id", "model_digest", "params_digest",
  "source_version", "run_id", "indexed_at",
];
/** Milliseconds after which a link that fails is asked for anew: until then the video itself must be at fault. */
const LINK_LASTS = 60 * 60 * 1000;

/** Each span with the first lane that is free when it begins. */
function lanes(spans) {
  const ends = [];
  return spans.map((span) => {
    let lane = ends.findIndex((end) => end <= span.start_ms);
    if (lane < 0) lane = ends.length;
    ends[lane] = span.end_ms;
    return { span, lane };
  });
}

const plays = (span, now) => span.start_ms <= now && now < span.end_ms;

/** A row of bars. One of them is a stop of the tabulator, and arrow keys go on from there. */
function Band({ label, spans, text, duration, now, seek, kind }) {
  const placed = useMemo(() => lanes(spans), [spans]);
  const [stop, setStop] = useState(0);
  const high = 1 + Math.max(0, ...placed.map((bar) => bar.lane));
  const percent = (ms) => (100 * ms) / Math.max(duration, 1) + "%";
  const walk = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? placed.length - 1 : stop + (step || 0);
    if (to === stop || !placed[to]) return;
    event.preventDefault();
    setStop(to);
    event.currentTarget.children[to].focus();
  };
  return html`<div class="band"><span class="soft">${label}</span>
    <div class=${"bars " + kind} role="group" aria-label=${`${label}: ${spans.length}. Arrow keys go from one to the next.`}
      style=${{ height: high * 1.6 + "rem" }} onKeyDown=${walk}>${placed.map(({ span, lane }, at) => html`<button
        key=${at} class=${plays(span, now) ? "now" : ""} tabindex=${at === stop ? 0 : -1} title=${span[text]}
        aria-label=${`${time(span.start_ms)} ${span[text]}`} onFocus=${() => setStop(at)} onClick=${() => seek(span.start_ms)}
        style=${{ left: percent(span.start_ms), width: percent(span.end_ms - span.start_ms), top: lane * 1.6 + "rem" }}></button>`)}
      <i class="needle" style=${{ left: percent(now) }}></i></div></div>`;
}

function Ticks({ duration }) {
  const parts = [0, 0.25, 0.5, 0.75, 1];
  return html`<div class="band ticks" aria-hidden="true"><span></span><div>${parts.map((part) =>
    html`<span key=${part}>${time(part * duration)}</span>`)}</div></div>`;
}

function Provenance({ event }) {
  return html`<details><summary class="soft">Where it comes from</summary><dl>${PROVENANCE.map((key) =>
    html`<dt key=${key + "-"}>${key}</dt><dd key=${key}>${event[key] ?? "–"}</dd>`)}</dl></details>`;
}

function EventRow({ event, now, seek, feedback }) {
  return html`<li class=${plays(event, now) ? "now" : ""}>
    <button class="row" onClick=${() => seek(event.start_ms)}><span class="when">${time(event.start_ms)}</span>
      <span class="what">${event.caption}</span></button>
    <div class="under">${feedback && html`<${Feedback} event=${event} mark=${feedback.marks.get(event.event_id)} said=${feedback.said} now=${now} />`}
      <${Provenance} event=${event} /></div></li>`;
}

function Sentence({ row, now, seek }) {
  return html`<li class=${plays(row, now) ? "now" : ""}><button class="row" onClick=${() => seek(row.start_ms)}>
    <span class="when">${time(row.start_ms)}</span><span class="what">${row.text}</span></button></li>`;
}

/** A list once it is there; before, and where there is none, what is to be said of that. */
function Rows({ answer, rows, none, row }) {
  if (answer.error) return html`<${Trouble} error=${answer.error} again=${answer.again} />`;
  if (!answer.value) return html`<${Waiting} />`;
  if (rows.length === 0) return html`<p class="soft">${none}</p>`;
  return html`<ol class="rows">${rows.map(row)}</ol>`;
}

/** What was said about the events of a video, by their names, where the server takes feedback. */
function useFeedback(path, taken) {
  const answer = useAnswer(taken ? path + "/feedback" : null);
  const [marks, setMarks] = useState(new Map());
  useEffect(() => {
    if (answer.value) setMarks(new Map(answer.value.feedback.map((row) => [row.event_id, row])));
  }, [answer.value]);
  const said = (row) => setMarks((marks) => new Map(marks).set(row.event_id, row));
  return taken ? { marks, said } : null;
}

async function save(id, name, fail) {
  try {
    const text = await ask(`/videos/${id}/events.vtt`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
    link.download = name.replace(/\.[^.]*$/, "") + ".events.vtt";
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    fail(error);
  }
}

/** The player. It goes on where it was with a new link when the old one has run out. */
function Player({ id, link, name, player, start, onTime }) {
  const [src, setSrc] = useState(link);
  const [broken, setBroken] = useState(false);
  const since = useRef(Date.now());
  const from = useRef(start);
  const failed = async () => {
    if (Date.now() - since.current < LINK_LASTS) return setBroken(true);
    since.current = Date.now();
    from.current = player.current.currentTime * 1000;
    const fresh = await ask("/videos/" + id).catch(() => null);
    return fresh && fresh.media !== src ? setSrc(fresh.media) : setBroken(true);
  };
  const loaded = (event) => {
    event.target.currentTime = from.current / 1000;
  };
  return html`<video ref=${player} controls preload="metadata" playsinline src=${src} aria-label=${name} onError=${failed}
      onLoadedMetadata=${loaded} onTimeUpdate=${(event) => onTime(event.target.currentTime * 1000)}></video>
    ${broken && html`<p class="wrong" role="alert">This video cannot be played here: it has gone, or the browser does not
      know its format. Its events are below all the same.</p>`}`;
}

export function Video({ id, start }) {
  const player = useRef(null);
  const [now, setNow] = useState(start);
  const [unsaved, setUnsaved] = useState(null);
  const path = "/videos/" + encodeURIComponent(id);
  const answer = useAnswer(path);
  const found = useAnswer(path + "/events");
  const heard = useAnswer(path + "/transcripts");
  const about = useAnswer("/about").value || {};
  const feedback = useFeedback(path, about.feedback);
  const annotated = useAnswer(about.references ? path + "/references" : null);
  const references = annotated.value?.references || [];
  const events = found.value?.events || [];
  const said = heard.value?.transcripts || [];
  const seek = (ms) => {
    if (player.current) player.current.currentTime = ms / 1000;
    setNow(ms);
  };
  useEffect(() => seek(start), [start]);
  useEffect(() => {
    if (answer.value) document.title = fileName(answer.value.video.uri) + " · Eventide";
  }, [answer.value]);
  if (!answer.value) return answer.error ? html`<${Trouble} error=${answer.error} again=${answer.again} />` : html`<${Waiting} />`;
  const { video, media } = answer.value;
  const name = fileName(video.uri);
  const duration = Math.max(video.duration_ms || 0, ...events.map((event) => event.end_ms), ...said.map((row) => row.end_ms),
    ...references.map((row) => row.end_ms));
  return html`<div class="title"><h2>${name}</h2>
      <button onClick=${() => save(id, name, setUnsaved)} disabled=${events.length === 0}>Save as WebVTT</button></div>
    <p class="soft uri">${video.uri}</p>
    ${video.reason && html`<p class="wrong">${video.status}: ${video.reason}</p>`}
    ${unsaved && html`<${Trouble} error=${unsaved} />`}
    <div class="watch"><section aria-label="Player">
      <${Player} id=${encodeURIComponent(id)} link=${media} name=${name} player=${player} start=${start} onTime=${setNow} />
      <div class="timeline">
        ${events.length > 0 && html`<${Band} label="Events" kind="events" spans=${events} text="caption" duration=${duration} now=${now} seek=${seek} />`}
        ${references.length > 0 && html`<${Band} label="Reference" kind="reference" spans=${references} text="caption" duration=${duration} now=${now} seek=${seek} />`}
        ${said.length > 0 && html`<${Band} label="Speech" kind="speech" spans=${said} text="text" duration=${duration} now=${now} seek=${seek} />`}
        ${events.length + said.length > 0 && html`<${Ticks} duration=${duration} />`}
      </div></section>
    <section aria-labelledby="events"><h3 id="events">Events${found.value ? html` <span class="soft">${events.length}</span>` : ""}</h3>
      <${Rows} answer=${found} rows=${events} none="This video has no events."
        row=${(event) => html`<${EventRow} key=${event.event_id} event=${event} now=${now} seek=${seek} feedback=${feedback} />`} /></section>
    ${about.references && html`<section aria-labelledby="references"><h3 id="references">References${annotated.value ? html` <span class="soft">${references.length}</span>` : ""}</h3>
      <${Rows} answer=${annotated} rows=${references} none="Nobody has annotated this video."
        row=${(row, at) => html`<${Sentence} key=${at} row=${{ ...row, text: row.caption }} now=${now} seek=${seek} />`} /></section>`}
    <section aria-labelledby="transcript"><h3 id="transcript">Transcript${heard.value ? html` <span class="soft">${count(said.length, "sentence")}</span>` : ""}</h3>
      <${Rows} answer=${heard} rows=${said} none="Nothing is said, or nothing was heard."
        row=${(row) => html`<${Sentence} key=${row.sentence_index} row=${row} now=${now} seek=${seek} />`} /></section></div>`;
}
