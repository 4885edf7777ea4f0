// Shows the progress of an upload, and rejects a file above the size limit before it is sent.
(() => {
  "use strict";
  const holder = document.getElementById("import");

  holder.addEventListener("change", (event) => {
    const input = event.target;
    if (input.type !== "file" || !input.files.length) return;
    const form = input.form;
    const bytes = [...input.files].reduce((sum, file) => sum + file.size, 0);
    input.setCustomValidity(bytes > Number(form.dataset.maxBytes) ? form.dataset.tooLarge : "");
    input.reportValidity();
    const name = form.elements.name;
    if (name && !name.value) name.value = input.files[0].name.replace(/\.(zip|tgz|tbz2|txz|tar(\.(gz|bz2|xz))?)$/i, "");
  });

  holder.addEventListener("htmx:xhr:progress", (event) => {
    const box = holder.querySelector("[data-upload]");
    if (!event.detail.lengthComputable || !box) return;
    const share = event.detail.loaded / event.detail.total;
    box.hidden = false;
    box.querySelector("progress").value = share;
    const text = share < 1 ? `${Math.floor(share * 100)} %` : box.dataset.checking;
    box.querySelector("[data-share]").textContent = text;
  });
})();
