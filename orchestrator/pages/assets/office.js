/* Comfort for pages that work without it. Nothing here decides, and nothing here is needed.

   - Copy buttons, focus on what is wrong with a form, a lock on buttons while a form is on its way.
   - Drafts of a decision are kept on the server while somebody types.
   - A menu closes with Escape and by a click beside it. */
(() => {
  "use strict";
  const each = (selector, act, root = document) => root.querySelectorAll(selector).forEach(act);
  const say = (text) => { const place = document.getElementById("said"); if (place) place.textContent = text; };
  window.office = { each, say };

  const dress = (root) => {
    each("[data-copy]", (button) => { button.hidden = false; }, root);
    each("[data-script]", (part) => { part.hidden = false; }, root);
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) {
      await navigator.clipboard.writeText(button.dataset.copy);
      say("Copied");
    }
    const printing = event.target.closest("[data-print]");
    if (printing) window.print();
    const all = event.target.closest("[data-check-all]");
    if (all) each(`input[name="${all.dataset.checkAll}"]`, (box) => { box.checked = all.checked; });
    each("details.who[open]", (menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    each("details.who[open], details.menu[open]", (menu) => { menu.open = false; menu.querySelector("summary").focus(); });
  });

  /* One submit for each form: the second click of a double click goes nowhere. */
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) { event.preventDefault(); return; }
    if (form.method !== "post") return;
    form.dataset.sent = "yes";
    each("button", (button) => { button.setAttribute("aria-disabled", "true"); }, form);
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) { location.reload(); return; }
    each("form[data-sent]", (form) => { delete form.dataset.sent; });
  });

  /* Reasons that an outcome asks for, and the words of the final button. */
  const follow = (form) => {
    const chosen = form.querySelector("input[name=outcome]:checked");
    const button = form.querySelector("[data-decide]");
    if (chosen && button) button.lastChild.textContent = chosen.dataset.button;
    const reason = form.querySelector("[name=reason]");
    if (chosen && reason) reason.required = chosen.dataset.reason === "must";
  };

  const keepDraft = (form) => {
    let waiting = 0;
    let last = "";
    const words = document.getElementById("draft-words");
    const save = async () => {
      const body = new URLSearchParams(new FormData(form));
      if (body.toString() === last || form.dataset.sent) return;
      last = body.toString();
      try {
        const answer = await fetch(form.dataset.draft, { method: "POST", body, redirect: "error", headers: { Accept: "application/json" } });
        words.textContent = answer.ok ? `Draft saved ${(await answer.json()).saved}` : "Draft not saved";
      } catch { words.textContent = "Draft not saved"; }
    };
    form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(save, 800); });
    form.addEventListener("change", () => follow(form));
    follow(form);
  };

  document.addEventListener("DOMContentLoaded", () => {
    dress(document);
    each("form[data-draft]", keepDraft);
    const wrong = document.querySelector("[data-focus]");
    if (wrong) wrong.focus();
  });
  document.addEventListener("htmx:after:swap", () => dress(document));
})();
