// Of a page's modules none runs where one does not come, as when the network changes meanwhile: it would say "Connecting"
// for ever. This script is none of them.
addEventListener("error", (event) => {
  if (!(event.target instanceof HTMLScriptElement)) return;
  const part = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const say = () => {
    part("state").dataset.state = "closed";
    part("state-text").textContent = "Not loaded";
    part("notice-title").textContent = "A part of this page did not come.";
    part("notice-action").textContent = "Load again";
    part("notice-action").addEventListener("click", () => location.reload());
    part("notice").hidden = false;
  };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", say);
  else say();
}, true);
