// The page of a run: replaces the parts of its frame, and feeds or fetches the tab that is open.
import { forgetSubmitted } from "./draft.js";
import { startEvaluation } from "./evaluation.js";
import { Log } from "./log.js";
import { RunCharts } from "./run_charts.js";
import { Stream, connectionBanner } from "./stream.js";

const BETWEEN_MS = 1500; // between two requests for the open tab
const KEPT_MESSAGES = 100; // of the log, for a log that is opened while they arrive

const root = document.getElementById("run");
const announcer = document.getElementById("announcer");
let charts = null;
let log = null;
let opened = null;
const recent = [];

// What a tab needs besides its HTML. Charts that stay when the tab is fetched again go on with their points.
function openTab() {
  const tab = document.getElementById("run-tab");
  const chartRoot = document.getElementById("run-charts");
  if (!chartRoot || chartRoot !== charts?.root) {
    charts?.destroy();
    charts = chartRoot ? new RunCharts(chartRoot) : null;
    charts?.load(chartRoot.dataset.metrics);
  }
  for (const part of tab.querySelectorAll("[data-needs-script]")) part.hidden = false;
  if (tab === opened) return;
  opened = tab;
  showOpenTab();
  const panel = document.getElementById("log-panel");
  log = panel && !panel.querySelector("[data-older]") ? new Log(panel) : null;
  for (const html of log ? recent : []) log.append(html);
  startEvaluation();
}

// On a phone the tabs scroll: the open one is in view. `scrollIntoView` would scroll the page with them.
function showOpenTab() {
  const link = document.querySelector(".tab[aria-current]");
  const bar = link?.parentElement;
  if (!bar) return;
  const from = link.getBoundingClientRect().left - bar.getBoundingClientRect().left;
  bar.scrollLeft += from - (bar.clientWidth - link.offsetWidth) / 2;
}

// A verb that is done takes its button away. The focus stays with the button where there still is one, and moves to the
// status otherwise: not to another button, which the next press of a key would use.
let focusedVerb = null;
document.addEventListener("focusin", (event) => {
  focusedVerb = event.target.closest("#part-header [id^=verb-], #part-header #run-menu [id], #rename")?.id ?? null;
});
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("#part-header")) focusedVerb = null;
});
document.addEventListener("htmx:afterSettle", (event) => {
  restoreFocus();
  if (event.target.id === "run-tab" || event.target.closest?.("#run-tab")) openTab();
});

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
    if (name === "header" && before !== now.dataset.status) {
      announcer.textContent = now.dataset.statusText;
      changed("status");
    }
    if (name === "header") rest();
    if (name === "progress") charts?.totals(now.dataset);
  };
}

// Fetch the open tab again when something happened that it shows, but not more often than every BETWEEN_MS.
let last = 0;
let timer = null;
function changed(what) {
  const tab = document.getElementById("run-tab");
  if (!tab.dataset.follows.split(" ").includes(what) || timer) return;
  timer = setTimeout(() => {
    timer = null;
    last = Date.now();
    const here = document.getElementById("run-tab");
    if (!here.dataset.follows.split(" ").includes(what)) return; // another tab was opened meanwhile
    // It fails where another tab is opened meanwhile, which drops it, and without a connection, which the banner reports.
    htmx.ajax("GET", location.pathname + location.search, { source: here, target: here, swap: "morph:outerHTML" }).catch(() => {});
  }, Math.max(200, last + BETWEEN_MS - Date.now()));
}

function metrics(json) {
  const points = JSON.parse(json);
  charts?.add(points);
  if (points.some((point) => point.split === "system")) changed("system");
  const validated = points.filter((point) => point.split === "val");
  if (!validated.length) return;
  changed("validation");
  const notice = document.getElementById("evaluation-newer");
  if (notice && validated.at(-1).epoch >= Number(notice.dataset.newest || 0)) notice.hidden = false;
}

function logged(html) {
  recent.push(html);
  if (recent.length > KEPT_MESSAGES) recent.shift();
  log?.append(html);
  if (html.includes('data-type="checkpoint"')) changed("checkpoint");
}

const banner = connectionBanner(document.getElementById("connection"));
const handlers = { log: logged, metrics, rewind: (json) => charts?.rewind(JSON.parse(json)) };
for (const name of ["header", "pause_cost", "progress", "failure"]) handlers[name] = replacePart(name);

// More than the stream repeats was missed: the tab was hidden for long.
handlers.behind = () => {
  log?.load(root.dataset.log);
  charts?.load(charts.root.dataset.metrics);
  for (const what of ["status", "checkpoint", "validation"]) changed(what);
};

openTab();
forgetSubmitted();
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
