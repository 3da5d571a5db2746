// The page of an agent. It shows what /events and /history say, and nothing that it makes up: text goes into the document as
// text alone.
"use strict";

const byId = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// ---- words and figures

const number = (value) => Math.round(value).toLocaleString();

function short(value) {
  if (value < 10000) return number(value);
  return new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

function time(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

const moment = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
const since = (text) => time(Date.now() - new Date(text).getTime());
const usd = (nano) => `$${(nano / 1e9).toFixed(nano < 1e9 ? 4 : 2)}`;

// ---- pieces

// Leaves the element alone where nothing changed, so that a reader or a selection in it is not disturbed.
function fill(place, key, make) {
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.replaceChildren(...make());
}

function tiles(place, items) {
  fill(place, JSON.stringify(items), () => items.map(([value, label]) => {
    const tile = element("div", undefined, "tile");
    tile.append(element("b", value), element("span", label));
    return tile;
  }));
}

// Columns: [title, is a number]. Cells: text, or [text, class].
function table(place, columns, rows, empty) {
  fill(place, JSON.stringify([columns, rows]), () => {
    if (rows.length === 0) return [element("p", empty, "empty")];
    const made = element("table");
    const head = made.createTHead().insertRow();
    for (const [title, isNumber] of columns) {
      const cell = element("th", title, isNumber ? "number" : "");
      cell.scope = "col";
      head.append(cell);
    }
    const body = made.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      row.forEach((cell, at) => {
        const [text, className] = Array.isArray(cell) ? cell : [cell, ""];
        const made = element(at === 0 ? "th" : "td", text, `${className} ${columns[at][1] ? "number" : ""}`.trim());
        if (at === 0) made.scope = "row";
        line.append(made);
      });
    }
    return [made];
  });
}

// ---- now

const PHASES = { waiting: "waits for a slot", running: "runs", retrying: "waits for another server", ending: "ends" };

function showJobs(router) {
  const jobs = router?.jobs ?? [];
  const rate = jobs.reduce((sum, job) => sum + job.events_per_s, 0);
  tiles(byId("now-tiles"), [
    [number(jobs.length), jobs.length === 1 ? "job in flight" : "jobs in flight"],
    [number(rate), "tokens a second, about"],
    [number((router?.waiting ?? 0) + (router?.retrying ?? 0)), "waiting for a slot"],
    [number(router?.max_concurrent_total ?? 0), "slots in all"],
  ]);
  const columns = [["Model"], ["Phase"], ["Server"], ["Age", true], ["First byte", true], ["Tokens", true], ["Tokens/s", true]];
  table(byId("jobs"), columns, jobs.slice(0, 100).map((job) => [
    job.model,
    PHASES[job.phase] ?? job.phase,
    job.backend ?? "none yet",
    time(job.age_ms),
    job.first_byte_ms === null ? "–" : `${(job.first_byte_ms / 1000).toFixed(2)} s`,
    job.events ? number(job.events) : "–",
    job.events_per_s ? job.events_per_s.toFixed(1) : "–",
  ]), "No job runs.");
}

function breaker(state) {
  if (state === "closed") return ["closed", "level-good"];
  if (state === "half_open" || state === "trying") return ["on trial", "level-attention"];
  return [`open for ${time(state.open?.for_ms ?? 0)}`, "level-bad"];
}

function showServers(status) {
  const columns = [["Server"], ["State"], ["Models"], ["Ours", true], ["Others'", true], ["Free", true], ["Circuit breaker"]];
  const rows = Object.entries(status.backends).map(([name, backend]) => {
    const view = status.router?.backends?.[name];
    const ours = status.router?.jobs.filter((job) => job.backend === name).length ?? 0;
    const state = backend.up ? "up" : `down: ${backend.cause ?? "no cause known"}`;
    return [
      name,
      [backend.since ? `${state}, for ${since(backend.since)}` : state, backend.up ? "level-good" : "level-bad"],
      backend.models.slice(0, 6).join(", ") + (backend.models.length > 6 ? " …" : ""),
      view ? number(ours) : "–",
      view ? number(view.others) : "–",
      view ? number(Math.max(0, view.usable - ours)) : "–",
      view ? breaker(view.breaker) : "–",
    ];
  });
  table(byId("servers"), columns, rows, "No inference server was found.");
}

function showConnections(status) {
  const columns = [["Coordinator"], ["State"], ["Provider id"], ["Models on offer", true]];
  table(byId("connections"), columns, status.coordinators.map((one) => [
    one.addr,
    one.connected_since
      ? [`connected for ${since(one.connected_since)}`, "level-good"]
      : [`not connected${one.last_disconnect ? `: ${one.last_disconnect}` : ""}`, "level-bad"],
    one.provider_id ?? "none yet",
    number(one.models_offered),
  ]), "No coordinator was called yet.");
}

const BLAME = {
  caller: "the caller", backend: "the server", unclear: "unclear", agent: "outpost", operator: "your settings",
  coordinator: "the coordinator or the network",
};

function showProblems(problems) {
  const rows = Object.entries(problems).sort((one, other) => (one[1].last_at < other[1].last_at ? 1 : -1));
  fill(byId("problems"), JSON.stringify(rows), () => {
    if (rows.length === 0) return [element("li", "None.", "empty")];
    return rows.map(([kind, problem]) => {
      const item = element("li");
      const times = problem.count === 1 ? "once" : `${number(problem.count)} times`;
      item.append(
        element("strong", kind), " ",
        element("span", `${times}, last ${moment(problem.last_at)}, to blame: ${BLAME[problem.blame] ?? problem.blame}`, "facts"),
      );
      if (problem.details) item.append(element("p", problem.details));
      item.append(element("p", problem.advice));
      return item;
    });
  });
}

// ---- switches

// `outpost open` passes the token in the fragment, which no server sees. It stays in this tab, and out of its address.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  window.history.replaceState(null, "", location.pathname);
}
const ORDERS = { hour: { pause: { seconds: 3600 } }, pause: { pause: { seconds: null } }, resume: "resume" };

function showSwitches(paused) {
  byId("switches").hidden = !sessionStorage.getItem("token");
  for (const button of document.querySelectorAll("[data-order]")) {
    button.hidden = (button.dataset.order === "resume") !== paused;
  }
}

for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", async () => {
    const headers = { "content-type": "application/json", authorization: `Bearer ${sessionStorage.getItem("token")}` };
    const body = JSON.stringify(ORDERS[button.dataset.order]);
    try {
      const answer = await fetch("orders", { method: "POST", headers, body });
      byId("refused").textContent = answer.ok ? "" : (await answer.text()).trim();
    } catch {
      byId("refused").textContent = "The agent does not answer.";
    }
  });
}

function show(status) {
  showSwitches(Boolean(status.paused));
  byId("version").textContent = status.version;
  byId("state").dataset.level = status.state.level;
  // Changed only where it differs: a screen reader says it anew.
  if (byId("sentence").textContent !== status.state.text) byId("sentence").textContent = status.state.text;
  byId("advice").textContent = status.state.advice ?? "";
  byId("advice").hidden = !status.state.advice;
  document.title = `${{ good: "●", attention: "▲", bad: "■" }[status.state.level] ?? ""} outpost`;
  showJobs(status.router);
  showServers(status);
  showConnections(status);
  showProblems(status.problems);
}

function listen() {
  const events = new EventSource("events");
  events.onmessage = (event) => {
    byId("live").hidden = true;
    show(JSON.parse(event.data));
  };
  events.onerror = () => {
    byId("live").hidden = false;
    byId("live").textContent = "The agent does not answer. The page goes on when it does.";
    byId("state").dataset.level = "bad";
    // A browser gives up after some answers, such as a refusal.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

// ---- past

let span = "day";
let history = null;
const charts = {};

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A figure at an axis: as many digits as small ones need.
const tick = (value) => (value < 10 && value % 1 !== 0 ? value.toFixed(value < 1 ? 2 : 1) : short(value));

// The points between two gaps, through which no line goes.
function lonely(plot, series) {
  const values = plot.data[series];
  const missing = (at) => values[at] === null || values[at] === undefined;
  return values.flatMap((_, at) => (!missing(at) && missing(at - 1) && missing(at + 1) ? [at] : []));
}

function chart(id, label, xs, series) {
  const place = byId(id);
  charts[id]?.destroy();
  place.replaceChildren();
  const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
  const options = {
    width: Math.max(220, place.clientWidth),
    height: 170,
    cursor: { drag: { x: false, y: false } },
    scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [axis, { ...axis, size: 48, values: (_, ticks) => ticks.map(tick) }],
    series: [
      {},
      ...series.map(([name, , stroke, paint]) => ({
        label: name, stroke: color(stroke), width: 2, spanGaps: false, points: { show: true, size: 4, filter: lonely },
        fill: paint ? `${color(stroke)}22` : undefined,
      })),
    ],
  };
  charts[id] = new uPlot(options, [xs, ...series.map(([, values]) => values)], place);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", label);
}

function showHistory() {
  if (!history) return;
  const { bucket_s, buckets, models, outcomes, total } = history;
  const word = span === "day" ? "24 hours" : "30 days";
  tiles(byId("past-tiles"), [
    [short(total.done), "jobs done"],
    [short(total.failed + total.cancelled), "failed or cancelled"],
    [short(total.input_tokens), "prompt tokens"],
    [short(total.output_tokens), "generated tokens"],
    [usd(total.earned_nano), "earned, at your prices"],
  ]);
  const xs = buckets.map((bucket) => bucket.start_s);
  const seconds = (ms) => (ms === null ? null : ms / 1000);
  chart("chart-jobs", `Jobs in the last ${word}: ${total.done} done, ${total.failed} failed.`, xs, [
    ["done", buckets.map((bucket) => bucket.done), "--accent", true],
    ["failed", buckets.map((bucket) => bucket.failed), "--bad", false],
  ]);
  chart("chart-tokens", `Generated tokens a second in the last ${word}: ${total.output_tokens} tokens in all.`, xs, [
    ["tokens/s", buckets.map((bucket) => bucket.output_tokens / bucket_s), "--accent", true],
  ]);
  chart("chart-first", `Time to the first byte in the last ${word}, median and 95th percentile.`, xs, [
    ["median", buckets.map((bucket) => seconds(bucket.first_byte_p50_ms)), "--accent", false],
    ["95 %", buckets.map((bucket) => seconds(bucket.first_byte_p95_ms)), "--second", false],
  ]);
  const columns = [["Model"], ["Jobs done", true], ["Prompt tokens", true], ["of them cached", true], ["Generated tokens", true], ["Earned", true]];
  table(byId("models"), columns, models.map((row) => [
    row.group, number(row.done), number(row.input_tokens), number(row.cached_tokens), number(row.output_tokens), usd(row.earned_nano),
  ]), "No job ended in this time.");
  table(byId("outcomes"), [["Outcome"], ["Jobs", true]], outcomes.map((row) => [row.group.replaceAll("_", " "), number(row.jobs)]),
    "No job ended in this time.");
}

async function fetchHistory() {
  try {
    const response = await fetch(`history?span=${span}`);
    const body = await response.json();
    history = response.ok ? body : null;
    byId("past-note").textContent = response.ok ? "" : body.error;
  } catch {
    // The agent does not answer: the header says so.
    return;
  }
  byId("past-note").hidden = history !== null;
  byId("past-body").hidden = history === null;
  showHistory();
}

for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => {
    span = button.dataset.span;
    for (const one of document.querySelectorAll("[data-span]")) one.setAttribute("aria-pressed", String(one === button));
    fetchHistory();
  });
}

let resized = 0;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(showHistory, 150);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showHistory);

listen();
fetchHistory();
setInterval(fetchHistory, 30000);
