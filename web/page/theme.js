/** The theme: the system's, light or dark, kept across visits. */

import { byId, setText } from "./dom.js";

/** @type {readonly ("auto" | "light" | "dark")[]} */
const THEMES = ["auto", "light", "dark"];
const LABELS = { auto: "Auto", light: "Light", dark: "Dark" };

/** @param {() => void} onChange Colours that scripts have read are out of date. */
export function setUpTheme(onChange) {
  const button = byId("theme");
  const show = () => {
    const theme = current();
    setText(byId("theme-text"), LABELS[theme]);
    button.setAttribute("aria-label", `Theme: ${LABELS[theme]}. Change`);
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("trestle.theme", next);
    } catch {
      // It then holds for this visit.
    }
    show();
    onChange();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
  show();
}

function current() {
  const theme = document.documentElement.dataset.theme;
  return theme === "light" || theme === "dark" ? theme : "auto";
}
