// The command palette and the list of shortcuts. Loaded when one of them is opened for the first time.
const WAIT_MS = 120; // while somebody types
const SINGLE_KEY = "studio-no-help-key";

// The option that a key leads to; -1 for none. The arrows go round.
export function moved(index, count, key) {
  if (!count) return -1;
  if (key === "ArrowDown") return (index + 1) % count;
  if (key === "ArrowUp") return (index <= 0 ? count : index) - 1;
  if (key === "PageDown") return Math.min(index + 8, count - 1);
  if (key === "PageUp") return Math.max(index - 8, 0);
  return index;
}

// The fields that an option posts: data-field-language="en" is language=en.
export const fieldsOf = (dataset) =>
  Object.entries(dataset)
    .filter(([name]) => /^field[A-Z]/.test(name))
    .map(([name, value]) => [name[5].toLowerCase() + name.slice(6), value]);

const address = (part, query = "") => {
  const asked = new URLSearchParams({ part, q: query, from: location.pathname + location.search });
  return `${document.querySelector("[data-palette]").dataset.palette}?${asked}`;
};

async function fetched(url) {
  try {
    const response = await fetch(url, { redirect: "manual" });
    if (response.ok) return await response.text();
    if (response.type === "opaqueredirect") location.reload(); // signed out
    return null;
  } catch {
    return null;
  }
}

const problem = () => {
  const message = document.getElementById("messages").dataset.unreachable;
  document.dispatchEvent(new CustomEvent("studio:problem", { detail: { message } }));
};

function styled() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("../css/palette.css", import.meta.url);
  const loaded = new Promise((resolve) => {
    link.addEventListener("load", resolve);
    link.addEventListener("error", resolve);
  });
  document.head.append(link);
  return loaded;
}
let styles = null;

// A modal dialog with this HTML, which is removed when it is closed. The focus returns to where it was.
function shown(html) {
  const holder = document.createElement("div");
  holder.innerHTML = html;
  const dialog = holder.querySelector("dialog");
  const before = document.activeElement;
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
  });
  dialog.showModal();
  return dialog;
}

class Palette {
  constructor(dialog) {
    this.dialog = dialog;
    this.input = dialog.querySelector("[role=combobox]");
    this.list = dialog.querySelector("[role=listbox]");
    this.status = dialog.querySelector("[role=status]");
    this.asked = 0;
    this.query = ""; // the one whose results are shown
    this.input.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.search(), WAIT_MS);
    });
    dialog.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("click", ({ target }) => this.run(target.closest("[role=option]")));
    this.input.focus();
    this.choose(0);
  }

  get options() {
    return [...this.list.querySelectorAll("[role=option]")];
  }

  get index() {
    return this.options.findIndex((option) => option.getAttribute("aria-selected") === "true");
  }

  choose(index) {
    const { options } = this;
    for (const [place, option] of options.entries()) option.setAttribute("aria-selected", place === index);
    this.input.setAttribute("aria-activedescendant", options[index]?.id ?? "");
    options[index]?.scrollIntoView({ block: "nearest" });
  }

  // Only the answer to the newest question is shown.
  async search() {
    this.asked += 1;
    const turn = this.asked;
    const query = this.input.value;
    const html = await fetched(address("results", query));
    if (turn !== this.asked) return;
    this.query = query;
    if (html === null) {
      this.dialog.close();
      problem();
      return;
    }
    this.list.innerHTML = html;
    const count = this.options.length;
    this.choose(count ? 0 : -1);
    this.status.textContent = count ? this.status.dataset.found.replace("{count}", count) : this.status.dataset.none;
  }

  async key(event) {
    if (event.isComposing) return; // an input method that has not finished
    if (event.key === "Enter" && event.target === this.input) {
      event.preventDefault();
      clearTimeout(this.timer);
      if (this.input.value !== this.query) await this.search();
      this.run(this.options[this.index]);
      return;
    }
    if (event.target !== this.input || !/^(Arrow|Page)(Up|Down)$/.test(event.key)) return;
    event.preventDefault();
    this.choose(moved(this.index, this.options.length, event.key));
  }

  run(option) {
    if (!option) return;
    const { url, toggles } = option.dataset;
    this.dialog.close();
    if (toggles === "theme") document.querySelector("[data-theme-toggle]").click();
    else if (toggles) open(toggles);
    else if (option.hasAttribute("data-posts")) this.post(url, fieldsOf(option.dataset));
    else location.assign(url);
  }

  // As the buttons of the page without JavaScript: the answer is a page.
  post(url, fields) {
    const form = this.dialog.querySelector("[data-sender]");
    form.action = url;
    for (const [name, value] of fields) {
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name, value });
      form.append(field);
    }
    document.body.append(form);
    form.submit();
  }
}

function shortcuts(dialog) {
  const box = dialog.querySelector("[data-single-key]");
  box.checked = localStorage.getItem(SINGLE_KEY) === null;
  box.addEventListener("change", () => {
    if (box.checked) localStorage.removeItem(SINGLE_KEY);
    else localStorage.setItem(SINGLE_KEY, "1");
  });
}

let isOpening = false;

// what: "dialog" for the palette, or "shortcuts"
export async function open(what) {
  if (isOpening || document.querySelector("dialog.palette[open]")) return;
  isOpening = true;
  styles ||= styled();
  const [html] = await Promise.all([fetched(address(what)), styles]);
  isOpening = false;
  if (html === null) return problem();
  const dialog = shown(html);
  if (what === "dialog") new Palette(dialog);
  else shortcuts(dialog);
}
