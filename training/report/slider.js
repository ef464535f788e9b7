// Moves the limit: the lines in the charts, the colours of the bars, and the sentence below. The scores come with the page.
const scores = JSON.parse(document.getElementById("scores").textContent);
const slider = document.getElementById("limit"), said = document.getElementById("said");
const share = (count, all) => `${count} of ${all} (${(100 * count / all).toFixed(1)} %)`;
function place() {
  const limit = Number(slider.value);
  for (const line of document.querySelectorAll("[data-follows]")) {
    const { left, right, low, high } = line.closest("svg").dataset;
    line.setAttribute("transform", `translate(${(limit - 1) * (right - left) / (high - low)} 0)`);
  }
  for (const bar of document.querySelectorAll("rect[data-low]"))
    bar.classList.toggle("wrong", (Number(bar.dataset.low) >= limit - 1e-6) === (bar.dataset.kind === "good"));
  const parts = Object.entries(scores).map(([name, values]) => {
    const above = values.filter(score => score > limit).length;
    const line = document.createElement("span");
    line.append(name === "good" ? "good parts rejected: " : `${name} missed: `);
    const figure = line.appendChild(document.createElement("b"));
    figure.textContent = share(name === "good" ? above : values.length - above, values.length);
    return line;
  });
  said.replaceChildren(`Limit at ${limit.toFixed(2)} of the model's: `, ...parts.flatMap((line, i) => i ? ["; ", line] : [line]));
}
slider.addEventListener("input", place);
document.getElementById("back").addEventListener("click", () => { slider.value = 1; place(); });
place();
