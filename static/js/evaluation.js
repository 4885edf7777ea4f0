// The evaluation of a run: images by epoch, boxes by confidence, and the choice of an epoch.
const slider = document.getElementById("travel-place");
const play = document.getElementById("travel-play");
const shownEpoch = document.getElementById("travel-epoch");
const confidence = document.getElementById("confidence");
const STEP_MS = 900;

for (const part of document.querySelectorAll("[data-needs-script]")) part.hidden = false;

const choice = document.getElementById("epoch-choice");
choice.addEventListener("change", () => choice.form.requestSubmit());
choice.form.querySelector("button").hidden = true;

// Boxes below the confidence are hidden; each image shows the number of visible boxes.
function filterBoxes() {
  if (!confidence) return;
  const threshold = Number(confidence.value);
  document.getElementById("confidence-shown").textContent = `${Math.round(threshold * 100)} %`;
  for (const box of document.querySelectorAll("[data-confidence]")) box.toggleAttribute("hidden", Number(box.dataset.confidence) < threshold);
  for (const count of document.querySelectorAll("[data-shown-boxes]")) {
    count.textContent = count.closest("figure").querySelectorAll("[data-confidence]:not([hidden])").length;
  }
}

class EpochPlayer {
  constructor() {
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
      const address = slider.dataset.address.replace("/0/", `/${epoch}/`);
      const page = fetch(address).then((response) => (response.ok && !response.redirected ? response.text() : Promise.reject(response.status)));
      page.catch(() => this.pages.delete(epoch));
      this.pages.set(epoch, page);
    }
    return this.pages.get(epoch);
  }

  label(failed = false) {
    const epoch = this.epochs[Number(slider.value)];
    const { label: epochLabel, best, bestLabel } = shownEpoch.dataset;
    const text = failed ? shownEpoch.dataset.failed : `${epochLabel} ${epoch}${epoch === best ? ` ★ ${bestLabel}` : ""}`;
    shownEpoch.textContent = text;
    slider.setAttribute("aria-valuetext", text);
  }

  async show() {
    const epoch = this.epochs[Number(slider.value)];
    this.label();
    let html;
    try {
      html = await this.page(epoch);
    } catch {
      if (epoch === this.epochs[Number(slider.value)]) this.label(true);
      return;
    }
    if (epoch !== this.epochs[Number(slider.value)]) return; // the slider has moved meanwhile
    const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    Idiomorph.morph(document.getElementById("travel-images"), fresh, { morphStyle: "outerHTML" });
    filterBoxes();
    const next = this.epochs[Number(slider.value) + 1];
    if (next) this.page(next).catch(() => {});
  }

  play() {
    if (Number(slider.value) === this.epochs.length - 1) slider.value = 0;
    else slider.value = Number(slider.value) + 1;
    this.showButton(true);
    const step = async () => {
      await this.show();
      if (this.timer === null) return;
      if (Number(slider.value) === this.epochs.length - 1) {
        this.pause();
        return;
      }
      this.timer = setTimeout(() => {
        slider.value = Number(slider.value) + 1;
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
    play.querySelector("span").textContent = playing ? play.dataset.stop : play.dataset.play;
    play.querySelector(".bi").className = `bi ${playing ? "bi-stop-fill" : "bi-play-fill"}`;
  }
}

if (slider) new EpochPlayer();
if (confidence) confidence.addEventListener("input", filterBoxes);
document.body.addEventListener("htmx:afterSwap", filterBoxes);
filterBoxes();
