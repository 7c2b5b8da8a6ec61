/* What the page says of its own age. The stream brings hints and beats; parts ask again by themselves (hx-get).

   Sure: when the page, a part or a beat last said that nothing else is known. Without a beat for PAUSED_MS the page says
   that live updates are paused; with data older than STALE_MS what decides is switched off until the page is reloaded. */
(() => {
  "use strict";
  const PAUSED_MS = 25000;
  const STALE_MS = 60000;
  let sure = Date.now();
  let heard = 0;
  let paused = false;

  const asof = () => document.getElementById("asof");
  const words = () => document.getElementById("live-words");

  const show = () => {
    const bar = asof();
    if (!bar || !document.getElementById("live")) return;
    const age = Date.now() - sure;
    const now = Date.now() - heard > PAUSED_MS;
    bar.dataset.live = now ? "off" : "on";
    if (now && heard + PAUSED_MS < Date.now() && age > PAUSED_MS) {
      words().textContent = `· live updates paused, data ${Math.round(age / 1000)} s old`;
      if (!paused) office.say("Live updates are paused.");
      paused = true;
    } else if (!now) {
      words().textContent = "";
      paused = false;
    }
    const stale = age > STALE_MS;
    document.body.dataset.stale = stale ? "yes" : "no";
    office.each("[data-fresh-only]", (button) => {
      if (button.closest("form")?.dataset.sent) return;
      button.disabled = stale || button.dataset.changed === "yes";
    });
    office.each("[data-stale-words]", (part) => { part.hidden = !stale; });
  };

  const isLive = (event) => event.target instanceof Element && event.target.id === "live";
  document.addEventListener("beat", (event) => { if (isLive(event)) { heard = sure = Date.now(); show(); } });
  for (const kind of ["tasks", "sagas", "saga"]) {
    document.addEventListener(`hint-${kind}`, (event) => { if (isLive(event)) { heard = Date.now(); show(); } });
  }

  /* A part that came anew brings its own age and, once in a while, a sentence for who listens. */
  let spoken = 0;
  document.addEventListener("htmx:after:swap", () => {
    office.each("[data-asof]", (part) => {
      const place = asof()?.querySelector("span:not(.dot)");
      if (place && place.textContent !== part.dataset.asof) place.textContent = part.dataset.asof;
    });
    office.each("[data-changed-words]", (part) => {
      if (Date.now() - spoken > 30000) { spoken = Date.now(); office.say(part.dataset.changedWords); }
    });
    office.each("[data-locks]", (part) => {
      office.each("[data-fresh-only]", (button) => { button.dataset.changed = part.dataset.locks; });
    });
    sure = Date.now();
    show();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) show(); });
  document.addEventListener("DOMContentLoaded", () => { heard = Date.now(); setInterval(show, 1000); });
})();
