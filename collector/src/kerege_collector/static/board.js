"use strict";
// Asks for the state every few seconds and writes it into the page that was served; durations are reckoned by the collector's clock.
(() => {
  const EVERY_MS = 5000;
  const MINUTE = 60, HOUR = 3600, DAY = 86400;
  const byId = (id) => document.getElementById(id);
  const body = byId("centers"), blank = byId("center").content.firstElementChild;
  const rows = new Map([...body.rows].map((row) => [row.dataset.center, row]));
  const timeForm = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const dayForm = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  let heard = null, timer = 0;

  const span = (seconds) => {
    const s = Math.max(0, Math.floor(seconds)), whole = (unit) => Math.floor(s / unit);
    if (s < MINUTE) return `${s} s`;
    if (s < HOUR) return `${whole(MINUTE)} min`;
    if (s < 2 * DAY) return `${whole(HOUR)} h ${Math.floor((s % HOUR) / MINUTE)} min`;
    return `${whole(DAY)} d ${Math.floor((s % DAY) / HOUR)} h`;
  };
  const number = (value) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));
  const utc = (s) => new Date(s * 1000).toISOString().replace("T", " ").replace(".000Z", " UTC");
  const local = (s, now) => {
    const then = new Date(s * 1000), sameDay = then.toDateString() === new Date(now * 1000).toDateString();
    return sameDay ? timeForm.format(then) : `${dayForm.format(then)}, ${timeForm.format(then)}`;
  };
  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    made.textContent = text;
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  };
  const time = (s, text) => element("time", text, { datetime: new Date(s * 1000).toISOString(), title: utc(s) });
  const flag = (text, title, bad) => element("span", text, { title, class: bad ? "flag bad" : "flag" });

  const flags = (center) => [
    center.two_agents_since_s !== null && flag("two agents", "Two machines use this center's identity: give the second its own certificate and id.", true),
    center.trouble && flag(center.trouble, "The last message that could not be taken.", true),
    !center.registered && flag("not registered", "This id is not in centers.toml."),
    center.connection === "lost" && flag("connection lost", "The broker says that the connection has ended. A hint only."),
    center.gaps > 0 && flag(`${center.gaps} missing`, "Records that have not come: under way, or lost."),
  ].filter(Boolean);

  const fill = (row, center, now) => {
    const put = (cell, ...content) => row.querySelector(cell).replaceChildren(...content);
    const putOrNone = (cell, value, written) => {
      put(cell, ...(value === null ? ["–"] : written(value)));
      row.querySelector(cell).classList.toggle("none", value === null);
    };
    row.dataset.center = center.center;
    row.dataset.state = center.state;
    put(".name", center.name);
    put(".about", [center.district, center.link, center.provider].filter(Boolean).join(" · "));
    put(".pill", center.state);
    put(".cause", center.cause ?? "");
    putOrNone(".since", center.since_s, (s) => [span(now - s), time(s, local(s, now))]);
    put(".seen", center.last_seen_s === null ? "never" : time(center.last_seen_s, `${span(now - center.last_seen_s)} ago`));
    putOrNone(".rtt", center.rtt_ms, (ms) => [`${number(ms)} ms`]);
    putOrNone(".loss", center.loss_percent, (percent) => [`${number(percent)} %`]);
    putOrNone(".spool", center.spool_records, (count) => [String(count)]);
    put(".flags", ...flags(center));
  };

  const notices = (texts) => {
    const old = [...byId("notices").children].map((notice) => notice.textContent);
    if (texts.join("\n") !== old.join("\n")) byId("notices").replaceChildren(...texts.map((text) => element("p", text, { class: "notice bad" })));
  };

  const show = (said) => {
    const here = new Set(said.centers.map((center) => center.center));
    for (const [name, row] of rows) {
      if (!here.has(name)) { row.remove(); rows.delete(name); }
    }
    said.centers.forEach((center, place) => {
      let row = rows.get(center.center);
      if (!row) { row = blank.cloneNode(true); rows.set(center.center, row); }
      fill(row, center, said.now_s);
      if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
    });
    for (const tile of byId("counts").children) tile.querySelector("dd").textContent = said.counts[tile.dataset.state];
    byId("empty").hidden = said.centers.length > 0;
    byId("clock").textContent = said.clock.detail;
    byId("asof").replaceChildren("as of ", time(said.now_s, new Date(said.now_s * 1000).toLocaleTimeString(undefined, { hourCycle: "h23" })));
    document.title = `${said.counts.down ? `${said.counts.down} down · ` : ""}Kerege`;
    const doubt = `This server's clock is not known to be right (${said.clock.detail}). It is everybody's time: all records are marked unsynced until it is.`;
    notices(said.clock.synchronised ? said.trouble : [...said.trouble, doubt]);
  };

  const poll = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch("api/v1/centers", { cache: "no-store", signal: AbortSignal.timeout(2 * EVERY_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      show(await answer.json());
      heard = new Date();
      document.body.classList.remove("stale");
    } catch {
      document.body.classList.add("stale");
      notices([`The collector does not answer. What is shown is of ${heard ? heard.toLocaleTimeString(undefined, { hourCycle: "h23" }) : "when this page was opened"}.`]);
    }
    if (!document.hidden) timer = setTimeout(poll, EVERY_MS);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  poll();
})();
