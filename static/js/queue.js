// The queue: it follows the stream, rows can be dragged, and moves are announced to screen readers.
import { follow } from "./live_part.js";

const announcer = document.getElementById("announcer");
let dragged = null; // {row, pointer, start: the row that followed it before}
let focused = "";

follow("queue", { busy: () => dragged !== null || isTyping() });

// A number that is being typed must not be replaced.
function isTyping() {
  const field = document.activeElement;
  return field?.matches("#queue input") && field.value !== field.defaultValue;
}

function neighbour(row, y) {
  const rows = [...row.parentElement.children].filter((other) => other !== row);
  return rows.find((other) => {
    const box = other.getBoundingClientRect();
    return y < box.top + box.height / 2;
  }) || null;
}

function place(row, before) {
  if (row.nextElementSibling !== before) row.parentElement.insertBefore(row, before);
}

document.addEventListener("pointerdown", (event) => {
  const grip = event.target.closest("[data-grip]");
  if (!grip || event.button !== 0) return;
  event.preventDefault();
  const row = grip.closest(".queue-item");
  dragged = { row, pointer: event.pointerId, start: row.nextElementSibling };
  row.classList.add("dragged");
  grip.setPointerCapture(event.pointerId);
});

document.addEventListener("pointermove", (event) => {
  if (!dragged || event.pointerId !== dragged.pointer) return;
  place(dragged.row, neighbour(dragged.row, event.clientY));
  const edge = 80;
  if (event.clientY < edge) scrollBy(0, -12);
  else if (event.clientY > innerHeight - edge) scrollBy(0, 12);
});

function drop(isWanted) {
  if (!dragged) return;
  const { row, start } = dragged;
  dragged = null;
  row.classList.remove("dragged");
  const next = row.nextElementSibling;
  if (!isWanted) return place(row, start);
  if (next === start) return;
  const values = next ? { before: next.dataset.run } : { after: row.previousElementSibling.dataset.run };
  const settings = { values, target: "#queue", swap: "morph:outerHTML", source: row };
  htmx.ajax("POST", row.dataset.move, settings);
}

document.addEventListener("pointerup", (event) => dragged?.pointer === event.pointerId && drop(true));
document.addEventListener("pointercancel", () => drop(false));
document.addEventListener("keydown", (event) => event.key === "Escape" && drop(false));
// A move that failed is undone by loading the queue again.
for (const name of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(name, () => htmx.ajax("GET", location.pathname, { source: "#queue", target: "#queue", swap: "morph:outerHTML" }));
}

// The pressed button keeps the focus wherever its row moves; at an end of the queue, the opposite button gets it.
const OPPOSITE = { up: "down", first: "down", down: "up", last: "up" };
document.addEventListener("htmx:beforeRequest", () => {
  focused = document.activeElement?.id || "";
});
// Where the user goes while a request is on its way, the focus stays.
document.addEventListener("focusin", (event) => {
  focused = event.target.id;
});
document.addEventListener("htmx:afterSettle", () => {
  const [verb, number] = focused.split("-");
  if (!(verb in OPPOSITE)) return;
  const button = document.getElementById(focused);
  const target = button?.disabled ? document.getElementById(`${OPPOSITE[verb]}-${number}`) : button;
  if (target && document.activeElement !== target) target.focus();
});
document.addEventListener("studio:announce", (event) => {
  announcer.textContent = event.detail.message;
});
