// Live charts with uPlot. Points are loaded once as JSON and then come from the stream, each with its event number.
import { metricText, numberText, numbersApart } from "./numbers.js";
import { beforeRewind, columns, newerThan, thinned, valueAt } from "./points.js";

/** The width in pixels that the longest number of an axis needs. */
function widthOf(_plot, values) {
  return Math.max(52, ...(values || []).map((value) => 18 + 6.5 * String(value).length));
}

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

class Chart {
  constructor(box) {
    this.box = box;
    this.canvas = box.querySelector(".chart");
    this.empty = box.querySelector(".chart-empty");
    this.series = [...box.querySelectorAll("[data-metric]")].map((item, index) => ({
      label: item.dataset.label,
      split: item.dataset.split,
      metric: item.dataset.metric,
      dashed: item.dataset.dashed !== undefined,
      isShare: item.dataset.share !== undefined,
      colour: `--chart-${item.dataset.colour || index + 1}`,
      shown: item.querySelector("b"),
    }));
    this.data = [[], ...this.series.map(() => [])];
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.canvas);
  }

  size() {
    return { width: Math.max(200, this.canvas.clientWidth), height: this.canvas.clientHeight };
  }

  build() {
    if (this.plot) this.plot.destroy();
    const percent = this.series.every((one) => one.isShare);
    const axis = { stroke: token("--studio-quiet"), grid: { stroke: token("--chart-grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: { y: false, drag: { x: true, y: false } },
        scales: { x: { time: false } },
        axes: [
          { ...axis, size: 28, values: (_u, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString() : numberText(tick))) },
          { ...axis, size: widthOf, values: (_u, ticks) => (percent ? ticks.map((tick) => `${Math.round(tick * 1000) / 10} %`) : numbersApart(ticks)) },
        ],
        series: [
          {},
          ...this.series.map((one) => ({
            label: one.label, stroke: token(one.colour), width: 1.75, spanGaps: true,
            dash: one.dashed ? [5, 4] : undefined, points: { show: one.split === "val", size: 5, fill: token(one.colour) },
          })),
        ],
        hooks: { setCursor: [(plot) => this.legend(plot.cursor.idx)] },
      },
      this.data,
      this.canvas,
    );
  }

  show(points, toX) {
    this.data = columns(points, this.series, toX);
    const some = this.series.some((_one, index) => this.data[index + 1].some((value) => value !== null));
    this.empty.hidden = some;
    if (!this.plot) this.build();
    else this.plot.setData(this.data);
    this.legend(null);
  }

  // Shows the value under the cursor, or the newest one.
  legend(index) {
    const texts = [];
    this.series.forEach((one, number) => {
      one.shown.textContent = metricText(valueAt(this.data[number + 1], index), one.isShare);
      texts.push(`${one.label} ${one.shown.textContent}`);
    });
    if (index === null) this.canvas.setAttribute("aria-label", `${this.box.dataset.title}: ${texts.join(", ")}`);
  }
}

export class Charts {
  constructor(root) {
    this.charts = [...root.querySelectorAll("[data-chart]")].map((box) => new Chart(box));
    this.points = [];
    this.seq = null; // unknown until the points have been loaded
    this.waiting = [];
    this.perEpoch = 0;
    this.axis = "step";
    for (const choice of root.querySelectorAll("[name=chart-axis]")) {
      choice.addEventListener("change", () => {
        this.axis = choice.value;
        this.draw();
      });
      if (choice.checked) this.axis = choice.value;
    }
    new MutationObserver(() => {
      for (const chart of this.charts) if (chart.plot) chart.build();
    }).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
  }

  async load(url) {
    for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
      try {
        const response = await fetch(url);
        if (response.ok) {
          const { seq, points } = await response.json();
          this.points = points;
          this.seq = seq;
          for (const step of this.waiting.splice(0)) step();
          this.draw();
          return;
        }
      } catch {
        // no connection: the banner reports it
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  add(points) {
    if (this.seq === null) {
      this.waiting.push(() => this.add(points));
      return;
    }
    const fresh = newerThan(points, this.seq);
    if (!fresh.length) return;
    this.points.push(...fresh);
    this.seq = fresh.at(-1).seq;
    this.points = thinned(this.points);
    this.draw();
  }

  // A new attempt starts from `step` and repeats what an earlier one recorded after it.
  rewind({ seq, step, validationDue }) {
    if (this.seq === null) {
      this.waiting.push(() => this.rewind({ seq, step, validationDue }));
      return;
    }
    if (seq <= this.seq) return;
    this.points = beforeRewind(this.points, { step, validationDue });
    this.draw();
  }

  totals({ totalSteps, totalEpochs }) {
    this.perEpoch = Number(totalEpochs) ? Number(totalSteps) / Number(totalEpochs) : 0;
    if (this.axis === "epoch") this.draw();
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const toX = this.axis === "epoch" && this.perEpoch ? (step) => step / this.perEpoch : (step) => step;
      for (const chart of this.charts) chart.show(this.points, toX);
    });
  }
}
