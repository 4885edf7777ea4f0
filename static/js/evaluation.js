// The evaluation of a run: images by epoch, boxes by confidence, and the choice of an epoch.
const STEP_MS = 900;

function element(id) {
  return document.getElementById(id);
}

// Boxes below the confidence are hidden; each image shows the number of visible boxes.
function filterBoxes() {
  const confidence = element("confidence");
  const fixed = document.querySelector("[data-threshold]");
  if (!confidence && !fixed) return;
  const threshold = Number(confidence ? confidence.value : fixed.dataset.threshold);
  if (confidence) element("confidence-shown").textContent = `${Math.round(threshold * 100)} %`;
  for (const box of document.querySelectorAll("[data-confidence]")) box.toggleAttribute("hidden", Number(box.dataset.confidence) < threshold);
  for (const count of document.querySelectorAll("[data-shown-boxes]")) {
    count.textContent = count.closest("figure").querySelectorAll("rect[data-confidence]:not([hidden])").length;
  }
}

class EpochPlayer {
  constructor(slider, play, shown) {
    Object.assign(this, { slider, button: play, shown });
    this.epochs = slider.dataset.epochs.split(",");
    this.pages = new Map(); // epoch -> promise of its images
    this.timer = null;
    slider.addEventListener("input", () => {
      this.pause();
      this.show();
    });
    play.addEventListener("click", () => (this.timer ? this.pause() : this.play()));
    this.label();
  }

  page(epoch) {
    if (!this.pages.has(epoch)) {
      const address = this.slider.dataset.address.replace("/0/", `/${epoch}/`);
      const page = fetch(address).then((response) => (response.ok && !response.redirected ? response.text() : Promise.reject(response.status)));
      page.catch(() => this.pages.delete(epoch));
      this.pages.set(epoch, page);
    }
    return this.pages.get(epoch);
  }

  label(failed = false) {
    const epoch = this.epochs[Number(this.slider.value)];
    const { label: epochLabel, best, bestLabel } = this.shown.dataset;
    const text = failed ? this.shown.dataset.failed : `${epochLabel} ${epoch}${epoch === best ? ` ★ ${bestLabel}` : ""}`;
    this.shown.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
  }

  async show() {
    const epoch = this.epochs[Number(this.slider.value)];
    this.label();
    let html;
    try {
      html = await this.page(epoch);
    } catch {
      if (epoch === this.epochs[Number(this.slider.value)]) this.label(true);
      return;
    }
    if (epoch !== this.epochs[Number(this.slider.value)]) return; // the slider has moved meanwhile
    const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    Idiomorph.morph(document.getElementById("travel-images"), fresh, { morphStyle: "outerHTML" });
    filterBoxes();
    const next = this.epochs[Number(this.slider.value) + 1];
    if (next) this.page(next).catch(() => {});
  }

  play() {
    if (Number(this.slider.value) === this.epochs.length - 1) this.slider.value = 0;
    else this.slider.value = Number(this.slider.value) + 1;
    this.showButton(true);
    const step = async () => {
      await this.show();
      if (this.timer === null) return;
      if (Number(this.slider.value) === this.epochs.length - 1) {
        this.pause();
        return;
      }
      this.timer = setTimeout(() => {
        this.slider.value = Number(this.slider.value) + 1;
        step();
      }, STEP_MS);
    };
    this.timer = -1;
    step();
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = null;
    this.showButton(false);
  }

  showButton(playing) {
    this.button.querySelector("span").textContent = playing ? this.button.dataset.stop : this.button.dataset.play;
    this.button.querySelector(".bi").className = `bi ${playing ? "bi-stop-fill" : "bi-play-fill"}`;
  }
}

/** To be called when images with predictions are on the page. */
export function startEvaluation() {
  const choice = element("epoch-choice");
  if (choice) {
    choice.addEventListener("change", () => choice.form.requestSubmit());
    choice.form.querySelector("button").hidden = true;
  }
  if (element("travel-place")) new EpochPlayer(element("travel-place"), element("travel-play"), element("travel-epoch"));
  filterBoxes();
}

document.addEventListener("htmx:afterSwap", filterBoxes);
document.addEventListener("input", (event) => {
  if (event.target.id === "confidence") filterBoxes();
});
