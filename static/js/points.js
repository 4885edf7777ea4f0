// The points of the charts of a run, as pure functions: no document, no network.
// A point is {seq, step, split, values: {metric: number}}; a series is {split, metric}.

/** The number of training points above which older ones are thinned out. */
export const MAX_POINTS = 4000;

/** The points that are newer than event number `seq`, which is the newest one already shown. */
export function newerThan(points, seq) {
  return points.filter((point) => point.seq > seq);
}

/**
 * The points that stay when a new attempt starts from `step`: it repeats what an earlier attempt recorded after that
 * step, and the validation of that step itself when it is due.
 */
export function beforeRewind(points, { step, validationDue }) {
  const stays = (point) => point.step < step || (point.step === step && !(validationDue && point.split === "val"));
  return points.filter(stays);
}

/** Halves the older training points once there are more than `max`; validation points and recent ones stay. */
export function thinned(points, max = MAX_POINTS) {
  const count = points.filter((point) => point.split === "train").length;
  if (count <= max) return points;
  const recent = points.length - max / 4;
  return points.filter((point, index) => point.split !== "train" || index > recent || index % 2);
}

/** The columns of uPlot, [x, series 1, series 2, ...]: one row for each step, null where a series has no value. */
export function columns(points, series, toX = (step) => step) {
  // uPlot takes strictly rising x: the training and the validation point of one step share a row.
  const rows = new Map();
  for (const point of [...points].sort((a, b) => a.step - b.step || a.seq - b.seq)) {
    const row = rows.get(point.step) || series.map(() => null);
    series.forEach((one, index) => {
      const value = point.split === one.split ? point.values[one.metric] : undefined;
      if (value !== undefined && value !== null) row[index] = value;
    });
    rows.set(point.step, row);
  }
  const steps = [...rows.keys()];
  return [steps.map(toX), ...series.map((_one, index) => steps.map((step) => rows.get(step)[index]))];
}

/** The value at `index`, or the closest one before it; null when there is none. Without an index: the newest. */
export function valueAt(values, index) {
  let at = index === null || index === undefined ? values.length - 1 : index;
  while (at >= 0 && values[at] === null) at -= 1;
  return at >= 0 ? values[at] : null;
}
