// Hides the settings that have no effect with the current choices; their values are still submitted.
// Choosing another model sets its recommended values, except in fields that were changed.
(() => {
  "use strict";
  const fields = [...document.querySelectorAll("[data-when]")];
  const model = document.getElementById("id_model");
  const defaults = JSON.parse(document.getElementById("model-defaults")?.textContent || "{}");
  let present = model?.value;

  function update() {
    for (const field of fields) {
      const other = document.getElementById(`id_${field.dataset.when}`);
      const counts = !other || field.dataset.whenIs.split(" ").includes(other.value);
      const wrong = field.getAttribute("aria-invalid") === "true";
      field.closest("[data-field]").hidden = !counts && !wrong;
    }
  }

  function suiting(name, chosen) {
    const suited = defaults[chosen] || {};
    return name in suited ? suited[name] : defaults[""][name];
  }

  function suitModel() {
    const names = new Set([...Object.keys(defaults[present] || {}), ...Object.keys(defaults[model.value] || {})]);
    for (const name of names) {
      const field = document.getElementById(`id_${name}`);
      if (!field) continue;
      const key = field.type === "checkbox" ? "checked" : "value";
      const before = suiting(name, present);
      const untouched = key === "checked" ? field.checked === before : field.value === String(before);
      if (untouched) field[key] = suiting(name, model.value);
    }
    present = model.value;
  }

  update();
  document.addEventListener("change", (event) => {
    if (event.target === model) suitModel();
    update();
  });
  const wrong = document.querySelector("[aria-invalid=true]");
  if (wrong) wrong.focus();
})();
