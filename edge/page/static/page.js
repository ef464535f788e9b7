// The page of the box. One stream (/live) brings numbers, at most ten messages a second; pictures are fetched for the part that
// is shown, one at a time, never faster than the box says it can encode them. What comes from the box is put in as text only.
// One file, above the usual length, because the page is served without a build step and holds no module of its own use.
"use strict";

const STRIP = 300; // parts in the chart
const LOST_MS = 3500; // the box speaks at least once a second
const HOLD_MS = 1500; // a part that did not pass stays on the screen so long: readable, and short against a person's walk
const IDLE_S = 5; // after this without a part the page says so
const WORDS = { pass: "PASS", reject: "REJECT", invalid: "INVALID", uncertain: "UNCERTAIN", none: "NO PART" };
const DID = { pass: "opened", reject: "kept closed", hold: "held the part", reinspect: "sent it to be looked at", other: "did something unknown" };

const byId = (id) => document.getElementById(id);
const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const shapeOf = (verdict) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#shape-${verdict}`);
  svg.append(use);
  return svg;
};
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const fixed = (value, digits) => (isNumber(value) ? value.toFixed(digits) : "–");
const times = (value) => (isNumber(value) ? `${value < 9.95 ? value.toFixed(2) : value < 1000 ? value.toFixed(0) : value.toExponential(1)} ×` : "–");
const count = (value) => (isNumber(value) ? value.toLocaleString("en").replaceAll(",", " ") : "–");
const millis = (value) => (isNumber(value) ? value.toFixed(Math.abs(value) < 9.95 ? 1 : 0) : "–");

// ---------------------------------------------------------------- what is known
const known = { parts: new Map(), order: [], rejects: [], kept: new Set(), words: {}, whys: {}, state: {}, last: null, run: "" };
const shown = { seq: null, at: 0, fixedTo: null, loading: false, next: 0, everyMs: 100 };
const wish = { heat: true, opacity: 50, boxes: true, hold: true, theme: "auto" };

// ---------------------------------------------------------------- preferences
try { Object.assign(wish, JSON.parse(localStorage.getItem("onbelt") || "{}")); } catch { /* a kiosk may forbid storage: defaults then */ }
const keepWishes = () => { try { localStorage.setItem("onbelt", JSON.stringify(wish)); } catch { /* as above */ } };
const dark = matchMedia("(prefers-color-scheme: dark)");
function applyWishes() {
  document.documentElement.dataset.theme = wish.theme === "auto" ? (dark.matches ? "dark" : "light") : wish.theme;
  setText(byId("theme"), `◐ ${wish.theme}`);
  for (const [id, on] of [["heat-on", wish.heat], ["boxes-on", wish.boxes], ["hold-on", wish.hold]]) byId(id).setAttribute("aria-pressed", String(on));
  byId("opacity").value = String(wish.opacity);
  byId("heat").style.opacity = String(wish.opacity / 100);
  byId("heat").hidden = byId("legend").hidden = !wish.heat;
  byId("boxes").toggleAttribute("hidden", !wish.boxes);
  drawChart();
}
const toggle = (key) => { wish[key] = !wish[key]; keepWishes(); applyWishes(); };

// ---------------------------------------------------------------- the stream
let stream = null, heardAt = 0, lostSince = null, waitMs = 500;
function connect() {
  if (stream) stream.close();
  stream = new EventSource("/live");
  heardAt = performance.now();
  stream.onmessage = (event) => { waitMs = 500; heardAt = performance.now(); found(); receive(JSON.parse(event.data)); };
  // The browser's own retry gives up on some answers; ours never does, and says so meanwhile.
  stream.onerror = () => { stream.close(); stream = null; lose(); setTimeout(connectIfSeen, waitMs); waitMs = Math.min(waitMs * 1.5, 4000); };
}
const connectIfSeen = () => { if (!document.hidden && !stream) connect(); };
function lose() {
  if (lostSince === null) lostSince = new Date();
  document.body.classList.add("is-lost");
  byId("lost").hidden = false;
  setText(byId("lost-text"), `Nothing heard since ${lostSince.toLocaleTimeString("en-GB")}. What you see is old. The gate rejects parts without a verdict; the page reconnects by itself.`);
  setText(byId("age"), "not connected");
  document.title = "⚠ Connection lost – Onbelt";
}
function found() {
  if (lostSince === null && document.title === "Onbelt") return;
  lostSince = null;
  document.body.classList.remove("is-lost");
  byId("lost").hidden = true;
  document.title = "Onbelt";
}
setInterval(() => { if (!document.hidden && performance.now() - heardAt > LOST_MS) { lose(); if (stream) { stream.close(); stream = null; setTimeout(connectIfSeen, waitMs); } } }, 500);
// A page nobody looks at costs the box nothing.
document.addEventListener("visibilitychange", () => { if (document.hidden) { if (stream) stream.close(); stream = null; } else { heardAt = performance.now(); connectIfSeen(); } });

function receive(message) {
  const live = message.live;
  shown.everyMs = message.every_ms;
  if (live.reset) {
    known.parts.clear(); known.order = [];
    shown.loading = false; // a picture asked for before the connection broke may never come
    if (known.run && known.run !== live.run) { shown.fixedTo = null; shown.seq = null; }
    known.run = live.run;
    known.words = message.words || known.words;
    known.whys = message.whys || known.whys;
  }
  for (const part of live.parts) {
    if (!known.parts.has(part.seq)) known.order.push(part.seq);
    known.parts.set(part.seq, part);
  }
  if (live.reset) known.order.sort((a, b) => a - b);
  known.rejects = live.rejects;
  known.kept = new Set(live.kept);
  // The chart's parts, the listed rejects, the part on the screen, and nothing else stay in memory.
  if (known.order.length > STRIP + 50) {
    known.order = known.order.slice(-STRIP);
    const keep = new Set([...known.order, ...known.rejects, shown.seq, shown.fixedTo]);
    for (const seq of known.parts.keys()) if (!keep.has(seq)) known.parts.delete(seq);
  }
  known.last = live;
  known.state = live.state || {};
  if (shown.seq !== null) describe(known.parts.get(shown.seq), false);
  counters(live); station(known.state, live); drawRejects(); drawChart(); follow();
}

// ---------------------------------------------------------------- which part is shown
const stripSeqs = () => known.order.slice(-STRIP);
function follow() {
  if (shown.fixedTo !== null || shown.loading || performance.now() < shown.next || known.order.length === 0) return;
  const fresh = known.order.filter((seq) => shown.seq === null || seq > shown.seq);
  if (fresh.length === 0) return;
  const stopped = fresh.filter((seq) => known.parts.get(seq)?.verdict !== "pass");
  const now = known.parts.get(shown.seq);
  const held = wish.hold && now && now.verdict !== "pass" && performance.now() - shown.at < HOLD_MS;
  if (held && stopped.length === 0) return;
  // Of several new parts the one that did not pass is shown: it is what a person must not miss.
  present(stopped.length && wish.hold ? stopped[stopped.length - 1] : fresh[fresh.length - 1]);
}
function fix(seq) {
  if (seq === null) { shown.fixedTo = null; setLive(); follow(); return; }
  if (!known.parts.has(seq)) return;
  shown.fixedTo = seq; setLive(); present(seq);
}
function setLive() {
  byId("live").setAttribute("aria-pressed", String(shown.fixedTo === null));
  setText(byId("live"), shown.fixedTo === null ? "Live" : "Back to live");
  drawRejects(); drawChart();
}
function step(by) {
  const seqs = stripSeqs();
  const at = seqs.indexOf(shown.fixedTo ?? shown.seq);
  const to = at < 0 ? seqs.length - 1 : at + by;
  if (to >= 0 && to < seqs.length) fix(seqs[to]);
}
const address = (kind, seq) => (kind === "heat" ? `/heat/${seq}.png?run=${known.run}` : `/picture/${seq}.jpg?run=${known.run}`);
async function fetched(url) {
  const image = new Image();
  image.src = url;
  try { await image.decode(); return image; } catch { return null; }
}
let asked = 0;
async function present(seq) {
  const part = known.parts.get(seq);
  if (!part) return;
  const mine = ++asked;
  shown.loading = true;
  // Picture, map, verdict and numbers change together: what stands beside the picture is always about the picture.
  const [frame, heat] = await Promise.all(["pic", "heat"].map((kind) => (part[kind] && known.kept.has(seq) ? fetched(address(kind, seq)) : null)));
  if (mine !== asked) return;
  shown.loading = false;
  shown.seq = seq; shown.at = performance.now(); shown.next = shown.at + shown.everyMs;
  const stage = byId("stage");
  if (frame) {
    stage.style.setProperty("--ratio", String(frame.naturalWidth / frame.naturalHeight));
    byId("frame").src = frame.src;
    byId("frame").alt = `Picture of part ${seq}`;
  } else { byId("frame").removeAttribute("src"); byId("frame").alt = ""; }
  if (frame && heat) byId("heat").src = heat.src; else byId("heat").removeAttribute("src");
  drawBoxes(frame ? part.regions : [], frame);
  byId("nopic").hidden = Boolean(frame);
  setText(byId("nopic"), part.pic ? "The picture of this part is no longer kept" : "This part has no picture");
  describe(known.parts.get(seq) || part, true);
  drawChart();
  if (shown.fixedTo === null) follow();
}

function describe(part, isNew) {
  if (!part) return;
  const box = byId("verdict");
  if (isNew) {
    box.className = `verdict ${part.verdict}`;
    byId("shape").setAttribute("href", `#shape-${part.verdict}`);
    setText(byId("word"), WORDS[part.verdict]);
    const lines = part.reasons.map((code) => make("span", "", sentence(known.words[code] || code)));
    byId("reason").replaceChildren(...(lines.length ? lines : [make("span", "", part.verdict === "pass" ? "Looks like the good parts it was trained on" : "No reason given")]));
    setText(byId("score"), isNumber(part.cal) ? times(part.cal) : "not judged");
    byId("score").nextElementSibling.hidden = !isNumber(part.cal);
    setText(byId("pvalue"), isNumber(part.p) ? part.p < 0.0001 ? "p < 0.0001" : `p = ${+part.p.toPrecision(2)}` : "");
    byId("pvalue").title = "Share of good parts at least as unusual as this one";
    [part.st, part.ae, part.global].forEach((value, index) => {
      const row = byId("branches").children[index];
      row.classList.toggle("over", isNumber(value) && value > 1);
      row.querySelector("i").style.width = `${isNumber(value) ? Math.min(Math.max(value, 0) / 2, 1) * 100 : 0}%`;
      setText(row.lastElementChild, isNumber(value) ? times(value) : "–");
    });
    setText(byId("part"), part.part || "no number");
    setText(byId("seq"), `verdict ${count(part.seq)}`);
    setText(byId("when"), part.trig_us > 0 ? stamp(part.trig_us) : "–");
    if (part.verdict !== "pass") setText(byId("say"), `Part ${part.seq}: ${WORDS[part.verdict]}`);
  }
  setText(byId("did"), gateLine(part.gate));
  const held = shown.fixedTo === null && wish.hold && part.verdict !== "pass" && known.order[known.order.length - 1] !== part.seq;
  const idle = known.last && known.last.idle_s > IDLE_S && shown.fixedTo === null;
  byId("tag").hidden = shown.fixedTo === null && !held && !idle;
  setText(byId("tag"), shown.fixedTo !== null ? `chosen part ${count(part.seq)} – not live` : idle ? `last part, ${ago(known.last.idle_s)} ago` : "held a moment");
}
const ago = (seconds) => (seconds < 120 ? `${Math.floor(seconds)} s` : seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`);
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const stamp = (us) => { const date = new Date(us / 1000); return `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`; };
function gateLine(gate) {
  if (!gate) return "no answer yet";
  const why = gate.why === "verdict" ? "" : `: ${known.whys[gate.why] || gate.why}`;
  const spare = isNumber(gate.slack_ms) ? `, ${millis(Math.abs(gate.slack_ms))} ms ${gate.slack_ms < 0 ? "too late" : "to spare"}` : "";
  return `${gate.gate ? `${gate.gate} ` : ""}${DID[gate.decision] || gate.decision}${why}${spare}${gate.confirmed === false ? "; the sensor did not see it" : ""}`;
}
function drawBoxes(regions, frame) {
  const svg = byId("boxes");
  if (!frame) { svg.replaceChildren(); return; }
  const width = 1000, height = (1000 * frame.naturalHeight) / frame.naturalWidth;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const nodes = [];
  for (const region of regions) {
    const box = document.createElementNS(svg.namespaceURI, "rect");
    for (const [key, value] of [["x", region.x * width], ["y", region.y * height], ["width", region.w * width], ["height", region.h * height], ["rx", 6]]) box.setAttribute(key, String(value));
    const label = document.createElementNS(svg.namespaceURI, "text");
    label.setAttribute("x", String(Math.min(region.x * width, width - 190)));
    label.setAttribute("y", String(region.y * height > 44 ? region.y * height - 12 : Math.min((region.y + region.h) * height + 38, height - 8)));
    label.setAttribute("font-size", "34");
    label.textContent = times(region.peak);
    nodes.push(box, label);
  }
  svg.replaceChildren(...nodes);
}

// ---------------------------------------------------------------- counts, gate, times, station
function counters(live) {
  let all = 0;
  for (const [verdict, n] of Object.entries(live.counts)) { all += n; setText(byId(`n-${verdict}`), count(n)); }
  setText(byId("n-all"), count(all));
  setText(byId("n-rate"), fixed(live.rate, 1));
  const idle = live.idle_s;
  setText(byId("age"), idle === null ? "no part yet" : idle > IDLE_S ? `no part for ${ago(idle)}` : "live");
  const rows = [live.latency.infer, live.latency.verdict, live.latency.slack, live.latency.at_gate];
  rows.forEach((row, index) => {
    const cells = byId("times").rows[index].cells;
    [row.p50, row.p99, row.p999, index >= 2 ? row.min : row.max].forEach((value, at) => {
      setText(cells[at + 1], millis(value));
      cells[at + 1].classList.toggle("bad", index >= 2 && isNumber(value) && value < 0);
    });
  });
  let open = 0, closed = 0;
  const reasons = [];
  for (const [key, n] of Object.entries(live.gate)) {
    const [decision, why] = key.split("/");
    if (decision === "pass") open += n; else closed += n;
    if (decision !== "pass" || why !== "verdict") reasons.push([decision, why, n]);
  }
  setText(byId("g-open"), count(open)); setText(byId("g-closed"), count(closed));
  const lines = reasons.sort((a, b) => b[2] - a[2]).slice(0, 6).map(([decision, why, n]) => {
    const line = make("li", why === "verdict" ? "" : "bad");
    line.append(make("span", "", `${decision === "pass" ? "opened: " : decision === "hold" ? "held: " : ""}${known.whys[why] || why}`), make("span", "", count(n)));
    return line;
  });
  if (open + closed === 0) lines.push(make("li", "quiet", all > 0 ? "No gate has answered" : "No part yet"));
  byId("g-why").replaceChildren(...lines);
}
let stateSeen = "";
function station(state, live) {
  const key = JSON.stringify(state);
  if (key === stateSeen) return;
  stateSeen = key;
  const chip = byId("armed");
  chip.className = `chip ${state.armed === true ? "yes" : state.armed === false ? "no" : "unknown"}`;
  setText(chip.lastElementChild, state.armed === true ? "Armed" : state.armed === false ? "NOT ARMED" : "State unknown");
  const reasons = Array.isArray(state.reasons) ? state.reasons.map(String) : [];
  byId("unarmed").hidden = state.armed !== false;
  setText(byId("unarmed-why"), sentence(reasons.join("; ") || "no reason was given"));
  byId("warned").hidden = state.armed !== true || reasons.length === 0;
  byId("warned-why").replaceChildren(...reasons.map((reason) => make("span", "", sentence(reason))));
  setText(byId("deadline"), isNumber(state.gate_deadline_ms) ? `a verdict counts for ${millis(state.gate_deadline_ms)} ms` : "");
  setText(byId("station"), [state.line, state.station].filter(Boolean).join(" / ") + (state.simulated ? " (simulated camera)" : ""));
  const model = state.model || {}, limit = model.limit || {};
  const promise = !isNumber(limit.false_reject) ? "" : `at most ${+(limit.false_reject * 100).toPrecision(3)}\u00a0% of good parts rejected, ` +
    (limit.kind === "guarantee" ? `guaranteed with ${+(limit.confidence * 100).toPrecision(4)}\u00a0% confidence` : "estimated, not guaranteed") + (isNumber(limit.n) ? ` (${count(limit.n)} good parts)` : "");
  const facts = [
    ["Name", [model.name, isNumber(model.version) || typeof model.version === "string" ? `version ${model.version}` : ""].filter(Boolean).join(", ")],
    ["Kind", [model.model, model.precision].filter(Boolean).join(", ")],
    ["Inspected", isNumber(model.inspected) && model.inspected < 1 ? `${Math.round(model.inspected * 100)}\u00a0% of the picture; nothing beside it is seen` : ""],
    ["Limit", [isNumber(limit.raw) ? `${+limit.raw.toPrecision(4)}` : "", promise].filter(Boolean).join(": ")],
    ["Engine", model.engine], ["Self-check", model.check], ["Camera", state.camera], ["Broker", state.broker], ["Boot", state.boot],
  ].filter(([, value]) => value !== undefined && value !== null && value !== "");
  byId("model").replaceChildren(...(facts.length ? facts : [["Name", "not told yet"]]).map(([name, value]) => {
    const row = make("div");
    row.append(make("dt", "", name), make("dd", "", typeof value === "object" ? JSON.stringify(value) : String(value)));
    return row;
  }));
}

// ---------------------------------------------------------------- rejects
let rejectsKey = "", rejectsAt = 0, rejectsTimer = 0;
function drawRejects() {
  const key = `${known.run} ${known.rejects.join(" ")} ${shown.fixedTo}`;
  if (key === rejectsKey) return;
  // In a storm of rejects the row changes twice a second at most: it is there to be clicked. A click itself is shown at once.
  const chosen = key.split(" ").pop() !== rejectsKey.split(" ").pop();
  const wait = rejectsAt + 500 - performance.now();
  clearTimeout(rejectsTimer);
  if (!chosen && wait > 0) { rejectsTimer = setTimeout(drawRejects, wait); return; }
  rejectsKey = key; rejectsAt = performance.now();
  const list = byId("rejects");
  const old = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const focused = document.activeElement?.closest?.("#rejects li")?.dataset.key;
  const items = [...known.rejects].reverse().map((seq) => {
    const part = known.parts.get(seq);
    const id = `${known.run}/${seq}`;
    const item = old.get(id) || (part && thumb(seq, part, id));
    item?.firstElementChild.setAttribute("aria-pressed", String(seq === shown.fixedTo));
    return item;
  }).filter(Boolean);
  list.replaceChildren(...items);
  byId("norejects").hidden = items.length > 0;
  if (focused) items.find((item) => item.dataset.key === focused)?.firstElementChild.focus({ preventScroll: true });
}
function thumb(seq, part, id) {
  const item = make("li"), button = make("button"), view = make("span", "thumb");
  item.dataset.key = id;
  button.type = "button";
  for (const kind of ["pic", "heat"]) {
    if (!part[kind] || !known.kept.has(seq)) continue;
    const image = make("img");
    image.alt = "";
    image.addEventListener("error", () => image.classList.add("gone"));
    image.src = address(kind, seq);
    view.append(image);
  }
  const cause = part.reasons[0] || part.verdict;
  const caption = make("span", "cap");
  caption.append(make("b", "", isNumber(part.cal) ? times(part.cal) : "–"), cause);
  button.append(view, caption);
  button.title = `Part ${seq}, ${stamp(part.trig_us)}: ${WORDS[part.verdict]}, ${known.words[cause] || cause}`;
  button.setAttribute("aria-label", button.title);
  button.addEventListener("click", () => fix(shown.fixedTo === seq ? null : seq));
  item.append(button);
  return item;
}

// ---------------------------------------------------------------- chart
// Up to the limit the scale is linear, above it logarithmic with the same slope at 1: usual parts use more than half of the
// height, a part at a hundred times the limit still has its place.
const TOP = 100, BEND = 0.22, FULL = 1 + BEND * Math.log(TOP);
const rise = (value) => (value <= 1 ? Math.max(value, 0) : 1 + BEND * Math.log(Math.min(value, TOP))) / FULL;
const TICKS = [[0.5, "½"], [1, "limit"], [5, "5 ×"], [25, "25 ×"], [100, "100 ×"]];
const chart = byId("chart");
let plot = { left: 0, slot: 1, seqs: [] };
function drawChart() {
  const width = chart.clientWidth, height = chart.clientHeight, scale = Math.min(devicePixelRatio || 1, 2);
  if (!width || !height) return;
  if (chart.width !== Math.round(width * scale) || chart.height !== Math.round(height * scale)) { chart.width = Math.round(width * scale); chart.height = Math.round(height * scale); }
  const pen = chart.getContext("2d"), css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  const [ink, dim, line, bar, limit, accent] = ["--ink", "--dim", "--line", "--bar", "--limit", "--accent"].map(colour);
  const marks = Object.fromEntries(["pass", "reject", "invalid", "uncertain"].map((name) => [name, colour(`--mark-${name}`)]));
  const left = 46, right = width - 8, top = 8, bottom = height - 10;
  const y = (value) => bottom - (bottom - top) * rise(value);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `13px ${getComputedStyle(document.body).fontFamily}`;
  pen.textAlign = "right"; pen.textBaseline = "middle"; pen.lineWidth = 1;
  for (const [value, name] of TICKS) {
    pen.fillStyle = value === 1 ? ink : dim;
    pen.fillText(name, left - 8, y(value));
    pen.strokeStyle = line;
    pen.beginPath(); pen.moveTo(left, Math.round(y(value)) + 0.5); pen.lineTo(right, Math.round(y(value)) + 0.5); pen.stroke();
  }
  const room = Math.min(STRIP, Math.max(60, Math.floor((right - left) / 3)));
  const seqs = known.order.slice(-room), slot = (right - left) / room, first = right - seqs.length * slot;
  plot = { left: first, slot, seqs };
  const shownSeq = shown.fixedTo ?? shown.seq;
  seqs.forEach((seq, index) => {
    const part = known.parts.get(seq);
    if (!part) return;
    const x = first + index * slot, middle = x + slot / 2;
    if (seq === shownSeq) { pen.fillStyle = accent; pen.globalAlpha = 0.35; pen.fillRect(middle - Math.max(slot, 7) / 2, top, Math.max(slot, 7), bottom - top); pen.globalAlpha = 1; }
    if (isNumber(part.cal)) {
      const at = y(part.cal);
      pen.fillStyle = part.verdict === "pass" ? bar : marks[part.verdict];
      pen.fillRect(x + slot * 0.15, at, Math.max(slot * 0.7, 1), bottom - at);
      if (part.verdict === "pass") { pen.fillStyle = marks.pass; pen.fillRect(x + slot * 0.15, at - 1, Math.max(slot * 0.7, 1), 2.5); }
    }
    if (part.verdict !== "pass") mark(pen, part.verdict, middle, isNumber(part.cal) ? y(part.cal) : y(1) + 16, marks[part.verdict], part.cal > TOP);
  });
  pen.strokeStyle = limit; pen.lineWidth = 1.5; pen.setLineDash([7, 4]);
  pen.beginPath(); pen.moveTo(left, y(1)); pen.lineTo(right, y(1)); pen.stroke(); pen.setLineDash([]);
}
function mark(pen, verdict, x, y, colour, beyond) {
  const r = 5;
  pen.strokeStyle = pen.fillStyle = colour; pen.lineWidth = 2.2;
  pen.beginPath();
  if (verdict === "reject") { pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x + r, y - r); pen.lineTo(x - r, y + r); pen.stroke(); }
  else if (verdict === "invalid") { pen.moveTo(x, y - r); pen.lineTo(x + r, y + r); pen.lineTo(x - r, y + r); pen.closePath(); pen.fill(); }
  else { pen.moveTo(x, y - r - 1); pen.lineTo(x + r + 1, y); pen.lineTo(x, y + r + 1); pen.lineTo(x - r - 1, y); pen.closePath(); pen.stroke(); }
  if (beyond) { pen.beginPath(); pen.moveTo(x - 3, y - 5); pen.lineTo(x, y - 9); pen.lineTo(x + 3, y - 5); pen.stroke(); }
}
const under = (event) => plot.seqs[Math.floor((event.clientX - chart.getBoundingClientRect().left - plot.left) / plot.slot)];
chart.addEventListener("pointermove", (event) => {
  const part = known.parts.get(under(event));
  setText(byId("hover"), part ? `part ${count(part.seq)}: ${WORDS[part.verdict]}, ${isNumber(part.cal) ? `${times(part.cal)} limit` : "not judged"}` : "last parts, newest at the right");
});
chart.addEventListener("pointerleave", () => setText(byId("hover"), "last parts, newest at the right"));
chart.addEventListener("click", (event) => { const seq = under(event); if (seq !== undefined) fix(seq); });
new ResizeObserver(drawChart).observe(chart);

// ---------------------------------------------------------------- controls
const themes = ["auto", "light", "dark"];
const nextTheme = () => { wish.theme = themes[(themes.indexOf(wish.theme) + 1) % 3]; keepWishes(); applyWishes(); };
const actions = { h: () => toggle("heat"), b: () => toggle("boxes"), f: () => toggle("hold"), l: () => fix(null), escape: () => fix(null), t: nextTheme, arrowleft: () => step(-1), arrowright: () => step(1) };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "INPUT") return;
  const action = actions[event.key.toLowerCase()];
  if (action) { event.preventDefault(); action(); }
});
for (const [id, action] of [["heat-on", actions.h], ["boxes-on", actions.b], ["hold-on", actions.f], ["live", actions.l], ["prev", actions.arrowleft], ["next", actions.arrowright], ["theme", nextTheme]]) byId(id).addEventListener("click", action);
byId("opacity").addEventListener("input", (event) => { wish.opacity = Number(event.target.value); keepWishes(); applyWishes(); });
dark.addEventListener("change", applyWishes);
applyWishes();
connectIfSeen();
