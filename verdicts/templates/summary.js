"use strict";
const STEP = 100;  // rows that are drawn at a time: the browser lays out no others
const body = document.querySelector("tbody");
const more = document.getElementById("more");
const search = document.getElementById("search");
const boxes = [...document.querySelectorAll("[name=kind]")];
const rows = [...body.rows];
const names = new Map(rows.map(row => [row, row.cells[1].textContent.toLowerCase()]));
let shown = rows, nDrawn = 0;

function draw(n) {
  const until = Math.min(shown.length, nDrawn + n);
  body.append(...shown.slice(nDrawn, until));
  nDrawn = until;
  more.hidden = nDrawn === shown.length;
}
function filter() {
  const kinds = new Set(boxes.filter(box => box.checked).map(box => box.value));
  const wanted = search.value.toLowerCase();
  shown = rows.filter(row => kinds.has(row.className) && names.get(row).includes(wanted));
  nDrawn = 0;
  body.replaceChildren();
  draw(STEP);
  document.getElementById("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} videos`;
}

// by numbers where a column has them, else by words; what has none stands last, either way
function sort(column, isDown) {
  const values = new Map(rows.map(row => {
    const text = row.cells[column]?.colSpan === 1 ? row.cells[column].textContent : "";
    return [row, column < 3 ? text : text === "" ? NaN : parseFloat(text)];
  }));
  const sign = isDown ? -1 : 1;
  rows.sort((a, b) => {
    const [x, y] = [values.get(a), values.get(b)];
    if (column < 3) return sign * compare(x, y);
    return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
  });
  filter();
}
const compare = new Intl.Collator(undefined, {numeric: true}).compare;
const heads = [...document.querySelectorAll("th")];
for (const [column, head] of heads.entries()) {
  if (column === 0) continue;  // the picture
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    // names from A on, scores from the highest one on; then the other way round
    const isDown = head.ariaSort ? head.ariaSort === "ascending" : column > 2;
    for (const other of heads) other.ariaSort = null;
    head.ariaSort = isDown ? "descending" : "ascending";
    sort(column, isDown);
  });
}
document.getElementById("filters").hidden = false;
document.getElementById("filters").addEventListener("input", filter);
document.getElementById("filters").addEventListener("submit", event => event.preventDefault());
more.addEventListener("click", () => draw(STEP));
new IntersectionObserver(entries => {
  if (entries.some(entry => entry.isIntersecting)) draw(STEP);
}, {rootMargin: "600px"}).observe(more);
addEventListener("beforeprint", () => draw(Infinity));
filter();
