// The form of a new run: presets, a draft that survives an outage, and a check that the server can take it.
import { entriesOf, KEY, readDraft, sameEntries } from "./draft.js";

const MAX_AGE_MS = 7 * 24 * 3600 * 1000;
// A field of the form is called “dataset”: its attributes are read by name.
const form = document.getElementById("run-form");
const notice = document.getElementById("draft");

function entries() {
  return entriesOf([...new FormData(form)]);
}

function store(submitted = false) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ form: form.elements.task.value, time: Date.now(), submitted, entries: entries() }));
  } catch {
    // storage is full or not allowed: there is no draft
  }
}

function discard() {
  localStorage.removeItem(KEY);
  notice.hidden = true;
}

function show(what) {
  for (const part of ["found", "unreachable", "signed-out"]) notice.querySelector(`[data-draft-${part}]`).hidden = part !== what;
  for (const button of notice.querySelectorAll("button")) button.hidden = what !== "found";
  notice.hidden = false;
  notice.scrollIntoView({ block: "nearest" });
}

function fill(values) {
  const given = new Map(values);
  for (const field of form.elements) {
    if (!field.name || ["task", "csrfmiddlewaretoken", "clone"].includes(field.name) || field.type === "submit") continue;
    if (field.type === "checkbox") field.checked = given.has(field.name);
    else if (given.has(field.name)) field.value = given.get(field.name);
  }
  form.dispatchEvent(new Event("change", { bubbles: true }));
}

function offer() {
  const draft = readDraft(localStorage.getItem(KEY), form.elements.task.value, Date.now(), MAX_AGE_MS);
  if (!draft || form.hasAttribute("data-bound") || sameEntries(draft.entries, entries())) return;
  show("found");
  notice.querySelector("[data-draft-restore]").addEventListener("click", () => {
    fill(draft.entries);
    notice.hidden = true;
  });
}

// Whether the server would take the form: it answers, and the session still holds.
async function problem() {
  try {
    const response = await fetch(form.getAttribute("data-check"), { method: "HEAD", redirect: "manual", cache: "no-store" });
    return response.type === "opaqueredirect" || response.status === 401 ? "signed-out" : "";
  } catch {
    return "unreachable";
  }
}

let isChecked = false;
if (form) {
  for (const part of document.querySelectorAll("[data-needs-script]")) part.hidden = false;
  offer();
  notice.querySelector("[data-draft-discard]").addEventListener("click", discard);
  let timer = null;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(store, 400);
  });
  form.addEventListener("submit", async (event) => {
    store(event.submitter?.name !== "switch");
    if (isChecked || event.defaultPrevented) return;
    event.preventDefault();
    const submitter = event.submitter;
    const found = await problem();
    if (found) {
      show(found);
      return;
    }
    isChecked = true;
    form.requestSubmit(submitter);
    isChecked = false;
  });
  // On the form, because the presets are replaced when another model is chosen.
  form.addEventListener("click", (event) => {
    const link = event.target.closest("[data-preset]");
    if (!link) return;
    event.preventDefault();
    const values = JSON.parse(document.getElementById(`preset-${link.dataset.preset}`).textContent);
    for (const [name, value] of Object.entries(values)) {
      const field = form.elements[name];
      if (field?.type === "checkbox") field.checked = Boolean(value);
      else if (field) field.value = value;
    }
    for (const other of form.querySelectorAll("[data-preset]")) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    form.dispatchEvent(new Event("change", { bubbles: true }));
    store();
  });
}
