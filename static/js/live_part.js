// A part of a page that is fetched again at each "changed" of its topic, and every `everyMs` while the tab is visible.
// Cells of its rows that change with the progress come with "rows".
import { Stream, connectionBanner } from "./stream.js";

const BETWEEN_MS = 1000;

// {id of a run: {name of a cell: HTML}}, for the rows and cells that the page shows.
function updateRows(rows) {
  for (const [run, cells] of Object.entries(rows)) {
    for (const row of document.querySelectorAll(`[data-row="${run}"]`)) {
      for (const cell of row.querySelectorAll("[data-cell]")) {
        const html = cells[cell.dataset.cell];
        if (html !== undefined) Idiomorph.morph(cell, html, { morphStyle: "innerHTML" });
      }
    }
  }
}

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
    const isOutdated = () => asked !== location.pathname + location.search; // the filters changed meanwhile
    const drop = ({ detail }) => {
      if (detail.requestConfig.elt === part && isOutdated()) detail.shouldSwap = false;
    };
    document.addEventListener("htmx:beforeSwap", drop);
    return htmx.ajax("GET", asked, { source: part, target: part, swap: "morph:outerHTML" }).finally(() => {
      document.removeEventListener("htmx:beforeSwap", drop);
      if (isOutdated()) refresh();
    });
  }

  function refresh() {
    if (timer) return;
    timer = setTimeout(fetchPart, Math.max(busy() ? BETWEEN_MS : 0, last + BETWEEN_MS - Date.now()));
  }

  const { topic, after } = document.getElementById(id).dataset;
  const onState = connectionBanner(document.getElementById("connection"));
  const handlers = { changed: refresh, rows: (json) => updateRows(JSON.parse(json)) };
  const stream = new Stream(topic, { after: Number(after), handlers, onState });
  if (everyMs) setInterval(() => document.hidden || refresh(), everyMs);
  return stream;
}
