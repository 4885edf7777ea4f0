// A part of a page that is fetched again at each "changed" of its topic, and every `everyMs` while the tab is visible.
import { Stream, connectionBanner } from "./stream.js";

const BETWEEN_MS = 1000;

// While `busy()` is true the part is not replaced; it is fetched as soon as that ends.
export function follow(id, { everyMs = 0, busy = () => false } = {}) {
  let last = 0;
  let timer = null;

  function fetchPart() {
    timer = null;
    if (busy()) return refresh();
    last = Date.now();
    const part = document.getElementById(id);
    const asked = location.pathname + location.search;
    return htmx.ajax("GET", asked, { source: part, target: part, swap: "morph:outerHTML" }).then(() => {
      if (asked !== location.pathname + location.search) refresh(); // the filters changed meanwhile: this response is outdated
    });
  }

  function refresh() {
    if (timer) return;
    timer = setTimeout(fetchPart, Math.max(busy() ? BETWEEN_MS : 0, last + BETWEEN_MS - Date.now()));
  }

  const { topic, after } = document.getElementById(id).dataset;
  const onState = connectionBanner(document.getElementById("connection"));
  const stream = new Stream(topic, { after: Number(after), handlers: { changed: refresh }, onState });
  if (everyMs) setInterval(() => document.hidden || refresh(), everyMs);
  return stream;
}
