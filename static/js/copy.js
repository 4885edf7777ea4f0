// A button that copies a field; without scripts the field can be copied by hand.
for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const label = button.querySelector("span");
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // the clipboard API needs HTTPS
    }
    label.textContent = button.dataset.copied;
    document.getElementById("announcer").textContent = button.dataset.copied;
  });
}
