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
 * step, and the validation of that step itself when it is due. What the machine was doing is not repeated.
 */
export function beforeRewind(points, { step, validationDue }) {
  const isRepeated = (point) => point.step > step || (point.step === step && validationDue && point.split === "val");
  const stays = (point) => point.split === "system" || !isRepeated(point);
  return points.filter(stays);
}

/** Halves the older points once there are more than `max`; validation points and recent ones stay. */
export function thinned(points, max = MAX_POINTS) {
  const count = points.filter((point) => point.split !== "val").length;
  if (count <= max) return points;
  const recent = points.length - max / 4;
  return points.filter((point, index) => point.split === "val" || index > recent || index % 2);
}

/**
 * The values of a series as a line of a chart: [{step, epoch, time, value}] in the order of the steps. Of two points of
 * one step the newer event counts; the machine is measured by time, at several moments of a step. `perEpoch` is the
 * number of steps of an epoch, `since` the time of the run's start; values are divided by `divisor`.
 */
export function valuesOf(points, { split, metric, divisor = 1 }, { perEpoch = 0, since = 0 } = {}) {
  const found = new Map();
  for (const point of [...points].sort((a, b) => a.step - b.step || a.seq - b.seq)) {
    const value = point.split === split ? point.values[metric] : undefined;
    if (value === undefined || value === null || point.step === null) continue;
    const epoch = perEpoch ? point.step / perEpoch : point.epoch;
    const time = point.time === undefined ? null : point.time - since;
    found.set(split === "system" ? point.seq : point.step, { step: point.step, epoch, time, value: value / divisor });
  }
  return [...found.values()];
}
