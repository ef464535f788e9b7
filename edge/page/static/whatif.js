// What if the limit were another? A curve from the good parts the limit in force was fitted on, and a slider that tries a limit on
// them, on the parts the page has seen, and on the golden frames. It only shows: a limit changes by a signed file.
"use strict";

const whatif = { data: null, at: 1, fetched: 0 };
const SVG = "http://www.w3.org/2000/svg";
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

async function fetchWhatIf() {
  try {
    const answer = await fetch("/api/whatif.json");
    whatif.data = answer.ok ? await answer.json() : null;
  } catch { whatif.data = null; }
  drawWhatIf();
}

function drawWhatIf() {
  const said = byId("whatif-text"), curve = byId("whatif-curve"), data = whatif.data;
  if (!data || !data.points.length) { curve.replaceChildren(); setText(said, "Not known yet: no model is loaded."); return; }
  const width = 420, height = 150, points = data.points, least = 0.1, most = Math.max(1.3, points[points.length - 1][0] * 1.05);
  const x = (limit) => 34 + (width - 40) * Math.log(Math.max(limit, least) / least) / Math.log(most / least);
  const y = (share) => 8 + (height - 30) * (1 - Math.sqrt(share)); // roots: half a percent is seen beside all of them
  const draw = (name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const line = (index) => points.map((point) => `${x(point[0]).toFixed(1)},${y(index === 1 ? point[1] / data.n : point[index]).toFixed(1)}`);
  const nodes = [0, 0.01, 0.1, 0.5].flatMap((share) => [
    draw("line", { class: "grid", x1: 34, x2: width - 6, y1: y(share), y2: y(share) }),
    draw("text", { class: "tick", x: 30, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`)]);
  for (const limit of [0.1, 0.3, 1]) nodes.push(draw("text", { class: "tick", x: x(limit), y: height - 4, "text-anchor": "middle" }, `${limit} ×`));
  nodes.push(draw("polygon", { class: "band", points: [...line(3), ...line(2).reverse()].join(" ") }), draw("polyline", { class: "rate", points: line(1).join(" ") }));
  for (const [at, name] of [[1, "now"], [whatif.at, "tried"]]) nodes.push(draw("line", { class: name, x1: x(at), x2: x(at), y1: 8, y2: height - 22 }));
  curve.setAttribute("viewBox", `0 0 ${width} ${height}`);
  curve.replaceChildren(...nodes);

  const next = points.filter((point) => point[0] <= whatif.at).pop();
  const parts = known.order.map((seq) => known.parts.get(seq)).filter((part) => part && isNumber(part.cal));
  const live = parts.filter((part) => part.cal > whatif.at).length;
  const wrong = data.golden.filter(([, cal, verdict]) => verdict === "reject" && cal <= whatif.at).map(([name]) => name);
  const good = next ? `${next[1]} of ${data.n} good parts it was fitted on above (${percent(next[2])} to ${percent(next[3])})` : `all ${data.n} good parts above`;
  setText(said, `At ${whatif.at.toFixed(2)} × the limit: ${good}; ${live} of the last ${parts.length} parts rejected.${wrong.length ? ` Known bad pictures that would pass: ${wrong.join(", ")}.` : ""}`);
  setText(byId("whatif-top"), `The highest good parts score ${data.highest.map((cal) => cal.toFixed(2)).join(", ")} of the limit. A few odd ones can set it: onbelt limit --report shows them and what they cost in misses.`);
}

byId("whatif").addEventListener("toggle", () => { if (byId("whatif").open) fetchWhatIf(); });
byId("whatif-at").addEventListener("input", (event) => { whatif.at = Number(event.target.value) / 100; drawWhatIf(); });
setInterval(() => { if (byId("whatif").open && !document.hidden) fetchWhatIf(); }, 10000);
