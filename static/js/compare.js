// The charts of a comparison: one line for each run, over epochs or steps.
import "./copy.js";
import { valueAt } from "./chart_data.js";
import { metricText, numberText, numbersApart } from "./numbers.js";

const box = document.getElementById("compare-charts");
const sync = "compare";

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The width in pixels that the longest number of an axis needs. */
function widthOf(_plot, values) {
  return Math.max(52, ...(values || []).map((value) => 18 + 6.5 * String(value).length));
}

class OverlayChart {
  constructor(chart, axis) {
    this.chart = chart;
    const part = document.getElementById("compare-chart").content.cloneNode(true).firstElementChild;
    part.dataset.chart = chart.name;
    part.querySelector("h3").textContent = chart.title;
    this.canvas = part.querySelector(".chart");
    this.legend = chart.series.map((one) => this.entry(one));
    part.querySelector("ul").append(...this.legend.map(({ item }) => item));
    box.append(part);
    this.draw(axis);
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.canvas);
  }

  entry(one) {
    const item = document.createElement("li");
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    mark.setAttribute("viewBox", "0 0 18 8");
    mark.setAttribute("aria-hidden", "true");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [name, value] of Object.entries({ class: `compare-${one.colour}`, x1: 0, x2: 18, y1: 4, y2: 4, "stroke-width": 2.5 })) line.setAttribute(name, value);
    if (one.dashed) line.setAttribute("stroke-dasharray", "5 3");
    mark.append(line);
    const shown = document.createElement("b");
    item.append(mark, ` ${one.name} `, shown);
    return { item, shown };
  }

  size() {
    return { width: Math.max(200, this.canvas.clientWidth), height: this.canvas.clientHeight };
  }

  draw(axis) {
    this.axis = axis;
    this.plot?.destroy();
    const { chart } = this;
    const toX = (one, step) => (axis === "epoch" && one.per_epoch ? step / one.per_epoch : step);
    const tables = chart.series.map((one) => [one.points.map(([step]) => toX(one, step)), one.points.map(([, value]) => value)]);
    this.data = uPlot.join(tables);
    const look = { stroke: token("--studio-quiet"), grid: { stroke: token("--chart-grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: { y: false, drag: { x: true, y: false }, sync: { key: sync } },
        scales: { x: { time: false } },
        axes: [
          { ...look, size: 28, values: (_u, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString() : numberText(tick))) },
          { ...look, size: widthOf, values: (_u, ticks) => (chart.is_share ? ticks.map((tick) => `${Math.round(tick * 1000) / 10} %`) : numbersApart(ticks)) },
        ],
        series: [
          {},
          ...chart.series.map((one) => ({
            label: one.name, stroke: token(`--run-${one.colour}`), width: 1.75, spanGaps: true,
            dash: one.dashed ? [5, 4] : undefined, points: { show: one.points.length < 30, size: 5, fill: token(`--run-${one.colour}`) },
          })),
        ],
        hooks: { setCursor: [(plot) => this.values(plot.cursor.idx)] },
      },
      this.data,
      this.canvas,
    );
    this.values(null);
  }

  // Shows the values under the cursor, or the newest ones.
  values(index) {
    const texts = this.legend.map(({ shown }, number) => {
      shown.textContent = metricText(valueAt(this.data[number + 1], index), this.chart.is_share);
      return `${this.chart.series[number].name} ${shown.textContent}`;
    });
    if (index === null || index === undefined) this.canvas.setAttribute("aria-label", `${this.chart.title}: ${texts.join(", ")}`);
  }
}

async function show() {
  const state = box.querySelector("[data-state]");
  let charts;
  try {
    const response = await fetch(box.dataset.curves);
    if (!response.ok) throw new Error(response.status);
    ({ charts } = await response.json());
  } catch {
    state.textContent = box.dataset.failed;
    return;
  }
  if (!charts.length) {
    state.textContent = box.dataset.empty;
    return;
  }
  state.remove();
  const axes = [...document.querySelectorAll("[name=chart-axis]")];
  const chosen = () => axes.find((choice) => choice.checked).value;
  const drawn = charts.map((chart) => new OverlayChart(chart, chosen()));
  for (const choice of axes) choice.addEventListener("change", () => drawn.forEach((one) => one.draw(chosen())));
  new MutationObserver(() => drawn.forEach((one) => one.draw(one.axis))).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
}

if (box) show();
