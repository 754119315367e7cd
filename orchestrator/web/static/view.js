// Live figures, charts, and keys; every page works without it.
"use strict";
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// ── charts ──
const area = one("#charts");
const pulses = area ? JSON.parse(area.dataset.pulses) : [];
const perMinute = (name) => pulses.map((p, i) => {
  const before = pulses[Math.max(0, i - 5)];
  return p.at > before.at ? ((p[name] - before[name]) / (p.at - before.at)) * 60 : null;
});
const kinds = {
  rows: () => [perMinute("settled")],
  open: () => [pulses.map((p) => p.in_flight)],
  polls: () => [perMinute("polls"), perMinute("rate_limited")],
  cost: () => [pulses.map((p) => Number(p.cost_usd)), ...(area.dataset.budget ? [pulses.map(() => Number(area.dataset.budget))] : [])],
};
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (v) => (Math.abs(v) >= 1e6 ? `${v / 1e6} M` : Math.abs(v) >= 1e4 ? `${v / 1e3} k` : v.toLocaleString("en"));
const charts = {};
function draw() {
  for (const place of all("[data-chart]")) {
    const name = place.dataset.chart, data = [pulses.map((p) => p.at), ...kinds[name]()];
    if (charts[name]) { charts[name].setData(data); continue; }
    const tzDate = (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC");
    const time = (at) => new Date(at * 1e3).toISOString().slice(11, pulses.at(-1).at - pulses[0].at < 600 ? 19 : 16);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const strokes = [colour("--accent"), colour("--failed")];
    const series = data.slice(1).map((_, i) => ({ stroke: strokes[i], width: 1.5, points: { show: pulses.length < 3 }, dash: name === "cost" && i ? [4, 4] : undefined }));
    const y = { ...axis, size: 52, values: (_, ticks) => ticks.map((v) => (name === "cost" ? `$${short(v)}` : short(v))) };
    const range = (_, low, high) => [0, high > 0 ? high * 1.1 : 1];
    charts[name] = new uPlot({ width: place.clientWidth, height: 130, tzDate, legend: { show: false }, cursor: { y: false }, scales: { y: { range } }, axes: [{ ...axis, size: 26, space: 90, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400], values: (_, ticks) => ticks.map(time) }, y], series: [{}, ...series] }, data, place);
  }
}
if (area) {
  const now = JSON.parse(area.dataset.now);
  if (pulses.length && pulses.at(-1).at < now.at) pulses.push(now);
  if (!area.hidden) draw();
  addEventListener("resize", () => all("[data-chart]").forEach((p) => charts[p.dataset.chart]?.setSize({ width: p.clientWidth, height: 130 })));
}

// ── live figures: what has changed is replaced ──
const live = one("[data-stream]");
let stream;
function listen() {
  stream = new EventSource(live.dataset.stream);
  stream.onmessage = (event) => {
    const figures = JSON.parse(event.data);
    const fresh = document.createElement("template");
    fresh.innerHTML = figures.html;
    for (const part of all("[data-live]", fresh.content)) {
      const old = one(`[data-live="${part.dataset.live}"]`);
      if (old && old.outerHTML !== part.outerHTML) old.replaceWith(part);
    }
    if (figures.now.at > (pulses.at(-1)?.at ?? 0)) pulses.push(figures.now);
    area.hidden = false;
    draw();
  };
  stream.addEventListener("over", () => { stream.close(); location.reload(); });
}
if (live) {
  listen();
  document.addEventListener("visibilitychange", () => { stream.close(); if (!document.hidden) listen(); });
  addEventListener("pagehide", () => stream.close());
}

// ── keys: j and k move in a list, Enter opens; on a row, j and k go to the next and the previous one, f to its flag ──
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key === "f" && one(".flagform")) { event.preventDefault(); one(".flagform [name=flag]").focus(); }
  const links = all("#rows a.row"), step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  if (links.length) links[Math.min(links.length - 1, Math.max(0, links.indexOf(document.activeElement) + step))].focus();
  else one(step > 0 ? ".steps a[rel=next]" : ".steps a[rel=prev]")?.click();
});

// ── two runs to compare ──
const button = one("button.compare"), picked = () => all("input.pick:checked");
if (button) {
  const follow = () => { button.disabled = picked().length !== 2; };
  all("input.pick").forEach((box) => box.addEventListener("change", follow));
  button.addEventListener("click", () => {
    const [b, a] = picked().map((box) => box.value);
    location.href = `/compare?a=${a}&b=${b}`;
  });
  follow();
}
