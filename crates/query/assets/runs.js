// Runs: what they did, how sure the model was and what it cost over time, and what failed.
import { html, useState } from "/preact.js";
import { Trouble, Waiting, ask, count, fileName, useAnswer } from "/ask.js";

const HOUR = 3600 * 1000;
/** Rows of a list of videos that are asked for at a time. */
const PART = 100;
const WIDTH = 320;
const HEIGHT = 96;

const short = (number) => number.toLocaleString("en", { maximumSignificantDigits: 3 });
const day = (moment) => moment.slice(0, 16).replace("T", " ");
const share = (part, whole) => (whole ? ((100 * part) / whole).toFixed(1) + " %" : "–");

/** The newest figure, and a small line over the runs, oldest first. */
function Chart({ label, unit, points }) {
  const known = points.filter((point) => Number.isFinite(point.value));
  if (known.length === 0) return null;
  const values = known.map((point) => point.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (at) => 8 + (at * (WIDTH - 16)) / Math.max(1, points.length - 1);
  const y = (value) => (high === low ? HEIGHT / 2 : 8 + ((high - value) * (HEIGHT - 16)) / (high - low));
  const dots = points.map((point, at) => ({ ...point, x: x(at), y: y(point.value) })).filter((dot) => Number.isFinite(dot.value));
  const last = known[known.length - 1];
  const told = `${label}: ${short(last.value)}${unit} in the newest run, between ${short(low)} and ${short(high)}${unit} over ${count(known.length, "run")}`;
  return html`<figure class="card chart"><figcaption>${label}<strong>${short(last.value)}${unit}</strong></figcaption>
    ${dots.length > 1 && html`<svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${told}>
      <polyline points=${dots.map((dot) => `${dot.x},${dot.y}`).join(" ")} />
      ${dots.map((dot) => html`<circle key=${dot.name} cx=${dot.x} cy=${dot.y} r="3.5"><title>${dot.name}: ${short(dot.value)}${unit}</title></circle>`)}
    </svg><div class="soft range"><span>${short(low)}</span><span>${short(high)}</span></div>`}</figure>`;
}

/** The mean score of the events that each run has left in the tables. */
function scores(groups) {
  const sums = new Map();
  for (const { run_id: run, scored, mean_score: mean } of groups) {
    if (!scored) continue;
    const sum = sums.get(run) || { scored: 0, total: 0 };
    sums.set(run, { scored: sum.scored + scored, total: sum.total + scored * mean });
  }
  return (run) => (sums.has(run) ? sums.get(run).total / sums.get(run).scored : NaN);
}

function Charts({ runs, groups }) {
  const worked = runs.filter((run) => run.captioned + run.empty + run.failed > 0).reverse();
  const score = scores(groups);
  const over = (value) => worked.map((run) => ({ name: day(run.finished_at), value: value(run) }));
  const anHour = (run, ms) => (run.video_ms > 0 ? (ms / 1000) * (HOUR / run.video_ms) : NaN);
  const device = worked.some((run) => run.device_ms > 0);
  return html`<div class="charts">
    <${Chart} label="Core-seconds a video-hour" unit=" s" points=${over((run) => anHour(run, run.core_ms))} />
    ${device && html`<${Chart} label="Device-seconds a video-hour" unit=" s" points=${over((run) => anHour(run, run.device_ms))} />`}
    <${Chart} label="Mean score of events" unit="" points=${over((run) => score(run.run_id))} />
    <${Chart} label="Videos that failed" unit=" %" points=${over((run) => (100 * run.failed) / (run.captioned + run.empty + run.failed))} />
  </div>`;
}

function Table({ rows, columns, caption }) {
  return html`<div class="scroll card" tabindex="0" role="region" aria-label=${caption}><table>
    <thead><tr>${columns.map(([, label, kind]) => html`<th key=${label} scope="col" class=${kind}>${label}</th>`)}</tr></thead>
    <tbody>${rows.map((row, at) => html`<tr key=${at}>${columns.map(([value, label, kind]) =>
      html`<td key=${label} class=${kind}>${typeof value === "function" ? value(row) : row[value] ?? "–"}</td>`)}</tr>`)}</tbody></table></div>`;
}

const number = (key) => (row) => row[key].toLocaleString("en");
const RUNS = [
  [(run) => day(run.finished_at), "Finished (UTC)", "nowrap"], ["job", "Job", "nowrap"],
  [(run) => share(run.captioned + run.empty + run.unchanged, run.listed), "Coverage", "number"],
  [number("listed"), "Listed", "number"], [number("captioned"), "Captioned", "number"], [number("empty"), "Empty", "number"],
  [number("failed"), "Failed", "number"], [number("skipped"), "Skipped", "number"], [number("unchanged"), "Unchanged", "number"],
  [number("removed"), "Removed", "number"], [number("events"), "Events", "number"], ["run_id", "Run", "code"],
];
const listed = (group) => `#/failed/${group.status}/${encodeURIComponent(group.reason_code || "")}`;
const FAILURES = [
  ["status", "Status"], ["stage", "Stage"], [(group) => html`<a href=${listed(group)}>${group.reason_code || "no reason"}</a>`, "Reason"],
  [number("videos"), "Videos", "number"],
  [(group) => html`<a href=${`#/video/${group.video_id}/0`}>${group.reason || "see one"}</a>`, "For example"],
];

export function Runs() {
  const answer = useAnswer("/runs?limit=200");
  const groups = useAnswer("/groups");
  const failures = useAnswer("/failures");
  if (answer.error) return html`<h2>Runs</h2><${Trouble} error=${answer.error} again=${answer.again} />`;
  if (!answer.value) return html`<h2>Runs</h2><${Waiting} />`;
  const { runs } = answer.value;
  return html`<h2>Runs</h2><${Charts} runs=${runs} groups=${groups.value?.groups || []} />
    <${Table} caption="Runs" rows=${runs} columns=${RUNS} />
    <h2>Failures by reason</h2>
    ${failures.error ? html`<${Trouble} error=${failures.error} again=${failures.again} />`
      : !failures.value ? html`<${Waiting} />`
      : failures.value.failures.length === 0 ? html`<p class="soft">No video has failed.</p>`
      : html`<${Table} caption="Failures by reason" rows=${failures.value.failures} columns=${FAILURES} />`}`;
}

const VIDEOS = [
  [(video) => html`<a href=${`#/video/${video.video_id}/0`}>${fileName(video.uri)}</a>`, "Video"],
  ["stage", "Stage"], ["reason", "Reason"], [number("attempts"), "Attempts", "number"],
  [(video) => day(video.indexed_at), "Tried (UTC)", "nowrap"],
];

/** The videos that failed for one reason. */
export function Failed({ status, reason }) {
  const query = new URLSearchParams({ status, limit: String(PART), ...(reason && { reason_code: reason }) });
  const answer = useAnswer("/videos?" + query);
  const [more, setMore] = useState([]);
  const [ended, setEnded] = useState(false);
  const [error, setError] = useState(null);
  if (answer.error) return html`<${Trouble} error=${answer.error} again=${answer.again} />`;
  if (!answer.value) return html`<${Waiting} />`;
  const videos = answer.value.videos.concat(more);
  const next = () => ask(`/videos?${query}&offset=${videos.length}`).then((part) => {
    setMore(more.concat(part.videos));
    setEnded(part.videos.length < PART);
  }, setError);
  return html`<p><a href="#/runs">Runs</a></p><h2>Videos ${status}${reason ? ": " + reason : ""}</h2>
    ${videos.length === 0 ? html`<p class="soft">There are none.</p>` : html`<${Table} caption="Videos" rows=${videos} columns=${VIDEOS} />`}
    ${error && html`<${Trouble} error=${error} />`}
    ${!ended && answer.value.videos.length === PART && html`<p class="more"><button onClick=${next}>More videos</button></p>`}`;
}
