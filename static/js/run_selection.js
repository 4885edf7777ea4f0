// The selection in the table of runs: its count, and the box that selects all runs of the page.

function boxes() {
  return [...document.querySelectorAll("#runs [data-select]")];
}

function show() {
  const found = boxes();
  const chosen = found.filter((box) => box.checked).length;
  const all = document.getElementById("select-all");
  if (all) {
    all.hidden = false;
    all.checked = chosen > 0 && chosen === found.length;
    all.indeterminate = chosen > 0 && chosen < found.length;
  }
  const count = document.querySelector("#runs [data-count]");
  if (!count) return;
  count.hidden = chosen === 0;
  const text = chosen === 1 ? count.dataset.one : count.dataset.many.replace("{count}", chosen);
  if (count.textContent !== text) count.textContent = text;
}

let last = null; // with Shift, a click selects all rows from the last one
document.addEventListener("click", (event) => {
  const box = event.target.closest?.("[data-select]");
  if (!box) return;
  const found = boxes();
  const from = found.indexOf(last);
  const to = found.indexOf(box);
  if (event.shiftKey && from >= 0) {
    for (const each of found.slice(Math.min(from, to), Math.max(from, to) + 1)) each.checked = box.checked;
  }
  last = box;
});
document.addEventListener("change", (event) => {
  if (event.target.id === "select-all") for (const box of boxes()) box.checked = event.target.checked;
  if (event.target.matches("#select-all, [data-select]")) show();
});
document.addEventListener("htmx:afterSwap", show);
show();
