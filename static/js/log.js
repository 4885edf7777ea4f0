// The log of a run: each line once, at most the newest 2,000; it scrolls along while its end is in view.
const MAX_LINES = 2000;
const NEAR_END_PX = 40;

export class Log {
  constructor(panel) {
    this.box = panel.querySelector(".log");
    this.list = panel.querySelector(".log ol");
    this.follow = panel.querySelector("[data-log-follow]");
    this.filter = panel.querySelector("[data-log-filter]");
    this.level = panel.querySelector("[data-log-level]");
    const newest = this.list.lastElementChild;
    this.last = newest ? Number(newest.dataset.seq) : 0;
    this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.follow.addEventListener("change", () => this.follow.checked && this.toEnd());
    this.level.addEventListener("change", () => this.setLevel());
    this.filter.addEventListener("input", () => this.filterAll());
    document.addEventListener("htmx:afterSettle", (event) => panel.contains(event.target) && this.filterAll());
    this.setLevel();
    this.filterAll();
    this.toEnd();
  }

  append(html) {
    const lines = new DOMParser().parseFromString(`<ol>${html}</ol>`, "text/html").querySelectorAll("li");
    for (const line of lines) {
      if (Number(line.dataset.seq) <= this.last) continue;
      this.last = Number(line.dataset.seq);
      this.mark(line);
      this.list.append(line);
    }
    // A reader who has scrolled up keeps the position longer.
    const max = this.follow.checked ? MAX_LINES : 3 * MAX_LINES;
    while (this.list.childElementCount > max) this.list.firstElementChild.remove();
    if (this.follow.checked) this.toEnd();
  }

  // Starts again with the newest lines.
  async load(url) {
    const response = await fetch(url, { headers: { "HX-Request": "true", "HX-Target": "log-older" } });
    if (!response.ok) return;
    const lines = new DOMParser().parseFromString(`<ol>${await response.text()}</ol>`, "text/html").querySelectorAll("li[data-seq]");
    this.list.replaceChildren(...lines);
    this.last = Number(this.list.lastElementChild?.dataset.seq || this.last);
    this.filterAll();
  }

  setLevel() {
    this.box.dataset.least = this.level.value;
    if (this.follow.checked) this.toEnd();
  }

  filterAll() {
    for (const line of this.list.children) this.mark(line);
    if (this.follow.checked) this.toEnd();
  }

  mark(line) {
    const wanted = this.filter.value.trim().toLowerCase();
    line.classList.toggle("filtered", wanted !== "" && !line.textContent.toLowerCase().includes(wanted));
  }

  scrolled() {
    this.follow.checked = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < NEAR_END_PX;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }
}
