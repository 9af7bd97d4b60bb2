"use strict";
const table = document.getElementById("runs");
const heads = [...table.tHead.rows[0].cells];
const body = table.tBodies[0];

function key(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
}

/* Numbers before texts, and a cell without anything last, whichever way it is sorted. */
function compare(a, b, sign) {
  if ((a === "-") !== (b === "-")) return a === "-" ? 1 : -1;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

function sortBy(column) {
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].map((row) => [key(row, column), row]);
  rows.sort((a, b) => compare(a[0], b[0], down ? -1 : 1));
  body.append(...rows.map(([, row]) => row));
}

function light(run) {
  document.querySelectorAll("svg").forEach((chart) => chart.classList.toggle("lighting", run !== undefined));
  document.querySelectorAll("[data-run]").forEach((one) => one.classList.toggle("lit", one.dataset.run === run));
}

heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column)));
document.addEventListener("pointerover", (event) => {
  const found = event.target.closest("[data-run]");
  light(found ? found.dataset.run : undefined);
});
