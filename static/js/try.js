// Predictions: images dropped on the page, and sliders that filter the stored predictions without a new request.
import { suppressed } from "./boxes.js";

const SVG = "http://www.w3.org/2000/svg";
const NAMES_LISTED = 12;
const NAME_PIXELS = 12;

const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

function drawn(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

class Panel {
  constructor(panel, data) {
    this.panel = panel;
    this.data = data;
    this.rows = new Map(data.images.map((one) => [String(one.number), one]));
    this.masks = new Map();
    for (const slider of panel.querySelectorAll("[data-slider]")) slider.addEventListener("input", () => this.show());
    for (const part of panel.querySelectorAll("[data-needs-script]")) part.hidden = false;
    for (const image of panel.querySelectorAll("[data-mask]")) this.readMask(image);
    this.resized = new ResizeObserver(() => this.show());
    this.resized.observe(panel);
    this.show();
  }

  value(name) {
    const slider = this.panel.querySelector(`[data-slider=${name}]`);
    return slider ? Number(slider.value) : null;
  }

  show() {
    for (const output of this.panel.querySelectorAll("[data-said]")) output.textContent = percent(this.value(output.dataset.said));
    const confidence = this.value("confidence");
    for (const guess of this.panel.querySelectorAll("[data-share]")) guess.hidden = Number(guess.dataset.share) < confidence;
    for (const figure of this.panel.querySelectorAll("[data-number]")) {
      const one = this.rows.get(figure.dataset.number);
      if (one?.boxes) this.showBoxes(figure, suppressed(one.boxes, confidence, this.value("iou") ?? 1), one);
    }
    for (const [canvas, pixels] of this.masks) this.showMask(canvas, pixels);
  }

  showBoxes(figure, rows, one) {
    const { colours, classes } = this.data;
    const shown = figure.querySelector("img").clientWidth || one.width;
    const size = (NAME_PIXELS * one.width) / shown;
    const parts = [];
    for (const row of rows) {
      const [label, score, left, top, right, bottom] = row;
      const stroke = colours[label];
      const outline = one.outlines?.[one.boxes.indexOf(row)];
      if (outline) parts.push(drawn("path", { class: "outline", d: outline, fill: stroke, stroke }));
      parts.push(drawn("rect", { class: "box", x: left, y: top, width: right - left, height: bottom - top, stroke }));
      const name = drawn("text", { class: "box-name", x: left, y: top - 0.3 * size < size ? top + 1.1 * size : top - 0.3 * size, fill: stroke, "font-size": size });
      name.textContent = `${classes[label]} ${percent(score)}`;
      parts.push(name);
    }
    figure.querySelector("svg.overlay").replaceChildren(...parts);
    this.list(figure.querySelector("[data-found]"), rows);
  }

  list(list, rows) {
    const lines = rows.slice(0, NAMES_LISTED).map(([label, score]) => {
      const line = document.createElement("li");
      const swatch = drawn("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" });
      swatch.append(drawn("rect", { width: 10, height: 10, rx: 2.5, fill: this.data.colours[label] }));
      const share = document.createElement("span");
      share.className = "quiet numbers";
      share.textContent = percent(score);
      line.append(swatch, `${this.data.classes[label]} `, share);
      return line;
    });
    const rest = rows.length - NAMES_LISTED;
    if (rest > 0 || !rows.length) {
      const line = document.createElement("li");
      line.className = "quiet";
      line.textContent = rest > 0 ? `+ ${rest}` : list.dataset.none;
      lines.push(line);
    }
    list.replaceChildren(...lines);
    list.dataset.count = rows.length;
  }

  // Red holds the class (0: none), green the confidence; the canvas is coloured again whenever a slider moves.
  async readMask(image) {
    const source = new Image();
    source.src = image.dataset.mask;
    try {
      await source.decode();
    } catch {
      return; // the mask that the server coloured stays
    }
    const canvas = document.createElement("canvas");
    canvas.className = "overlay";
    canvas.width = source.naturalWidth;
    canvas.height = source.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(source, 0, 0);
    this.masks.set(canvas, context.getImageData(0, 0, canvas.width, canvas.height).data);
    image.replaceWith(canvas);
    this.show();
  }

  showMask(canvas, pixels) {
    const context = canvas.getContext("2d");
    const result = context.createImageData(canvas.width, canvas.height);
    const threshold = this.value("confidence") * 255;
    const alpha = Math.round(this.value("opacity") * 255);
    const colours = this.data.colours.map((text) => [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)));
    for (let place = 0; place < pixels.length; place += 4) {
      const colour = pixels[place] && pixels[place + 1] >= threshold && colours[pixels[place] - 1];
      if (colour) result.data.set([...colour, alpha], place);
    }
    context.putImageData(result, 0, 0);
  }
}

async function begin(panel) {
  panel.dataset.begun = "";
  const response = await fetch(panel.dataset.predictions);
  if (response.ok && !response.redirected) new Panel(panel, await response.json());
}

function beginAll() {
  for (const panel of document.querySelectorAll("[data-predictions]:not([data-begun])")) begin(panel);
}
document.body.addEventListener("htmx:afterSettle", beginAll);
beginAll();

const drop = document.querySelector("[data-drop]");
if (drop) {
  const form = drop.closest("form");
  const input = drop.querySelector("input[type=file]");
  for (const part of form.querySelectorAll("[data-needs-script]")) part.hidden = false;
  for (const part of form.querySelectorAll("[data-without-script]")) part.hidden = true;
  const submit = () => { if (input.files.length) form.requestSubmit(); };
  input.addEventListener("change", submit);
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("drop-over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("drop-over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("drop-over");
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    submit();
  });
}
