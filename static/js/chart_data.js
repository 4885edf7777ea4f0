// The data of charts as pure functions: no document, no network, no uPlot.
// A line is {id, values: [{step, epoch, time, value}]}, in the order of its steps: `step` counts optimizer steps, `epoch`
// is fractional, `time` is in seconds since the run began. An axis is the name of one of the three.

/** Steps for which a smoothed line needs the previous value most: 0 is none, 0.99 almost a constant. */
export const MAX_SMOOTHING = 0.99;

/**
 * The exponential moving average of values, without the bias of its first ones; null stays null.
 * Of `factor` 0 the values themselves, of 0.9 about the mean of the last ten.
 */
export function smoothed(values, factor) {
  if (!factor) return values;
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = sum * factor + value * (1 - factor);
    weight = weight * factor + (1 - factor);
    return sum / weight;
  });
}

/**
 * The columns of a plot, [x, line 1, line 2, ...]: x rises strictly and each x is one row, with null where a line has no
 * value. Two rows with one x would hide the newest value: a plot finds its end by the first row with the greatest x.
 */
export function table(lines, axis) {
  const rows = new Map();
  lines.forEach((line, index) => {
    for (const point of line.values) {
      const x = point[axis];
      if (x === null || x === undefined || point.value === null || point.value === undefined) continue;
      if (!rows.has(x)) rows.set(x, new Array(lines.length).fill(null));
      rows.get(x)[index] = point.value;
    }
  });
  const xs = [...rows.keys()].sort((a, b) => a - b);
  return [xs, ...lines.map((_line, index) => xs.map((x) => rows.get(x)[index]))];
}

/** The first and the last x of several columns of x, a little apart where they are the same; null without any. */
export function extent(columns) {
  const ends = columns.filter((xs) => xs.length).flatMap((xs) => [xs[0], xs.at(-1)]);
  if (!ends.length) return null;
  const [first, last] = [Math.min(...ends), Math.max(...ends)];
  return first === last ? [first - 0.5, last + 0.5] : [first, last];
}

/**
 * The range to zoom to: `wanted` within `full`. Null, which means no zoom, where it covers everything or where no chart
 * has a row in it: an empty plot helps no one.
 */
export function zoomRange(wanted, full, columns) {
  if (!full || !wanted) return null;
  const low = Math.max(full[0], Math.min(...wanted));
  const high = Math.min(full[1], Math.max(...wanted));
  if (low >= high || (low <= full[0] && high >= full[1])) return null;
  return columns.some((xs) => xs.some((x) => x >= low && x <= high)) ? [low, high] : null;
}

/**
 * The lowest and highest value to show between two x: of the rows between them, and of the closest row of each column on
 * either side, so that a line which only crosses the window stays visible. On a logarithmic scale only positive values
 * count. Null without a value.
 */
export function valueRange(xs, columns, [from, to], isLog = false) {
  let [low, high] = [Infinity, -Infinity];
  const take = (value) => {
    low = Math.min(low, value);
    high = Math.max(high, value);
  };
  for (const column of columns) {
    let before = null;
    let after = null;
    for (let row = 0; row < xs.length; row += 1) {
      const value = column[row];
      if (value === null || value === undefined || (isLog && value <= 0)) continue;
      if (xs[row] < from) before = value;
      else if (xs[row] <= to) take(value);
      else {
        after = value;
        break;
      }
    }
    if (before !== null) take(before);
    if (after !== null) take(after);
  }
  return low > high ? null : [low, high];
}

/** The range of an axis for values: with space above and below, and never empty; or from zero, for amounts. */
export function padded([low, high], isLog = false, fromZero = false) {
  if (isLog) return [low / 1.15, high * 1.15];
  if (fromZero) return [0, high * 1.06 || 1];
  const space = (high - low) * 0.06 || Math.abs(high) * 0.05 || 0.5;
  return [low - space, high + space];
}

/** A range of shares, which are not below 0 or above 1: with a little space there, for lines along the edge. */
export function withinShare([low, high]) {
  return [Math.max(low, -0.06 * high), Math.min(high, 1 + 0.06 * (1 - low))];
}

/** The distances between the marks of an axis that counts: 1, 2, 5, 10, 20 ... up to `highest`. */
export function wholeSteps(highest = 1e9) {
  const found = [];
  for (let power = 1; power <= highest; power *= 10) found.push(power, 2 * power, 5 * power);
  return found;
}

/** The value at `index`, or the closest one before it; null when there is none. Without an index: the newest. */
export function valueAt(values, index) {
  let at = index === null || index === undefined ? values.length - 1 : index;
  while (at >= 0 && (values[at] === null || values[at] === undefined)) at -= 1;
  return at >= 0 ? values[at] : null;
}

/** A table as CSV: `heads` are the titles of the columns, missing values are empty. */
export function csvText(heads, columns) {
  const cell = (value) => (/[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const rows = columns[0].map((_x, row) => columns.map((column) => (column[row] === null ? "" : cell(column[row]))).join(","));
  return `${[heads.map(cell).join(","), ...rows].join("\r\n")}\r\n`;
}

/** A duration on an axis: 45 s, 12 min, 1:30 h. */
export function clock(seconds) {
  if (seconds < 60) return `${Math.round(seconds * 10) / 10} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")} h`;
}

/** Where a mark (a pause, a restart) is on the axis; null where its place is not known. */
export function placeOf(mark, axis) {
  return Number.isFinite(mark[axis]) ? mark[axis] : null;
}
