// Number formats of the pages; trainingapp/contract/number_text.py is the same on the server.
const DIGITS = 4;
const MAX_DIGITS = 15;
const MIN_POWER = -4; // between these powers of ten, numbers are written without an exponent
const MAX_POWER = 5;
const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** 0.001 -> 0.001, 0.123456 -> 0.1235, 8.157e-9 -> 8.157×10⁻⁹. */
export function numberText(value, digits = DIGITS) {
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent || 0);
  if (power >= MIN_POWER && power <= MAX_POWER) return (Number(value.toPrecision(digits)) + 0).toString();
  const ten = `10${[...String(power)].map((sign) => SUPERSCRIPTS[sign]).join("")}`;
  const factor = Number(mantissa).toString();
  if (factor === "1" || factor === "-1") return factor.replace("1", ten);
  return `${factor}×${ten}`;
}

/** The tick labels of an axis: with more digits than usual where equal labels would result. */
export function numbersApart(values) {
  let texts = [];
  for (let digits = DIGITS; digits <= MAX_DIGITS; digits += 1) {
    texts = values.map((value) => numberText(value, digits));
    if (new Set(texts).size === values.length) break;
  }
  return texts;
}

/** A share as a percentage, any other number with its unit; a dash for a missing value. */
export function metricText(value, isShare, unit = "") {
  if (value === null || value === undefined) return "–";
  if (isShare) return `${(value * 100).toFixed(1)} %`;
  return unit ? `${numberText(value)} ${unit}` : numberText(value);
}
