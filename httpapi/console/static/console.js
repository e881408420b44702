"use strict";
// Renews the parts of the live page when the manager says that something has
// changed. All HTML comes from the manager, escaped there.
(() => {
  const $ = (id) => document.getElementById(id);
  const pad = (n, w = 2) => String(n).padStart(w, "0");

  // Times arrive in UTC and are shown in the reader's own zone.
  function localTimes(root) {
    for (const t of root.querySelectorAll("time[datetime]")) {
      const d = new Date(t.dateTime);
      if (isNaN(d)) continue;
      let clock = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
      if (t.dataset.form !== "second") clock += `.${pad(d.getMilliseconds(), 3)}`;
      const day = `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;
      const old = t.dataset.form === "clock" && Date.now() - d > 20 * 3600e3;
      t.textContent = t.dataset.form === "clock" && !old ? clock : `${day} ${clock}`;
    }
  }
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) $("zone").textContent = `times in ${zone}`;
  localTimes(document);
  if (document.body.dataset.refresh !== "yes") return;

  let paused = false, newest = 0, busy = {}, again = {};

  function marks() {
    const table = document.querySelector("table.events");
    if (table) {
      for (const row of table.querySelectorAll("tr[data-id]"))
        if (newest && Number(row.dataset.id) > newest) row.classList.add("new");
      newest = Math.max(newest, Number(table.dataset.newest));
    }
    const button = $("pause");
    if (button) {
      button.hidden = false;
      button.textContent = paused ? "Go on" : "Pause";
      button.setAttribute("aria-pressed", paused);
      $("live-mark").textContent = paused ? "paused" : "live";
    }
    const state = document.querySelector(".state");
    if (state) {
      document.title = document.title.replace(/^\S*/, state.dataset.word || "?");
      $("gone-peer").hidden = !state.dataset.peer;
      if (state.dataset.peer) $("gone-peer").href = state.dataset.peer;
    }
  }

  // A part is not replaced while text in it is selected: somebody is copying.
  const selecting = (part) => {
    const s = getSelection();
    return s && !s.isCollapsed && part.contains(s.anchorNode);
  };

  async function renew(name) {
    const part = $(name);
    if (document.hidden || selecting(part)) return;
    if (busy[name]) { again[name] = true; return; }
    busy[name] = true;
    try {
      const r = await fetch(`/part/${name}${location.search}`, { headers: { "Futago-Part": name }, signal: AbortSignal.timeout(10000) });
      if (r.status === 401) { location.reload(); return; }
      if (!r.ok) return;
      const html = await r.text();
      const open = new Set([...part.querySelectorAll("details[open]")].map((d) => d.dataset.keep));
      const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
      part.innerHTML = html;
      for (const d of part.querySelectorAll("details")) d.open = open.has(d.dataset.keep);
      if (focused && $(focused)) $(focused).focus();
      localTimes(part);
      marks();
    } catch { /* the stream tells when the manager is gone */ } finally {
      busy[name] = false;
      if (again[name]) { again[name] = false; setTimeout(renew, 200, name); }
    }
  }
  const renewEvents = () => { if (!paused && $("live-mark")) renew("events"); };

  let source, heard, gone = 0;
  function alive() {
    heard = Date.now();
    if (!gone) return;
    gone = 0;
    $("gone").hidden = true;
    renew("status");
    renewEvents();
  }
  function lost() {
    if (gone) return;
    gone = Date.now();
    $("gone-since").textContent = new Date(heard).toLocaleTimeString();
    $("gone").hidden = false;
  }
  function connect() {
    if (source) source.close();
    heard = heard || Date.now();
    source = new EventSource("/live");
    source.addEventListener("hello", () => { alive(); renew("status"); renewEvents(); });
    source.addEventListener("events", () => { alive(); renewEvents(); });
    source.addEventListener("status", () => { alive(); renew("status"); });
    source.addEventListener("sign-in", () => location.reload());
    source.addEventListener("bye", () => lost());
    source.onerror = () => { lost(); source.close(); setTimeout(connect, 2000); };
  }
  // The stream says something every two seconds; a cut cable says nothing.
  setInterval(() => {
    if (Date.now() - heard > 8000) {
      lost();
      if (Date.now() - Math.max(heard, gone) > 5000) { gone = Date.now(); connect(); }
    }
  }, 1000);

  document.addEventListener("click", (e) => {
    if (e.target.id !== "pause") return;
    paused = !paused;
    marks();
    renewEvents();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { renew("status"); renewEvents(); } });
  marks();
  connect();
})();
