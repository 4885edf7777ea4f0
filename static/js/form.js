// Hides the settings that have no effect with the current choices; their values are still submitted.
// The dataset decides how many labels an image can have; choices that do not suit that are disabled.
// Choosing another model sets its recommended values, except in fields that were changed.
(() => {
  "use strict";
  const dataset = document.getElementById("id_dataset");
  const labelMode = document.getElementById("id_label_mode");
  const choices = [...document.querySelectorAll("option[data-choice-when]")];
  const fields = [...document.querySelectorAll("[data-when]")];
  const model = document.getElementById("id_model");
  const defaults = JSON.parse(document.getElementById("model-defaults")?.textContent || "{}");
  let present = model?.value;

  function counts(name, values) {
    const other = document.getElementById(`id_${name}`);
    return !other || values.split(" ").includes(other.value);
  }

  function followDataset() {
    const mode = dataset?.selectedOptions[0]?.dataset.labelMode;
    if (labelMode && mode) labelMode.value = mode;
  }

  function update() {
    for (const option of choices) {
      option.disabled = !counts(option.dataset.choiceWhen, option.dataset.choiceWhenIs);
      option.hidden = option.disabled;
    }
    for (const select of new Set(choices.map((option) => option.closest("select")))) {
      if (select.selectedOptions[0]?.disabled) select.value = [...select.options].find((option) => !option.disabled).value;
    }
    for (const field of fields) {
      const wrong = field.getAttribute("aria-invalid") === "true";
      field.closest("[data-field]").hidden = !counts(field.dataset.when, field.dataset.whenIs) && !wrong;
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

  followDataset();
  update();
  document.addEventListener("change", (event) => {
    if (event.target === model) suitModel();
    if (event.target === dataset) followDataset();
    update();
  });
  const wrong = document.querySelector("[aria-invalid=true]");
  if (wrong) wrong.focus();
})();
