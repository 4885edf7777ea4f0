// Live curves with uPlot. Points come once from JSON and then from the stream; each has the number of its event.
import { metricText, numberText, numbersApart } from "./numbers.js";

const MOST_POINTS = 4000; // of a split; older ones are thinned out beyond it

/** Room for the longest number of an axis. */
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
    new ResizeObserver(() => this.plot && this.plot.setSize(this.size())).observe(this.canvas);
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

  show(points, x) {
    this.data = [points.map(x), ...this.series.map((one) => points.map((point) => this.value(point, one)))];
    const some = this.series.some((_one, index) => this.data[index + 1].some((value) => value !== null));
    this.empty.hidden = some;
    if (!this.plot) this.build();
    else this.plot.setData(this.data);
    this.legend(null);
  }

  value(point, one) {
    const value = point.split === one.split ? point.values[one.metric] : null;
    return value === undefined ? null : value;
  }

  // The value under the cursor, or the newest: the closest one before that place.
  legend(index) {
    const said = [];
    this.series.forEach((one, number) => {
      const values = this.data[number + 1];
      let at = index === null || index === undefined ? values.length - 1 : index;
      while (at >= 0 && values[at] === null) at -= 1;
      one.shown.textContent = metricText(at >= 0 ? values[at] : null, one.isShare);
      said.push(`${one.label} ${one.shown.textContent}`);
    });
    if (index === null) this.canvas.setAttribute("aria-label", `${this.box.dataset.title}: ${said.join(", ")}`);
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
        // the server is away: the banner says so
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  add(points) {
    if (this.seq === null) {
      this.waiting.push(() => this.add(points));
      return;
    }
    const fresh = points.filter((point) => point.seq > this.seq);
    if (!fresh.length) return;
    this.points.push(...fresh);
    this.seq = fresh.at(-1).seq;
    this.thin();
    this.draw();
  }

  // A new attempt goes on from `step`: what an earlier one measured after it is made again, and so is the validation
  // of that step when it is due.
  rewind({ seq, step, validationDue }) {
    if (this.seq === null) {
      this.waiting.push(() => this.rewind({ seq, step, validationDue }));
      return;
    }
    if (seq <= this.seq) return;
    const stays = (point) => point.step < step || (point.step === step && !(validationDue && point.split === "val"));
    this.points = this.points.filter(stays);
    this.draw();
  }

  totals({ totalSteps, totalEpochs }) {
    this.perEpoch = Number(totalEpochs) ? Number(totalSteps) / Number(totalEpochs) : 0;
    if (this.axis === "epoch") this.draw();
  }

  thin() {
    const train = this.points.filter((point) => point.split === "train").length;
    if (train <= MOST_POINTS) return;
    const recent = this.points.length - MOST_POINTS / 4;
    this.points = this.points.filter((point, index) => point.split !== "train" || index > recent || index % 2);
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const x = this.axis === "epoch" && this.perEpoch ? (point) => point.step / this.perEpoch : (point) => point.step;
      const points = [...this.points].sort((a, b) => a.step - b.step);
      for (const chart of this.charts) chart.show(points, x);
    });
  }
}
