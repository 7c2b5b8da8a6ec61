/* Two minutes before a session ends for want of use, the page says so and offers to stay; what is typed is a draft by
   then. What the page fetches by itself keeps nobody signed in, so the clock runs from what a person did. */
(() => {
  "use strict";
  const WARN_MS = 120000;
  const idle = Number(document.body.dataset.idle || 0);
  if (!idle) return;
  let used = Date.now();

  const show = () => {
    const place = document.getElementById("session");
    const left = used + idle - Date.now();
    place.hidden = left > WARN_MS;
    if (place.hidden) return;
    const words = place.querySelector("[data-left]");
    const text = left > 0 ? `You will be signed out in ${Math.max(1, Math.ceil(left / 60000))} min, as nothing was done here.` : "You are signed out.";
    if (words.textContent !== text) words.textContent = text;
    place.querySelector("[data-stay]").hidden = left <= 0;
  };

  document.addEventListener("click", async (event) => {
    if (!event.target.closest("[data-stay]")) return;
    const answer = await fetch("/v1/me", { headers: { Accept: "application/json" } });
    if (answer.ok) used = Date.now();
    show();
  });
  document.addEventListener("DOMContentLoaded", () => setInterval(show, 1000));
})();
