// Settings that do not count with the present choices are put out of sight; their values stay and are sent all the same.
(() => {
  "use strict";
  const fields = [...document.querySelectorAll("[data-when]")];

  function update() {
    for (const field of fields) {
      const other = document.getElementById(`id_${field.dataset.when}`);
      const counts = !other || field.dataset.whenIs.split(" ").includes(other.value);
      const wrong = field.getAttribute("aria-invalid") === "true";
      field.closest("[data-field]").hidden = !counts && !wrong;
    }
  }

  update();
  document.addEventListener("change", update);
  const wrong = document.querySelector("[aria-invalid=true]");
  if (wrong) wrong.focus();
})();
