// The page: its frame, and which view is shown. Rows come from /api/v1 under the names of the tables.
import { html, render, useEffect, useState } from "/preact.js";
import { Search } from "/search.js";
import { Video } from "/video.js";
import { Failed, Runs } from "/runs.js";

/** What follows `#/` in the address, kept up to date. */
function useHash() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const change = () => setHash(location.hash);
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return hash.replace(/^#\/?/, "");
}

/** Grows whenever a token was given or forgotten, so that everything is asked anew. */
function useToken() {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const change = () => setTurn((turn) => turn + 1);
    addEventListener("token", change);
    return () => removeEventListener("token", change);
  }, []);
  return turn;
}

/** The colours that were chosen, from the first picture on. */
const chosen = localStorage.getItem("theme") || "";
document.documentElement.className = chosen;

function Colours() {
  const [theme, set] = useState(chosen);
  const setTheme = (theme) => {
    document.documentElement.className = theme;
    localStorage.setItem("theme", theme);
    set(theme);
  };
  return html`<label class="colours"><span class="soft">Colours</span>
    <select id="theme" value=${theme} onChange=${(event) => setTheme(event.target.value)}>
      <option value="">system</option><option value="light">light</option><option value="dark">dark</option>
    </select></label>`;
}

function SignOut() {
  if (!sessionStorage.getItem("token")) return null;
  const forget = () => {
    sessionStorage.removeItem("token");
    dispatchEvent(new Event("token"));
  };
  return html`<button class="plain" onClick=${forget}>Sign out</button>`;
}

function view(path) {
  const [name, ...rest] = path.split("?")[0].split("/").map(decodeURIComponent);
  if (name === "video") return html`<${Video} key=${rest[0]} id=${rest[0]} start=${Number(rest[1]) || 0} />`;
  if (name === "runs") return html`<${Runs} />`;
  if (name === "failed") return html`<${Failed} key=${path} status=${rest[0]} reason=${rest[1]} />`;
  return html`<${Search} />`;
}

function App() {
  const path = useHash();
  const token = useToken();
  const name = path.split(/[/?]/)[0];
  useEffect(() => {
    const place = { runs: "Runs", failed: "Failures", video: "Video" }[name] || "Search";
    document.title = place + " · Eventide";
    if (name) scrollTo(0, 0);
  }, [name]);
  const tab = (href, text, here) => html`<a href=${href} aria-current=${here ? "page" : undefined}>${text}</a>`;
  return html`<a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); document.getElementById("content").focus(); }}>Skip to the content</a>
    <header><h1><a href="#/">Eventide</a></h1>
      <nav aria-label="Pages">${tab("#/", "Search", name === "" || name === "search")}${tab("#/runs", "Runs", name === "runs" || name === "failed")}</nav>
      <${SignOut} key=${"out" + token} /><${Colours} /></header>
    <main id="content" tabindex="-1" key=${token}>${view(path)}</main>`;
}

// "/" leads to the search box, from wherever nothing is typed.
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  const box = document.getElementById("q");
  if (box) box.focus();
  else location.hash = "#/";
});

document.getElementById("app").replaceChildren();
render(html`<${App} />`, document.getElementById("app"));
