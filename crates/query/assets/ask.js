// Questions to /api/v1, and what is shown while there is no answer.
import { html, useEffect, useRef, useState } from "/preact.js";

/** Milliseconds until a server that is busy, or has no tables yet, is asked again. */
const AGAIN = 2000;

function failure(text, more) {
  return Object.assign(new Error(text), more);
}

/** Asks, and gives what is answered. `body` makes it a POST of JSON. */
export async function ask(path, signal, body) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: "Bearer " + token } : {};
  if (body) headers["Content-Type"] = "application/json";
  const options = { signal, headers, method: body ? "POST" : "GET", body: body && JSON.stringify(body) };
  const response = await fetch("/api/v1" + path, options).catch((error) => {
    throw signal?.aborted ? error : failure("The server cannot be reached.", { passes: true });
  });
  const kind = response.headers.get("Content-Type") || "";
  if (response.ok) return kind.startsWith("text/") ? response.text() : kind.startsWith("image/") ? response.blob() : response.json();
  if (response.status === 401) throw failure("A token is needed.", { needsToken: true, wrongToken: !!token });
  const said = await response.json().catch(() => ({}));
  throw failure(said.error || "The server answered with status " + response.status + ".", {
    reason: said.reason_code,
    passes: response.status === 503,
  });
}

/**
 * The answer to a question: `value`, or `error`, and `loading` while it is asked. A value stays until the next one is
 * there. A question that is null is not asked.
 */
export function useAnswer(path, wait = 0) {
  const [state, setState] = useState({ loading: true });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const stop = new AbortController();
    let timer = setTimeout(run, wait);
    setState((old) => ({ ...old, loading: true }));
    async function run() {
      try {
        const value = await ask(path, stop.signal);
        setState({ value, loading: false });
      } catch (error) {
        if (stop.signal.aborted) return;
        setState((old) => ({ value: old.value, error, loading: false }));
        if (error.passes) timer = setTimeout(run, AGAIN);
      }
    }
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [path, turn]);
  return { ...state, again: () => setTurn(turn + 1) };
}

/** A small picture of a moment of a video, asked for once it is about to be seen. Nothing where there is none. */
export function Picture({ id, at }) {
  const [src, setSrc] = useState(null);
  const place = useRef(null);
  useEffect(() => {
    const stop = new AbortController();
    let url = null;
    let timer = null;
    const load = async () => {
      try {
        url = URL.createObjectURL(await ask(`/videos/${encodeURIComponent(id)}/picture?at_ms=${at}`, stop.signal));
        if (!stop.signal.aborted) setSrc(url);
      } catch (error) {
        if (error.passes && !stop.signal.aborted) timer = setTimeout(load, AGAIN);
      }
    };
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      load();
    }, { rootMargin: "200px" });
    seen.observe(place.current);
    return () => {
      seen.disconnect();
      stop.abort();
      clearTimeout(timer);
      if (url) URL.revokeObjectURL(url);
    };
  }, [id, at]);
  return html`<span class="picture" ref=${place}>${src && html`<img src=${src} alt="" />`}</span>`;
}

/** What there is instead of an answer: a form for the token, an empty state, or what went wrong. */
export function Trouble({ error, again }) {
  if (error.needsToken) return html`<${SignIn} wrong=${error.wrongToken} />`;
  if (error.reason === "no_tables") {
    return html`<section class="card blank" role="status"><h2>Nothing has been indexed yet</h2>
      <p>The first run is shown here as soon as it is published. It is made by</p>
      <p><code>eventide index JOB.toml</code></p></section>`;
  }
  return html`<section class="card wrong" role="alert"><p>${error.message}</p>
    ${again && html`<button onClick=${again}>Try again</button>`}</section>`;
}

function SignIn({ wrong }) {
  const [token, setToken] = useState("");
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", token.trim());
    dispatchEvent(new Event("token"));
  };
  return html`<form class="card sign-in" onSubmit=${submit}><h2>Sign in</h2>
    <p class="soft">This server answers who has its token. It is kept until the tab is closed.</p>
    ${wrong && html`<p class="wrong" role="alert">That is not the token of this server.</p>`}
    <label>Token
      <input ref=${field} type="password" autocomplete="current-password" required value=${token}
        onInput=${(event) => setToken(event.target.value)} /></label>
    <button class="main">Sign in</button></form>`;
}

/** Lines in the place of what is being asked for. */
export function Waiting() {
  return html`<p class="soft" role="status">Loading…</p>`;
}

/** `1:02:03` or `02:03`. */
export function time(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (number) => String(number).padStart(2, "0");
  const hours = seconds >= 3600 ? Math.floor(seconds / 3600) + ":" : "";
  return hours + two(Math.floor(seconds / 60) % 60) + ":" + two(seconds % 60);
}

/** The last part of an address, as people read it. */
export function fileName(uri) {
  const last = uri.split("/").pop();
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/** A number of things. */
export function count(number, one, many = one + "s") {
  return number.toLocaleString("en") + " " + (number === 1 ? one : many);
}
