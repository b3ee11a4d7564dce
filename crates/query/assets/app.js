// The page: search, one video, runs. Rows come from /api/v1 under the names of the tables.
import { html, render, useState, useEffect, useRef } from "/preact.js";

const FILTERS = [
  ["run_id", "Run", "text"], ["model_id", "Model", "text"], ["language", "Language", "text"],
  ["source", "Source", "text"], ["min_score", "Least score", "number"], ["since", "Indexed from", "date"],
  ["until", "Indexed before", "date"], ["min_duration_s", "At least, seconds", "number"], ["max_duration_s", "At most, seconds", "number"],
];
const PROVENANCE = ["event_id", "score", "source", "language", "model_id", "model_digest", "params_digest", "source_version", "run_id", "indexed_at"];

async function ask(path, signal) {
  const token = sessionStorage.getItem("token");
  const response = await fetch("/api/v1" + path, { signal, headers: token ? { Authorization: "Bearer " + token } : {} });
  if (response.status === 401) throw Object.assign(new Error("A token is needed."), { needsToken: true });
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || "The server answered " + response.status);
  return path.endsWith(".vtt") ? response.text() : response.json();
}

function useAnswer(path, wait = 0) {
  const [answer, setAnswer] = useState({});
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => ask(path, stop.signal).then(
      (value) => setAnswer({ value }),
      (error) => stop.signal.aborted || setAnswer({ error }),
    ), wait);
    return () => { clearTimeout(timer); stop.abort(); };
  }, [path]);
  return answer;
}

function useHash() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const change = () => setHash(location.hash);
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return hash.replace(/^#\/?/, "");
}

const time = (ms) => {
  const s = Math.floor(ms / 1000), two = (n) => String(n).padStart(2, "0");
  return (s >= 3600 ? Math.floor(s / 3600) + ":" : "") + two(Math.floor(s / 60) % 60) + ":" + two(s % 60);
};
const name = (uri) => { const last = uri.split("/").pop(); try { return decodeURIComponent(last); } catch { return last; } };

function Failed({ error }) {
  const [token, setToken] = useState("");
  if (!error.needsToken) return html`<p class="error" role="alert">${error.message}</p>`;
  const submit = (e) => { e.preventDefault(); sessionStorage.setItem("token", token); location.reload(); };
  return html`<form onSubmit=${submit}><label>Token <input type="password" autocomplete="current-password" value=${token}
    onInput=${(e) => setToken(e.target.value)} /></label> <button>Sign in</button></form>`;
}

// Results come as one types: the last word may still be growing.
function growing(text) {
  return /(^|[\s(])\p{L}[\p{L}\p{N}]+$/u.test(text) && !/(^|\s)(AND|OR|NOT|NEAR)$/.test(text)
    ? text.replace(/(\p{L}[\p{L}\p{N}]+)$/u, "($1 OR $1*)").replace(/(NEAR\S*\s+)\((\S+) OR \S+\)$/, "$1$2") : text;
}

function parameters(words, filters) {
  const query = new URLSearchParams({ q: growing(words), limit: "50" });
  for (const [key, value] of Object.entries(filters)) {
    if (value === "") continue;
    if (key === "since" || key === "until") query.set(key + "_ms", String(Date.parse(value)));
    else if (key.endsWith("_s")) query.set(key.replace(/_s$/, "_ms"), String(Math.round(Number(value) * 1000)));
    else query.set(key, value);
  }
  return query.toString();
}

function Search() {
  const [words, setWords] = useState(sessionStorage.getItem("words") || "");
  const [filters, setFilters] = useState({});
  const { value, error } = useAnswer("/search?" + parameters(words, filters), 120);
  const type = (e) => { setWords(e.target.value); sessionStorage.setItem("words", e.target.value); };
  return html`<main>
    <label><span class="soft">Words, "phrases", AND, OR, NOT, garlic NEAR pan, gar*</span>
      <input type="search" id="q" autofocus value=${words} onInput=${type} aria-controls="hits" /></label>
    <details><summary>Filters</summary><fieldset>${FILTERS.map(([key, label, kind]) => html`<label>${label}
      <input type=${kind} step="any" name=${key} value=${filters[key] || ""} onInput=${(e) => setFilters({ ...filters, [key]: e.target.value })} /></label>`)}</fieldset></details>
    ${error ? html`<${Failed} error=${error} />` : html`<p class="note" role="status">${!value ? "Searching…" : value.total === 0
      ? "Nothing was found. Try fewer words, or begin a word and end it with *." : value.total + (value.total === 1 ? " event" : " events")}</p>`}
    <ul class="hits" id="hits">${((!error && value?.events) || []).map((event) => html`<li key=${event.event_id}>
      <a href=${"#/video/" + event.video_id + "/" + event.start_ms}><strong>${event.caption}</strong>
        <span class="soft">${time(event.start_ms)}–${time(event.end_ms)}${event.score == null ? "" : " · score " + event.score.toFixed(2)}</span>
        <span class="soft">${event.speech || ""}</span><span class="soft">${name(event.uri)}</span></a></li>`)}</ul></main>`;
}

// The first lane that is free when an event begins.
function lanes(events) {
  const ends = [];
  return events.map((event) => {
    let lane = ends.findIndex((end) => end <= event.start_ms);
    if (lane < 0) lane = ends.length;
    ends[lane] = event.end_ms;
    return { event, lane };
  });
}

function Timeline({ events, duration, now, seek }) {
  const placed = lanes(events), count = 1 + Math.max(0, ...placed.map((p) => p.lane));
  const at = (ms) => (1000 * ms) / Math.max(duration, 1);
  return html`<svg class="lanes" viewBox=${"0 0 1000 " + count * 24} preserveAspectRatio="none" height=${count * 24} role="img"
    aria-label=${"Timeline of " + events.length + " events"}>${placed.map(({ event, lane }) => html`<rect x=${at(event.start_ms)} y=${lane * 24 + 3}
      width=${Math.max(2, at(event.end_ms - event.start_ms))} height="18" rx="3" class=${event.start_ms <= now && now < event.end_ms ? "now" : ""}
      onClick=${() => seek(event.start_ms)}><title>${event.caption}</title></rect>`)}<line x1=${at(now)} x2=${at(now)} y1="0" y2=${count * 24} /></svg>`;
}

function Rows({ rows, now, seek, text, provenance }) {
  return html`<ul class="rows">${rows.map((row) => html`<li class=${row.start_ms <= now && now < row.end_ms ? "now" : ""}>
    <button onClick=${() => seek(row.start_ms)}><span class="soft">${time(row.start_ms)}</span> ${row[text]}</button>
    ${provenance && html`<details><summary class="soft">Where it comes from</summary><dl>${PROVENANCE.map((key) => html`<dt>${key}</dt><dd>${row[key] ?? "–"}</dd>`)}</dl></details>`}</li>`)}</ul>`;
}

async function save(id) {
  const text = await ask(`/videos/${id}/events.vtt`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
  link.download = id + ".vtt"; link.click(); URL.revokeObjectURL(link.href);
}

function Video({ id, start }) {
  const player = useRef(null), [now, setNow] = useState(start), [broken, setBroken] = useState(false);
  const { value, error } = useAnswer("/videos/" + id);
  const events = useAnswer(`/videos/${id}/events`).value?.events || [];
  const said = useAnswer(`/videos/${id}/transcripts`).value?.transcripts || [];
  const seek = (ms) => { if (player.current) player.current.currentTime = ms / 1000; setNow(ms); };
  useEffect(() => seek(start), [start]);
  if (error) return html`<main><${Failed} error=${error} /></main>`;
  if (!value) return html`<main><p class="note" role="status">Loading…</p></main>`;
  const { video, media } = value;
  const duration = Math.max(video.duration_ms || 0, ...events.map((e) => e.end_ms));
  return html`<main><h2>${name(video.uri)}</h2><p class="soft">${video.uri} · ${video.status}${video.reason ? ": " + video.reason : ""}</p>
    <video ref=${player} controls preload="metadata" src=${media} aria-label=${name(video.uri)} onError=${() => setBroken(true)}
      onLoadedMetadata=${(e) => { e.target.currentTime = start / 1000; }} onTimeUpdate=${(e) => setNow(e.target.currentTime * 1000)}></video>
    ${broken && html`<p class="error" role="alert">This video cannot be played here: it has gone, or the browser does not know its format.</p>`}
    <${Timeline} events=${events} duration=${duration} now=${now} seek=${seek} />
    <p><button onClick=${() => save(id)}>Save as WebVTT</button></p>
    <h3>Events</h3>${events.length ? html`<${Rows} rows=${events} now=${now} seek=${seek} text="caption" provenance />` : html`<p class="note">This video has no events.</p>`}
    <h3>Transcript</h3>${said.length ? html`<${Rows} rows=${said} now=${now} seek=${seek} text="text" />` : html`<p class="note">Nothing is said, or nothing was heard.</p>`}</main>`;
}

function Table({ rows, columns, caption }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table><thead><tr>${columns.map(([, label]) => html`<th scope="col">${label}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${columns.map(([key]) => html`<td>${typeof key === "function" ? key(row) : row[key] ?? "–"}</td>`)}</tr>`)}</tbody></table></div>`;
}

function Runs() {
  const { value, error } = useAnswer("/runs");
  const failures = useAnswer("/failures").value?.failures || [];
  if (error) return html`<main><${Failed} error=${error} /></main>`;
  const covered = (r) => (r.listed ? (100 * (r.captioned + r.empty + r.unchanged)) / r.listed : 100).toFixed(1) + " %";
  return html`<main><h2>Runs</h2><${Table} caption="Runs" rows=${value?.runs || []} columns=${[["run_id", "Run"], ["job", "Job"], ["finished_at", "Finished"],
      ["listed", "Listed"], ["captioned", "Captioned"], ["failed", "Failed"], ["unchanged", "Unchanged"], ["removed", "Removed"], ["events", "Events"], [covered, "Coverage"]]} />
    <h2>Failures by reason</h2>${failures.length ? html`<${Table} caption="Failures by reason" rows=${failures} columns=${[["status", "Status"], ["stage", "Stage"],
      ["reason_code", "Reason"], ["videos", "Videos"], [(f) => html`<a href=${"#/video/" + f.video_id + "/0"}>${f.reason || "see one"}</a>`, "For example"]]} />`
      : html`<p class="note">No video has failed.</p>`}</main>`;
}

function Switch() {
  const [theme, setTheme] = useState(localStorage.getItem("theme") || "");
  useEffect(() => { document.documentElement.className = theme; localStorage.setItem("theme", theme); }, [theme]);
  return html`<label class="soft">Colours <select id="theme" value=${theme} onChange=${(e) => setTheme(e.target.value)}>
    <option value="">as the system</option><option value="light">light</option><option value="dark">dark</option></select></label>`;
}

function App() {
  const [view, id, start] = useHash().split("/");
  return html`<header><h1>Eventide</h1><nav aria-label="Pages"><a href="#/">Search</a><a href="#/runs">Runs</a></nav><${Switch} /></header>
    ${view === "video" ? html`<${Video} key=${id} id=${encodeURIComponent(id)} start=${Number(start) || 0} />` : view === "runs" ? html`<${Runs} />` : html`<${Search} />`}`;
}

addEventListener("keydown", (e) => {
  if (e.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { e.preventDefault(); document.getElementById("q")?.focus(); }
});
document.getElementById("app").replaceChildren();
render(html`<${App} />`, document.getElementById("app"));
