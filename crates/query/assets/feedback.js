// What a person says about an event: right, wrong, or what it should be.
import { html, useEffect, useRef, useState } from "/preact.js";
import { ask } from "/ask.js";

const seconds = (ms) => String(ms / 1000);
const milliseconds = (text) => Math.round(Number(text) * 1000);

/** A form with the event as it is. Only what was changed is sent. */
function Edit({ event, mark, send, close, now }) {
  const [caption, setCaption] = useState(mark?.caption ?? event.caption);
  const [start, setStart] = useState(seconds(mark?.start_ms ?? event.start_ms));
  const [end, setEnd] = useState(seconds(mark?.end_ms ?? event.end_ms));
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const submit = (submitted) => {
    submitted.preventDefault();
    const edits = {};
    if (caption.trim() !== event.caption) edits.caption = caption.trim();
    if (milliseconds(start) !== event.start_ms) edits.start_ms = milliseconds(start);
    if (milliseconds(end) !== event.end_ms) edits.end_ms = milliseconds(end);
    if (Object.keys(edits).length > 0) send("edited", edits);
    close();
  };
  const moment = (label, value, set) => html`<label>${label}, seconds
    <input type="number" min="0" step="any" required value=${value} onInput=${(typed) => set(typed.target.value)} />
    <button type="button" class="plain" onClick=${() => set((now / 1000).toFixed(2))}>Take the player's</button></label>`;
  return html`<form class="edit" onSubmit=${submit} onKeyDown=${(key) => key.key === "Escape" && close()}>
    <label>Caption <textarea ref=${field} rows="2" maxlength="2000" required value=${caption}
      onInput=${(typed) => setCaption(typed.target.value.replace(/\s*\n\s*/g, " "))}></textarea></label>
    <div>${moment("Start", start, setStart)}${moment("End", end, setEnd)}</div>
    <div><button class="main">Save</button> <button type="button" onClick=${close}>Cancel</button></div></form>`;
}

/** What was said last about an event, and the ways to say something else. */
export function Feedback({ event, mark, said, now }) {
  const [editing, setEditing] = useState(false);
  const [error, setError] = useState(null);
  const send = async (verdict, edits = {}) => {
    const before = mark;
    setError(null);
    said({ event_id: event.event_id, verdict, ...edits });
    try {
      await ask("/feedback", undefined, { event_id: event.event_id, verdict, ...edits });
    } catch (failure) {
      said(before || { event_id: event.event_id });
      setError(failure);
    }
  };
  const button = (verdict, label) => html`<button class=${"verdict " + verdict} aria-pressed=${mark?.verdict === verdict ? "true" : "false"}
    onClick=${() => send(verdict)}>${label}</button>`;
  return html`<div class="feedback" role="group" aria-label=${"Is this event right? " + event.caption}>
      ${button("right", "Right")}${button("wrong", "Wrong")}
      <button class="verdict edited" aria-pressed=${mark?.verdict === "edited" ? "true" : "false"} aria-expanded=${editing ? "true" : "false"}
        onClick=${() => setEditing(!editing)}>Edit</button></div>
    ${editing && html`<${Edit} event=${event} mark=${mark} send=${send} close=${() => setEditing(false)} now=${now} />`}
    ${mark?.verdict === "edited" && !editing && html`<p class="better">Better: ${mark.caption || event.caption}
      ${mark.start_ms != null || mark.end_ms != null ? html` <span class="soft">${seconds(mark.start_ms ?? event.start_ms)}–${seconds(mark.end_ms ?? event.end_ms)} s</span>` : ""}</p>`}
    ${error && html`<p class="wrong" role="alert">Not saved: ${error.message}</p>`}`;
}
