// The page of a comparison: its charts have one line for each run.
import "./copy.js";
import { ChartGroup } from "./charts.js";

const root = document.getElementById("compare-charts");

/** A curve of the server as a line of a chart. */
function lineOf(curve) {
  const epoch = (step) => (curve.per_epoch ? step / curve.per_epoch : null);
  return {
    id: `run/${curve.run}`,
    owner: `run ${curve.run}`,
    label: curve.name,
    colour: `--run-${curve.colour}`,
    dashed: curve.dashed,
    dots: curve.points.length < 30,
    isShare: curve.is_share,
    values: curve.points.map(([step, time, value]) => ({ step, epoch: epoch(step), time, value })),
  };
}

async function show() {
  const group = new ChartGroup(root);
  let curves;
  try {
    const response = await fetch(root.dataset.curves);
    if (!response.ok) throw new Error(response.status);
    ({ curves } = await response.json());
  } catch {
    for (const empty of root.querySelectorAll(".chart-empty")) empty.textContent = root.dataset.failed;
    return;
  }
  for (const box of root.querySelectorAll("[data-chart]")) {
    const lines = curves.filter((curve) => curve.chart === box.dataset.chart).map(lineOf);
    box.hidden = !lines.length;
    if (lines.length) group.setLines(box.dataset.chart, lines);
  }
}

if (root) show();
