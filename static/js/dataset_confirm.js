// The import form of a dataset: classes are moved, merged and excluded, with immediate feedback.
// The form may be part of the page or come later by htmx, so all listeners are on the document.

const rows = () => [...document.querySelectorAll("#confirm [data-class]")];
const part = (row, name) => row.querySelector(`[name$="-${name}"]`);
const plainName = (row) => part(row, "name").value.trim().replace(/\s+/g, " ");

function renumber() {
  rows().forEach((row, index) => { part(row, "order").value = index + 1; });
}

function update() {
  const form = document.getElementById("confirm");
  if (!form) return;
  const byName = new Map();
  for (const row of rows()) {
    const kept = part(row, "keep").checked;
    row.classList.toggle("left-out", !kept);
    const name = plainName(row);
    if (kept && name) byName.set(name, [...(byName.get(name) || []), row]);
  }
  for (const row of rows()) {
    const group = part(row, "keep").checked ? byName.get(plainName(row)) || [] : [];
    const others = group.filter((other) => other !== row).map((other) => other.dataset.source);
    const text = others.length ? `${form.dataset.merge} ${others.join(", ")}` : "";
    const note = row.querySelector("[data-note]");
    if (note.textContent !== text) note.textContent = text;
  }
  if (rows().length) form.querySelector("[data-kept]").textContent = byName.size;
  const drawn = form.querySelector("[name=split]:checked, [name=split][type=hidden]");
  form.querySelector("[data-when-drawn]").hidden = Boolean(drawn) && drawn.value !== "stratified";
}

function move(row, by) {
  const other = by < 0 ? row.previousElementSibling : row.nextElementSibling;
  if (!other) return;
  if (by < 0) other.before(row);
  else other.after(row);
  renumber();
  document.getElementById("announcer").textContent = `${plainName(row)}: ${part(row, "order").value}`;
}

function sortByOrder() {
  const order = (row) => (part(row, "order").value === "" ? Infinity : Number(part(row, "order").value));
  const sorted = rows().sort((one, other) => order(one) - order(other));
  sorted[0].parentElement.append(...sorted);
  renumber();
}

function keepAll(kept) {
  for (const row of rows()) part(row, "keep").checked = kept;
  update();
}

function begin() {
  for (const part of document.querySelectorAll("#confirm [data-needs-script]")) part.hidden = false;
  update();
  const wrong = document.querySelector("#confirm [aria-invalid=true]");
  if (wrong) wrong.focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("#confirm button[type=button]");
  if (!button) return;
  if (button.dataset.move) {
    move(button.closest("[data-class]"), Number(button.dataset.move));
    button.focus();
  }
  if ("keepAll" in button.dataset) keepAll(true);
  if ("keepNone" in button.dataset) keepAll(false);
});
document.addEventListener("input", (event) => {
  if (event.target.closest("#confirm")) update();
});
document.addEventListener("change", (event) => {
  const field = event.target.closest("#confirm [name$='-order']");
  if (!field) return;
  sortByOrder();
  field.focus();
});
document.addEventListener("htmx:afterSettle", begin);
begin();
