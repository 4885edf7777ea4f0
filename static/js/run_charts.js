// The charts of one run. Points are loaded once as JSON and then come from the stream, each with its event number.
import { ChartGroup } from "./charts.js";
import { beforeRewind, newerThan, thinned, valuesOf } from "./points.js";

/** The charts below `root` and what their legends say about their lines. */
export class RunCharts {
  constructor(root) {
    this.root = root;
    this.group = new ChartGroup(root);
    this.charts = [...root.querySelectorAll("[data-chart]")].map((box) => ({
      name: box.dataset.chart,
      series: [...box.querySelectorAll("[data-metric]")].map((item) => ({
        id: item.dataset.line,
        label: item.dataset.label,
        split: item.dataset.split,
        metric: item.dataset.metric,
        dashed: item.dataset.dashed !== undefined,
        dots: item.dataset.split === "val",
        isShare: item.dataset.share !== undefined,
        unit: item.dataset.unit || "",
        divisor: Number(item.dataset.divisor) || 1,
        colour: `--chart-${item.dataset.colour}`,
      })),
    }));
    this.splits = new Set(this.charts.flatMap(({ series }) => series.map((one) => one.split)));
    const { totalSteps, totalEpochs, since, resumed } = root.dataset;
    this.resumed = resumed;
    this.since = Number(since) || 0;
    this.perEpoch = Number(totalEpochs) ? Number(totalSteps) / Number(totalEpochs) : 0;
    this.marks = JSON.parse(root.querySelector("#chart-marks")?.textContent || "[]");
    this.points = [];
    this.seq = null; // unknown until the points have been loaded
    this.waiting = [];
  }

  destroy() {
    this.ended = true;
    this.group.destroy();
  }

  async load(url) {
    for (let wait = 500; !this.ended; wait = Math.min(wait * 2, 8000)) {
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
    this.points.push(...fresh.filter((point) => this.splits.has(point.split)));
    this.seq = fresh.at(-1).seq;
    this.points = thinned(this.points);
    this.draw();
  }

  // A new attempt starts from `step` and repeats what an earlier one recorded after it.
  rewind({ seq, step, time, attempt, validationDue }) {
    if (this.seq === null) {
      this.waiting.push(() => this.rewind({ seq, step, time, attempt, validationDue }));
      return;
    }
    if (seq <= this.seq) return;
    this.points = beforeRewind(this.points, { step, validationDue });
    if (step > 0) this.marks = [...this.marks, { step, time, label: this.resumed.replace("0", attempt) }];
    this.draw();
  }

  totals({ totalSteps, totalEpochs }) {
    const perEpoch = Number(totalEpochs) ? Number(totalSteps) / Number(totalEpochs) : 0;
    if (perEpoch === this.perEpoch) return;
    this.perEpoch = perEpoch;
    this.draw();
  }

  draw() {
    if (this.ended || this.seq === null) return;
    const { perEpoch } = this;
    const since = this.since || Math.min(...this.points.map((point) => point.time ?? Infinity));
    for (const { name, series } of this.charts) {
      const lines = series.map((one) => ({ ...one, values: valuesOf(this.points, one, { perEpoch, since }) }));
      const drawn = lines.filter((line) => line.values.length);
      this.group.setLines(name, drawn.length ? drawn : lines);
    }
    this.group.setMarks(this.marks.map((mark) => ({
      ...mark, epoch: perEpoch ? mark.step / perEpoch : null, time: mark.time === undefined ? null : mark.time - since,
    })));
  }
}
