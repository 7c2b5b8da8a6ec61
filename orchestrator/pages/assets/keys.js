/* Keys for lists: j and k move, Enter opens, c claims, x chooses, / searches, ? tells. None of them decides anything.
   The profile switches them off; in a field they type what they are. */
(() => {
  "use strict";
  const rows = () => Array.from(document.querySelectorAll("[data-row]"));
  const link = (row) => row?.querySelector("[data-open]");

  const move = (by) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.contains(document.activeElement));
    const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    link(next)?.focus();
    next.scrollIntoView({ block: "nearest" });
  };

  const acts = {
    j: () => move(1),
    k: () => move(-1),
    c: () => document.activeElement.closest("[data-row]")?.querySelector("[data-claim]")?.click(),
    x: () => document.activeElement.closest("[data-row]")?.querySelector("input[type=checkbox]")?.click(),
    "/": () => document.getElementById("find")?.focus(),
    "?": () => { const help = document.getElementById("keys"); if (help?.open) help.close(); else help?.showModal(); },
  };

  document.addEventListener("keydown", (event) => {
    if (document.body.dataset.shortcuts !== "on" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]") && event.target.type !== "checkbox") return;
    const act = Object.hasOwn(acts, event.key) ? acts[event.key] : null;
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
