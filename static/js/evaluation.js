// The evaluation of a run: images through the epochs, boxes by confidence, another epoch without a second click.
const place = document.getElementById("travel-place");
const play = document.getElementById("travel-play");
const shownEpoch = document.getElementById("travel-epoch");
const confidence = document.getElementById("confidence");
const STEP_MS = 900;

for (const part of document.querySelectorAll("[data-needs-script]")) part.hidden = false;

const choice = document.getElementById("epoch-choice");
choice.addEventListener("change", () => choice.form.requestSubmit());
choice.form.querySelector("button").hidden = true;

// Boxes below the confidence are hidden; each image says how many are left.
function sift() {
  if (!confidence) return;
  const least = Number(confidence.value);
  document.getElementById("confidence-shown").textContent = `${Math.round(least * 100)} %`;
  for (const box of document.querySelectorAll("[data-confidence]")) box.toggleAttribute("hidden", Number(box.dataset.confidence) < least);
  for (const count of document.querySelectorAll("[data-shown-boxes]")) {
    count.textContent = count.closest("figure").querySelectorAll("[data-confidence]:not([hidden])").length;
  }
}

class Travel {
  constructor() {
    this.epochs = place.dataset.epochs.split(",");
    this.pages = new Map(); // epoch -> promise of its images
    this.timer = null;
    place.addEventListener("input", () => {
      this.pause();
      this.show();
    });
    play.addEventListener("click", () => (this.timer ? this.pause() : this.play()));
    this.say();
  }

  page(epoch) {
    if (!this.pages.has(epoch)) {
      const address = place.dataset.address.replace("/0/", `/${epoch}/`);
      const page = fetch(address).then((response) => (response.ok && !response.redirected ? response.text() : Promise.reject(response.status)));
      page.catch(() => this.pages.delete(epoch));
      this.pages.set(epoch, page);
    }
    return this.pages.get(epoch);
  }

  say(failed = false) {
    const epoch = this.epochs[Number(place.value)];
    const { label, best, bestLabel } = shownEpoch.dataset;
    const words = failed ? shownEpoch.dataset.failed : `${label} ${epoch}${epoch === best ? ` ★ ${bestLabel}` : ""}`;
    shownEpoch.textContent = words;
    place.setAttribute("aria-valuetext", words);
  }

  async show() {
    const epoch = this.epochs[Number(place.value)];
    this.say();
    let html;
    try {
      html = await this.page(epoch);
    } catch {
      if (epoch === this.epochs[Number(place.value)]) this.say(true);
      return;
    }
    if (epoch !== this.epochs[Number(place.value)]) return; // the slider has gone on
    const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    Idiomorph.morph(document.getElementById("travel-images"), fresh, { morphStyle: "outerHTML" });
    sift();
    const next = this.epochs[Number(place.value) + 1];
    if (next) this.page(next).catch(() => {});
  }

  play() {
    if (Number(place.value) === this.epochs.length - 1) place.value = 0;
    else place.value = Number(place.value) + 1;
    this.face(true);
    const step = async () => {
      await this.show();
      if (this.timer === null) return;
      if (Number(place.value) === this.epochs.length - 1) {
        this.pause();
        return;
      }
      this.timer = setTimeout(() => {
        place.value = Number(place.value) + 1;
        step();
      }, STEP_MS);
    };
    this.timer = -1;
    step();
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = null;
    this.face(false);
  }

  face(playing) {
    play.querySelector("span").textContent = playing ? play.dataset.stop : play.dataset.play;
    play.querySelector(".bi").className = `bi ${playing ? "bi-stop-fill" : "bi-play-fill"}`;
  }
}

if (place) new Travel();
if (confidence) confidence.addEventListener("input", sift);
document.body.addEventListener("htmx:afterSwap", sift);
sift();
