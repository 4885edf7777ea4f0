// One image of a dataset: arrow keys, mask opacity, and box labels of a constant size.

const NAME_PIXELS = 13;
const stage = document.querySelector(".stage");
const image = stage.querySelector("img");
const svg = stage.querySelector("svg");
const mask = stage.querySelector(".overlay-mask");
const strength = document.getElementById("mask-opacity");

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.matches("input[type=range], input[type=text], select, textarea")) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel=${rel}]`);
  if (link) link.click();
});

for (const part of document.querySelectorAll("[data-needs-script]")) part.hidden = false;
if (mask && strength) {
  const show = () => { mask.style.opacity = strength.value / 100; };
  strength.addEventListener("input", show);
  show();
}

function sizeNames() {
  const { width, height } = svg.viewBox.baseVal;
  const scale = Math.min(image.clientWidth / width, image.clientHeight / height);
  if (!scale) return;
  const size = NAME_PIXELS / scale;
  for (const text of svg.querySelectorAll("text")) {
    text.setAttribute("font-size", size);
    const box = svg.querySelector(`rect[data-box="${text.dataset.box}"]`);
    const above = Number(box.getAttribute("y")) - 0.35 * size;
    text.setAttribute("y", above - size < 0 ? Number(box.getAttribute("y")) + 1.15 * size : above);
    const most = width - text.getBBox().width;
    text.setAttribute("x", Math.max(0, Math.min(Number(box.getAttribute("x")), most)));
  }
}
if (svg) new ResizeObserver(sizeNames).observe(image);

function point(row, on) {
  for (const part of stage.querySelectorAll(`[data-box="${row.dataset.object}"]`)) part.classList.toggle("pointed", on);
  stage.classList.toggle("pointing", on);
}
for (const row of document.querySelectorAll("[data-object]")) {
  row.addEventListener("pointerenter", () => point(row, true));
  row.addEventListener("pointerleave", () => point(row, false));
}
