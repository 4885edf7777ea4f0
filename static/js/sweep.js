// The page of a sweep: it is fetched again when a run changes its status, and while trials train. The chart stays.
import { ChartGroup } from "./charts.js";
import { follow } from "./live_part.js";

const PROGRESS_MS = 15000; // the results so far of trials that train

const group = new ChartGroup(document.getElementById("sweep-charts"));

function show() {
  const lines = JSON.parse(document.getElementById("sweep-history").textContent);
  group.setLines("history", lines.map((line) => ({ ...line, owner: line.id })));
}

show();
document.addEventListener("htmx:afterSettle", show);
follow("sweep", { everyMs: PROGRESS_MS });
