"use strict";
/* Light or dark: what the system prefers until the reader chooses, then that. It runs before anything is drawn. */

const Theme = (() => {
  const KEY = "jaxsae-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const asked = new URLSearchParams(location.search).get("theme"); // ?theme=dark, for pictures

  // Some browsers keep nothing for a page from disk, and say so by throwing.
  const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem(KEY, theme); } catch { /* until it is closed */ } };

  let chosen = [asked, remembered()].find((theme) => theme === "light" || theme === "dark") ?? null;
  const current = () => chosen ?? (system.matches ? "dark" : "light");
  const show = () => {
    document.documentElement.dataset.theme = current();
    const button = document.getElementById("theme");
    if (!button) return; // the page is not there yet
    button.textContent = current() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} theme`);
  };

  const toggle = () => {
    chosen = current() === "dark" ? "light" : "dark";
    remember(chosen);
    show();
  };

  system.addEventListener("change", show);
  show();
  return { show, toggle };
})();
