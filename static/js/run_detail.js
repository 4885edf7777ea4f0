// The page of a run: replaces parts, appends to the log and feeds the charts.
import { Log } from "./log.js";
import { RunCharts } from "./run_charts.js";
import { Stream, connectionBanner } from "./stream.js";

const root = document.getElementById("run");
const announcer = document.getElementById("announcer");
const chartRoot = document.getElementById("run-charts");
const charts = new RunCharts(chartRoot);
const log = new Log(document.getElementById("log-panel"));

// A verb that is done takes its button away. The focus stays with the button where there still is one, and moves to the
// status otherwise: not to another button, which the next press of a key would use.
let focusedVerb = null;
document.addEventListener("focusin", (event) => {
  focusedVerb = event.target.closest("#part-header [id^=verb-], #part-header #run-menu [id]")?.id ?? null;
});
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("#part-header")) focusedVerb = null;
});
document.addEventListener("htmx:afterSettle", restoreFocus);

function restoreFocus() {
  if (!focusedVerb || document.activeElement !== document.body) return;
  const button = document.getElementById(focusedVerb);
  (button && !button.disabled && button.checkVisibility() ? button : document.getElementById("run-status")).focus();
}

function replacePart(name) {
  return (html) => {
    const old = document.getElementById(`part-${name}`);
    const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    if (!old || !fresh || Number(fresh.dataset.version || 0) < Number(old.dataset.version || 0)) return;
    const before = old.dataset.status;
    Idiomorph.morph(old, fresh, { morphStyle: "outerHTML" });
    const now = document.getElementById(`part-${name}`);
    htmx.process(now);
    if (name === "header") restoreFocus();
    if (name === "header" && before !== now.dataset.status) announcer.textContent = now.dataset.statusText;
    if (name === "header") rest();
    if (name === "progress") charts.totals(now.dataset);
  };
}

const banner = connectionBanner(document.getElementById("connection"));
const handlers = {
  log: (html) => log.append(html),
  metrics: (json) => charts.add(JSON.parse(json)),
  rewind: (json) => charts.rewind(JSON.parse(json)),
};
for (const name of ["header", "pause_cost", "progress", "failure", "checkpoints", "evaluation", "batch"]) handlers[name] = replacePart(name);

// More than the stream repeats was missed: the tab was hidden for long.
handlers.behind = () => {
  log.load(root.dataset.log);
  charts.load(chartRoot.dataset.metrics);
};

charts.totals(document.getElementById("part-progress").dataset);
charts.load(chartRoot.dataset.metrics);
const FINISHED = ["completed", "failed", "stopped"];
const isFinished = () => FINISHED.includes(document.getElementById("part-header").dataset.status);
const stream = new Stream(root.dataset.topic, {
  after: Number(root.dataset.after),
  handlers,
  isResting: isFinished(),
  onState(state) {
    banner(state);
    if (state === "gone") document.getElementById("part-header").inert = true; // there is nothing left to start or to stop
  },
});

// A button may have continued a run that had finished.
function rest() {
  stream.rest(isFinished());
}
document.addEventListener("htmx:afterSettle", rest);
