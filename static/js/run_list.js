// The table of runs is fetched again, with its filters, at each "changed" of the stream.
import { Stream, connectionBanner } from "./stream.js";

const BETWEEN_MS = 1000;
const table = document.getElementById("runs");
let last = 0;
let timer = null;

function refresh() {
  if (timer) return;
  timer = setTimeout(() => {
    timer = null;
    last = Date.now();
    const here = document.getElementById("runs");
    const asked = location.pathname + location.search;
    htmx.ajax("GET", asked, { source: here, target: here, swap: "morph:outerHTML" }).then(() => {
      if (asked !== location.pathname + location.search) refresh(); // the filters changed meanwhile: this response is outdated
    });
  }, Math.max(0, last + BETWEEN_MS - Date.now()));
}

const banner = connectionBanner(document.getElementById("connection"));
let wasLost = false;
new Stream(table.dataset.stream, {
  handlers: { changed: refresh },
  onState(state) {
    if (state === "live" && wasLost) refresh(); // the stream has no history: fetch the table
    wasLost = state === "lost" || (wasLost && state !== "live");
    banner(state);
  },
});
