// Search: what is typed becomes a question, and the best events are listed.
import { html, useEffect, useMemo, useRef, useState } from "/preact.js";
import { Picture, Trouble, ask, count, fileName, time, useAnswer } from "/ask.js";

/** Events that are asked for at a time. */
const PART = 50;
/** Milliseconds after the last key until it is asked. */
const PAUSE = 120;

/** Filters whose values are chosen from what the tables hold. */
const CHOICES = [["source", "Source"], ["language", "Language"], ["model_id", "Model"], ["run_id", "Run"]];
/** Filters that are typed: name, label, kind of the field, step. */
const FIELDS = [
  ["min_score", "Least score", "number", "any"],
  ["min_duration_s", "At least, seconds", "number", "any"],
  ["max_duration_s", "At most, seconds", "number", "any"],
  ["since", "Indexed from", "date"],
  ["until", "Indexed before", "date"],
];
const OPERATOR = /(^|\s)(AND|OR|NOT|NEAR(\/\d*)?)$/;

/** What is typed so far, as a question that can be answered: open quotes and brackets are closed, the last word may go on. */
export function question(typed) {
  let text = typed.trimEnd();
  while (OPERATOR.test(text) || /(^|[\s(])[+\-(]$/.test(text)) text = text.replace(/\S$|\S+$/, "").trimEnd();
  if (text.split('"').length % 2 === 0) return closed(openPhrase(text));
  const last = text.match(/(^|[\s(+-])(\p{L}[\p{L}\p{N}]+)$/u);
  if (!last || typed !== text || /NEAR(\/\d+)?\s+\S+$/.test(text)) return closed(text);
  return closed(text.slice(0, text.length - last[2].length) + `(${last[2]} OR ${last[2]}*)`);
}

/** A phrase that is still typed: its whole words, and the beginning of the last. */
function openPhrase(text) {
  const from = text.lastIndexOf('"');
  const words = text.slice(from + 1).split(/\s+/).filter(Boolean);
  const last = words.pop();
  const begun = last && /^[\p{L}\p{N}]+$/u.test(last) ? last + "*" : "";
  const whole = words.length ? `"${words.join(" ")}"` : "";
  const phrase = whole && begun ? `(${whole} AND ${begun})` : whole || begun;
  return (text.slice(0, from) + phrase).trim();
}

function closed(text) {
  let open = 0;
  let quoted = false;
  for (const letter of text) {
    if (letter === '"') quoted = !quoted;
    else if (!quoted && letter === "(") open += 1;
    else if (!quoted && letter === ")") open -= 1;
  }
  return text + ")".repeat(Math.max(0, open));
}

function parameters(words, filters) {
  const query = new URLSearchParams({ q: question(words), limit: String(PART) });
  for (const [key, value] of Object.entries(filters)) {
    if (key === "since" || key === "until") query.set(key + "_ms", String(Date.parse(value)));
    else if (key.endsWith("_s")) query.set(key.replace(/_s$/, "_ms"), String(Math.round(Number(value) * 1000)));
    else query.set(key, value);
  }
  return query.toString();
}

/** Words and filters are kept in the address, so that a search can be sent to others and gone back to. */
function fromAddress() {
  const query = new URLSearchParams(location.hash.split("?")[1] || "");
  const { q: words = "", ...filters } = Object.fromEntries(query);
  return { words, filters };
}

function toAddress(words, filters) {
  const query = new URLSearchParams(words ? { q: words, ...filters } : filters).toString();
  history.replaceState(null, "", query ? "#/search?" + query : "#/");
}

/** The best events, and those after them once they are asked for. */
function useHits(words, filters) {
  const asked = parameters(words, filters);
  const { value, error, loading, again } = useAnswer("/search?" + asked, PAUSE);
  const [more, setMore] = useState({ events: [] });
  useEffect(() => setMore({ events: [] }), [value]);
  const first = value?.events || [];
  const known = new Set(first.map((event) => event.event_id));
  const events = first.concat(more.events.filter((event) => !known.has(event.event_id)));
  const next = async () => {
    setMore({ ...more, loading: true });
    try {
      const part = await ask(`/search?${asked}&offset=${first.length + more.events.length}`);
      setMore({ events: more.events.concat(part.events), ended: part.events.length === 0 });
    } catch (problem) {
      setMore({ ...more, loading: false, error: problem });
    }
  };
  const left = value && !more.ended ? value.total - first.length - more.events.length : 0;
  return { value, events, total: value?.total, left, next, more, error, loading, again };
}

function Filters({ filters, set }) {
  const groups = useAnswer("/groups").value?.groups || [];
  const values = (name) => [...new Set(groups.map((group) => group[name]).filter(Boolean))];
  const options = (name) => [...new Set([...values(name), filters[name]].filter(Boolean))];
  return html`<div class="filters">
    ${CHOICES.map(([name, label]) => html`<label key=${name}>${label}
      <select name=${name} value=${filters[name] || ""} onChange=${(event) => set(name, event.target.value)}>
        <option value="">any</option>${options(name).map((value) => html`<option key=${value} value=${value}>${value}</option>`)}
      </select></label>`)}
    ${FIELDS.map(([name, label, kind, step]) => html`<label key=${name}>${label}
      <input type=${kind} step=${step} name=${name} value=${filters[name] || ""}
        onInput=${(event) => set(name, event.target.value)} /></label>`)}
  </div>`;
}

/** The words that were looked for, marked in a text. */
function Marked({ text, words }) {
  const looked = words.toLowerCase().match(/[\p{L}\p{N}]{2,}/gu) || [];
  const alike = (word) => looked.some((other) =>
    word.startsWith(other) || (word.length > 3 && other.startsWith(word) && other.length - word.length < 4));
  const parts = text.split(/([\p{L}\p{N}]+)/u);
  return parts.map((part, at) => (at % 2 && alike(part.toLowerCase()) ? html`<mark>${part}</mark>` : part));
}

function Hit({ event, words, pictures }) {
  const said = event.speech && event.speech !== event.caption ? event.speech : null;
  return html`<li><a href=${`#/video/${event.video_id}/${event.start_ms}`}>
    ${pictures && html`<${Picture} id=${event.video_id} at=${Math.round((event.start_ms + event.end_ms) / 2)} />`}
    <span class="when">${time(event.start_ms)}<span class="soft"> – ${time(event.end_ms)}</span></span>
    <span class="what"><strong><${Marked} text=${event.caption} words=${words} /></strong>
      ${said && html`<span class="soft said"><${Marked} text=${said} words=${words} /></span>`}
      <span class="soft facts"><span>${fileName(event.uri)}</span>
        ${event.source === "speech" ? html`<span class="chip">speech</span>` : null}
        ${event.score == null ? null : html`<span title="mean log-probability of its words">score ${event.score.toFixed(2)}</span>`}</span>
    </span></a></li>`;
}

/** Arrow keys go from the box to the hits, and from one to the next. */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.target.tagName === "SELECT" || event.target.type === "number" || event.target.type === "date") return;
  const stops = [document.getElementById("q"), ...document.querySelectorAll("#hits a")];
  const to = stops[stops.indexOf(document.activeElement) + step];
  if (!stops.includes(document.activeElement) || !to) return;
  event.preventDefault();
  to.focus();
}

function Count({ hits, error, typed }) {
  if (error) {
    return error.reason === "query" ? html`Not a question yet: ${error.message.split(": ").slice(1).join(": ") || error.message}` : "";
  }
  if (hits.total === undefined) return "Searching…";
  if (hits.total > 0) return count(hits.total, "event");
  return typed ? "Nothing was found. Try fewer words, or begin a word and end it with *." : "There are no events.";
}

export function Search() {
  const [{ words, filters }, setAsked] = useState(fromAddress);
  const [shown, setShown] = useState(Object.keys(filters).length > 0);
  const box = useRef(null);
  useEffect(() => box.current?.focus(), []);
  useEffect(() => toAddress(words, filters), [words, filters]);
  const hits = useHits(words, filters);
  const { error } = hits;
  const pictures = useAnswer("/about").value?.pictures;
  const set = (name, value) => {
    const { [name]: _, ...others } = filters;
    setAsked({ words, filters: value === "" ? others : { ...others, [name]: value } });
  };
  const active = Object.keys(filters).length;
  const list = useMemo(() => html`<ol class=${pictures ? "hits pictured" : "hits"} id="hits">${hits.events.map((event) =>
    html`<${Hit} key=${event.event_id} event=${event} words=${words} pictures=${pictures} />`)}</ol>`, [hits.value, hits.more, words, pictures]);
  if (error && error.reason !== "query") return html`<h2 class="hidden">Search</h2><${Trouble} error=${error} again=${hits.again} />`;
  return html`<div onKeyDown=${walk}><h2 class="hidden">Search</h2>
    <div class="search"><label class="hidden" for="q">Search in captions and speech</label>
      <input type="search" id="q" ref=${box} value=${words} placeholder="What happens?" autocomplete="off" spellcheck="false"
        aria-describedby="how" onInput=${(event) => setAsked({ words: event.target.value, filters })} />
      <button aria-expanded=${shown ? "true" : "false"} aria-controls="filters" onClick=${() => setShown(!shown)}>Filters${active ? html` <span class="chip">${active}</span>` : ""}</button></div>
    <p class="soft how" id="how">Words, <code>"phrases"</code>, <code>AND</code> <code>OR</code> <code>NOT</code>,
      <code>garlic NEAR pan</code>, <code>gar*</code></p>
    <div id="filters" hidden=${!shown}>${shown && html`<${Filters} filters=${filters} set=${set} />
      ${active > 0 && html`<button class="plain" onClick=${() => setAsked({ words, filters: {} })}>Clear the filters</button>`}`}</div>
    <p class="soft count" role="status"><${Count} hits=${hits} error=${error} typed=${words || active} /></p>
    <div class=${hits.loading || error ? "pending" : ""}>${list}</div>
    ${hits.more.error && html`<${Trouble} error=${hits.more.error} again=${hits.next} />`}
    ${hits.left > 0 && html`<p class="more"><button onClick=${hits.next} disabled=${hits.more.loading}>
      ${hits.more.loading ? "Loading…" : "More results"}</button></p>`}</div>`;
}
