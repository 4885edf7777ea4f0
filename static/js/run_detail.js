// The page of a run: replaces parts, appends to the log and feeds the charts.
import { Charts } from "./charts.js";
import { Log } from "./log.js";
import { Stream, connectionBanner } from "./stream.js";

const root = document.getElementById("run");
const announcer = document.getElementById("announcer");
const charts = new Charts(root);
const log = new Log(document.getElementById("log-panel"));

function replacePart(name) {
  return (html) => {
    const old = document.getElementById(`part-${name}`);
    const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    if (!old || !fresh || Number(fresh.dataset.version || 0) < Number(old.dataset.version || 0)) return;
    const before = old.dataset.status;
    Idiomorph.morph(old, fresh, { morphStyle: "outerHTML" });
    const now = document.getElementById(`part-${name}`);
    htmx.process(now);
    if (name === "header" && before !== now.dataset.status) announcer.textContent = now.dataset.statusText;
    if (name === "progress") charts.totals(now.dataset);
  };
}

const handlers = {
  log: (html) => log.append(html),
  metrics: (json) => charts.add(JSON.parse(json)),
  rewind: (json) => charts.rewind(JSON.parse(json)),
};
for (const name of ["header", "pause_cost", "progress", "failure", "checkpoints", "evaluation", "batch"]) handlers[name] = replacePart(name);

charts.totals(document.getElementById("part-progress").dataset);
charts.load(root.dataset.metrics);
new Stream(root.dataset.stream, {
  after: Number(root.dataset.after),
  handlers,
  onState: connectionBanner(document.getElementById("connection")),
});
