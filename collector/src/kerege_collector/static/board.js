"use strict";
// Fetches the page anew every few seconds, puts in what has changed, and writes its times in the browser's zone.
(() => {
  const EVERY_MS = 10000;
  const LIVE = ["asof", "notices", "counts", "centers", "empty"];
  const language = document.documentElement.lang;
  const form = (options) => new Intl.DateTimeFormat(language, { hourCycle: "h23", ...options });
  const minutes = form({ hour: "2-digit", minute: "2-digit" });
  const seconds = form({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const day = form({ day: "numeric", month: "short" });
  let timer = 0;

  const moments = (root) => [...root.querySelectorAll("time[data-form]")];
  const localise = (root) => {
    const now = new Date(root.querySelector("#asof time").dateTime);
    for (const time of moments(root)) {
      const then = new Date(time.dateTime), sameDay = then.toDateString() === now.toDateString();
      time.textContent = time.dataset.form === "seconds" ? seconds.format(then) : `${sameDay ? "" : `${day.format(then)}, `}${minutes.format(then)}`;
    }
  };

  const poll = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(2 * EVERY_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      localise(fresh);
      for (const id of LIVE) {
        const old = document.getElementById(id), now = fresh.getElementById(id);
        if (old.outerHTML !== now.outerHTML) old.replaceWith(now);
      }
      document.title = fresh.title;
      document.getElementById("silence").hidden = true;
      document.body.classList.remove("stale");
    } catch {
      document.getElementById("silence").hidden = false;
      document.body.classList.add("stale");
    }
    if (!document.hidden) timer = setTimeout(poll, EVERY_MS);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  localise(document);
  timer = setTimeout(poll, EVERY_MS);
})();
