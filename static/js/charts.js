// Charts with one toolbar, drawn by uPlot: the charts of a run, of several runs, of anything with steps.
//
//   const group = new ChartGroup(root);
//   group.setLines("loss", [line, ...]);
//   group.setMarks([{ step: 120, epoch: 2.5, time: 61, label: "Resumed" }]);
//
// `root` holds the toolbar (templates/runs/_chart_toolbar.html) and boxes (templates/runs/_chart_box.html), each with
// data-chart=NAME and data-title. A line is
//
//   { id, label, colour: "--chart-1", dashed: false, dots: false, isShare: false, owner: "run 3",
//     values: [{ step, epoch, time, value }, ...] }
//
// with its values in the order of the steps, `epoch` as a fraction and `time` in seconds since the run began. `dots` marks
// each value, `isScatter` leaves out the line between them, `isShare` shows it in per cent, `unit` stands behind it; `owner` groups lines that are hidden together. The group owns what the
// toolbar sets (axis, smoothing, logarithmic scale), the zoom, which all its charts share and which new values leave as
// it is, and the lines that are hidden. Its methods:
//
//   setLines(name, lines)     replaces the lines of a chart; its legend gets an entry for each
//   setMarks(marks)           vertical lines in all charts, and their labels in [data-chart-marks]
//   setHidden(owner, hidden)  hides the lines with this owner or id in all charts
//   zoomTo(range)             [low, high] of the axis; null shows everything
//   setAxis, setSmoothing, setLog
//
// A root with data-store remembers the toolbar by itself, with data-axis its first axis; a box with data-from-zero has an
// axis of values that begins at zero.
//
// Keyboard: a chart that has the focus moves its cursor with the arrow keys, zooms with + and -, and shows everything
// with Escape.
import { clock, csvText, extent, padded, placeOf, smoothed, table, valueAt, valueRange, wholeSteps, withinShare, zoomRange } from "./chart_data.js";
import { metricText, numberText, numbersApart } from "./numbers.js";

const STORED = "studio-charts";
const AXES = ["step", "epoch", "time"];
const FAINT = "40"; // alpha of the values behind a smoothed line

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The width in pixels that the longest number of an axis needs. */
function widthOf(_plot, values) {
  return Math.max(52, ...(values || []).map((value) => 18 + 6.5 * String(value).length));
}

/** What charts of a group share of the mouse: where it is, not its clicks. */
function isPointing(type) {
  return type === "mousemove" || type === "mouseleave";
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

class Chart {
  constructor(box, group) {
    this.box = box;
    this.group = group;
    this.name = box.dataset.chart;
    this.canvas = box.querySelector(".chart");
    this.empty = box.querySelector(".chart-empty");
    this.legend = box.querySelector(".chart-legend");
    this.where = box.querySelector("[data-chart-where]");
    this.lines = [];
    this.data = [[]];
    this.raw = [[]];
    box.querySelector("[data-chart-png]")?.addEventListener("click", () => this.savePng());
    box.querySelector("[data-chart-csv]")?.addEventListener("click", () => this.saveCsv());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.canvas);
  }

  get isLog() {
    return this.group.isLog && !this.isShare;
  }

  get isShare() {
    return this.lines.length > 0 && this.lines.every((line) => line.isShare);
  }

  size() {
    return { width: Math.max(200, this.canvas.clientWidth), height: Math.max(120, this.canvas.clientHeight) };
  }

  setLines(lines) {
    const isSame = lines.length === this.lines.length && lines.every((line, index) => line.id === this.lines[index].id);
    this.lines = lines;
    if (isSame) return;
    this.entries = lines.map((line) => this.entry(line));
    this.legend.replaceChildren(...this.entries);
    this.rebuild();
  }

  /** The entry of a line in the legend: the one that the page has already, or a new one. */
  entry(line) {
    let item = [...this.legend.children].find((each) => each.dataset.line === line.id);
    if (!item) {
      item = document.createElement("li");
      item.dataset.line = line.id;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "legend-toggle";
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("viewBox", "0 0 18 8");
      swatch.setAttribute("aria-hidden", "true");
      const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({ x1: 0, y1: 4, x2: 18, y2: 4, stroke: `var(${line.colour})`, "stroke-width": 2.5 })) stroke.setAttribute(name, value);
      if (line.dashed) stroke.setAttribute("stroke-dasharray", "5 3");
      swatch.append(stroke);
      const value = document.createElement("b");
      button.append(swatch, ` ${line.label} `, value);
      item.append(button);
    }
    const button = item.querySelector("button");
    button.disabled = false;
    button.setAttribute("aria-pressed", String(!this.group.isHidden(line)));
    button.onclick = () => this.group.setHidden(line.id, !this.group.isHidden(line));
    return item;
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
  }

  /** Take over the newest values. */
  show() {
    const { axis, smoothing } = this.group;
    this.raw = table(this.lines, axis);
    const smooth = smoothing ? this.raw.slice(1).map((values) => smoothed(values, smoothing)) : [];
    this.data = [...this.raw, ...smooth];
    this.empty.hidden = this.raw[0].length > 0;
  }

  draw() {
    if (!this.plot) this.build();
    this.plot.setData(this.data, false);
    const [min, max] = this.group.window();
    this.plot.setScale("x", { min, max });
    if (!this.plot.cursor.left || this.plot.cursor.left < 0) this.values(null);
  }

  /** Which columns of the data count for the range of values: those of the lines that are not hidden. */
  shownColumns() {
    const { smoothing } = this.group;
    const count = this.lines.length;
    // The values behind a smoothed line may leave the plot: the line is what the chart is about.
    return this.lines.flatMap((line, index) => (this.group.isHidden(line) ? [] : [this.data[1 + index + (smoothing ? count : 0)]]));
  }

  /** The range of the axis of values. */
  valueRange() {
    const { isLog } = this;
    const isFromZero = this.box.dataset.fromZero !== undefined;
    if (isFromZero && this.isShare) return [0, 1];
    const found = valueRange(this.data[0], this.shownColumns(), this.group.window(), isLog);
    const range = padded(found || (isLog ? [0.1, 1] : [0, 1]), isLog, isFromZero);
    return this.isShare ? withinShare(range) : range;
  }

  build() {
    const { group, isLog, isShare } = this;
    const axis = { stroke: token("--studio-quiet"), grid: { stroke: token("--chart-grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const xText = group.axis === "time" ? clock : (tick) => (Number.isInteger(tick) ? tick.toLocaleString() : numberText(tick));
    const yText = (ticks) => (isShare ? ticks.map((tick) => `${Math.round(tick * 1000) / 10} %`) : numbersApart(ticks.filter((tick) => tick !== null)));
    const labels = (_plot, ticks) => {
      const texts = yText(ticks);
      return isShare ? texts : ticks.map((tick) => (tick === null ? "" : texts.shift()));
    };
    const curves = (column) =>
      this.lines.map((line) => ({
        label: line.label,
        stroke: token(line.colour) + (column === "raw" && group.smoothing ? FAINT : ""),
        width: 1.75,
        spanGaps: true,
        show: !group.isHidden(line),
        dash: line.dashed ? [5, 4] : undefined,
        paths: line.isScatter ? () => null : undefined,
        points: { show: column === "raw" && Boolean(line.dots), size: line.isScatter ? 7 : 5, fill: token(line.colour) },
      }));
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: true, y: false, setScale: false },
          bind: { dblclick: () => () => group.zoomTo(null) },
          sync: { key: group.key, scales: ["x", null], filters: { pub: isPointing, sub: isPointing } },
        },
        scales: {
          x: { time: false, auto: false, range: (_plot, low, high) => (Number.isFinite(low) ? [low, high] : group.window()) },
          y: {
            distr: isLog ? 3 : 1,
            range: () => this.valueRange(),
          },
        },
        axes: [
          { ...axis, size: 28, space: group.axis === "time" ? 70 : 50, incrs: group.axis === "step" ? wholeSteps() : undefined, values: (_plot, ticks) => ticks.map(xText) },
          { ...axis, size: widthOf, values: labels },
        ],
        series: [{}, ...curves("raw"), ...(group.smoothing ? curves("smooth") : [])],
        hooks: {
          setCursor: [(plot) => this.values(plot.cursor.left >= 0 ? plot.cursor.idx : null)],
          setSelect: [(plot) => this.selected(plot)],
          draw: [(plot) => this.drawMarks(plot)],
        },
      },
      this.data,
      this.canvas,
    );
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.group.zoomTo([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = token("--studio-quiet");
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    for (const mark of this.group.marks) {
      const place = placeOf(mark, this.group.axis);
      if (place === null) continue;
      const x = Math.round(plot.valToPos(place, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const half = 4 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(x - half, bbox.top);
      ctx.lineTo(x + half, bbox.top);
      ctx.lineTo(x, bbox.top + 1.5 * half);
      ctx.fill();
    }
    ctx.restore();
  }

  /** Shows the values of a row in the legend with its place, or the newest ones. */
  values(index) {
    const texts = [];
    const isRow = index !== null && index !== undefined && this.raw[0].length > 0;
    this.lines.forEach((line, number) => {
      const shown = metricText(valueAt(this.raw[number + 1], isRow ? index : null), line.isShare, line.unit);
      this.entries[number].querySelector("b").textContent = shown;
      texts.push(`${line.label} ${shown}`);
    });
    const place = isRow ? this.group.placeText(this.raw[0][index]) : "";
    if (this.where) this.where.textContent = place;
    const label = `${this.box.dataset.title}: ${texts.join(", ")}`;
    this.canvas.setAttribute("aria-label", place ? `${place}. ${label}` : label);
  }

  key(event) {
    if (!this.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const [low, high] = this.group.window();
    const rows = this.raw[0];
    const at = this.plot.cursor.left >= 0 ? this.plot.cursor.idx : rows.length;
    const zoomBy = (factor) => {
      const middle = rows[at] ?? (low + high) / 2;
      this.group.zoomTo([middle - (middle - low) * factor, middle + (high - middle) * factor]);
    };
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in moves && rows.length) {
      const inside = rows.map((x, index) => [x, index]).filter(([x]) => x >= low && x <= high);
      const to = Math.min(Math.max(at + moves[event.key], inside[0]?.[1] ?? 0), inside.at(-1)?.[1] ?? 0);
      this.plot.setCursor({ left: this.plot.valToPos(rows[to], "x"), top: 1 }, true, true);
    } else if (event.key === "+" || event.key === "=") zoomBy(0.5);
    else if (event.key === "-") zoomBy(2);
    else if (event.key === "Escape" && this.group.zoom) this.group.zoomTo(null);
    else return;
    event.preventDefault();
  }

  fileName(kind) {
    return `${this.group.fileName}-${this.name}.${kind}`.replace(/[^\p{L}\p{N}._-]+/gu, "-");
  }

  saveCsv() {
    const heads = [this.group.axis, ...this.lines.map((line) => line.label)];
    save(this.fileName("csv"), new Blob(["\ufeff", csvText(heads, this.raw)], { type: "text/csv" }));
  }

  savePng() {
    if (!this.plot) return;
    const ratio = devicePixelRatio;
    const source = this.plot.ctx.canvas;
    const head = 56 * ratio;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [source.width, source.height + head];
    const ctx = canvas.getContext("2d");
    ctx.fillStyle = token("--studio-card");
    ctx.fillRect(0, 0, canvas.width, canvas.height);
    ctx.fillStyle = token("--studio-ink");
    ctx.font = `600 ${14 * ratio}px system-ui, sans-serif`;
    ctx.fillText(`${this.group.title}: ${this.box.dataset.title}`, 12 * ratio, 20 * ratio);
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    let x = 12 * ratio;
    for (const line of this.lines.filter((each) => !this.group.isHidden(each))) {
      ctx.fillStyle = token(line.colour);
      ctx.fillRect(x, 36 * ratio, 16 * ratio, 3 * ratio);
      ctx.fillStyle = token("--studio-quiet");
      ctx.fillText(line.label, x + 22 * ratio, 42 * ratio);
      x += 38 * ratio + ctx.measureText(line.label).width;
    }
    ctx.drawImage(source, 0, head);
    canvas.toBlob((blob) => save(this.fileName("png"), blob), "image/png");
  }
}

let groups = 0;

export class ChartGroup {
  constructor(root) {
    groups += 1;
    this.root = root;
    this.key = `charts-${groups}`;
    this.toolbar = root.querySelector("[data-chart-toolbar]");
    this.title = this.toolbar?.dataset.title || document.title;
    this.fileName = this.title;
    this.marks = [];
    this.hidden = new Set();
    this.zoom = null;
    this.store = root.dataset.store ? `${STORED}-${root.dataset.store}` : STORED;
    const stored = this.stored();
    this.axis = AXES.includes(stored.axis) ? stored.axis : root.dataset.axis || "step";
    this.smoothing = Number(stored.smoothing) > 0 && Number(stored.smoothing) < 1 ? Number(stored.smoothing) : 0;
    this.isLog = stored.isLog === true;
    this.charts = new Map([...root.querySelectorAll("[data-chart]")].map((box) => [box.dataset.chart, new Chart(box, this)]));
    this.bindToolbar();
    this.theme = new MutationObserver(() => this.redraw());
    this.theme.observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
  }

  /** Free what outlives the boxes, which another part of the page replaces. */
  destroy() {
    this.theme.disconnect();
    cancelAnimationFrame(this.frame);
    for (const chart of this.charts.values()) chart.rebuild();
    this.charts.clear();
  }

  stored() {
    try {
      return JSON.parse(localStorage.getItem(this.store)) || {};
    } catch {
      return {};
    }
  }

  remember() {
    try {
      localStorage.setItem(this.store, JSON.stringify({ axis: this.axis, smoothing: this.smoothing, isLog: this.isLog }));
    } catch {
      // storage is full or not allowed: the choice holds for this page
    }
  }

  bindToolbar() {
    const { toolbar } = this;
    if (!toolbar) return;
    for (const choice of toolbar.querySelectorAll("[name=chart-axis]")) {
      choice.checked = choice.value === this.axis;
      choice.addEventListener("change", () => this.setAxis(choice.value));
    }
    const smoothing = toolbar.querySelector("[data-chart-smoothing]");
    smoothing.value = this.smoothing;
    smoothing.addEventListener("input", () => this.setSmoothing(Number(smoothing.value)));
    const log = toolbar.querySelector("[data-chart-log]");
    log.checked = this.isLog;
    log.addEventListener("change", () => this.setLog(log.checked));
    this.reset = toolbar.querySelector("[data-chart-reset]");
    this.reset.addEventListener("click", () => this.zoomTo(null));
    this.reset.disabled = true;
    this.showSmoothing();
  }

  showSmoothing() {
    const output = this.toolbar?.querySelector("[data-chart-smoothing-value]");
    if (output) output.textContent = this.smoothing ? this.smoothing.toFixed(2) : this.toolbar.dataset.off;
  }

  setAxis(axis) {
    this.axis = axis;
    this.zoom = null;
    this.remember();
    this.redraw();
  }

  setSmoothing(smoothing) {
    this.smoothing = smoothing;
    this.remember();
    this.showSmoothing();
    this.redraw();
  }

  setLog(isLog) {
    this.isLog = isLog;
    this.remember();
    this.redraw();
  }

  setLines(name, lines) {
    this.charts.get(name)?.setLines(lines);
    this.draw();
  }

  setMarks(marks) {
    this.marks = marks;
    const list = this.root.querySelector("[data-chart-marks]");
    if (list && list.childElementCount !== marks.length) list.replaceChildren(...marks.map((mark) => {
      const item = document.createElement("li");
      item.textContent = `${this.toolbar.dataset.step} ${mark.step.toLocaleString()}: ${mark.label}`;
      return item;
    }));
    this.draw();
  }

  isHidden(line) {
    return this.hidden.has(line.id) || this.hidden.has(line.owner);
  }

  setHidden(key, hidden) {
    this.hidden[hidden ? "add" : "delete"](key);
    for (const chart of this.charts.values()) {
      chart.lines.forEach((line, index) => {
        chart.entries[index].querySelector("button").setAttribute("aria-pressed", String(!this.isHidden(line)));
      });
    }
    this.redraw();
  }

  columns() {
    return [...this.charts.values()].map((chart) => chart.raw[0]);
  }

  /** The first and the last x that the charts show. */
  window() {
    return this.zoom || extent(this.columns()) || [0, 1];
  }

  zoomTo(range) {
    this.zoom = zoomRange(range, extent(this.columns()), this.columns());
    this.draw();
  }

  /** What the charts show at x of the axis, such as "Step 120". */
  placeText(x) {
    const names = this.toolbar?.dataset || this.root.dataset;
    if (this.axis === "time") return clock(x);
    const text = Number.isInteger(x) ? x.toLocaleString() : numberText(x);
    return `${this.axis === "epoch" ? names.epoch : names.step} ${text}`;
  }

  /** Draw all charts anew, with other colours, scales or lines. */
  redraw() {
    for (const chart of this.charts.values()) chart.rebuild();
    this.draw();
  }

  /** Draw the newest data once before the next frame; a tab that is not visible has none. */
  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      for (const chart of this.charts.values()) chart.show();
      if (this.zoom) this.zoom = zoomRange(this.zoom, extent(this.columns()), this.columns());
      if (this.reset) this.reset.disabled = !this.zoom;
      for (const chart of this.charts.values()) chart.draw();
    });
  }
}
