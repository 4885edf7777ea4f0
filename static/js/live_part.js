// A part of a page that is fetched again at each "changed" of a stream, and every `everyMs` while the tab is visible.
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
    const address = location.pathname + location.search;
    return htmx.ajax("GET", address, { source: part, target: part, swap: "morph:outerHTML" });
  }

  function refresh() {
    if (timer) return;
    timer = setTimeout(fetchPart, Math.max(busy() ? BETWEEN_MS : 0, last + BETWEEN_MS - Date.now()));
  }

  const banner = connectionBanner(document.getElementById("connection"));
  let wasLost = false;
  new Stream(document.getElementById(id).dataset.stream, {
    handlers: { changed: refresh },
    onState(state) {
      if (state === "live" && wasLost) refresh(); // the stream has no history: fetch the part
      wasLost = state === "lost" || (wasLost && state !== "live");
      banner(state);
    },
  });
  if (everyMs) setInterval(() => document.hidden || refresh(), everyMs);
}
