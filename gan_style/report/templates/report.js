"use strict";

/* Tables are sorted by a click on a column: numbers before texts, and cells without anything last either way. */
for (const table of document.querySelectorAll("table.numbers")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  const compare = (a, b, sign) => {
    if ((a === "-") !== (b === "-")) return a === "-" ? 1 : -1;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort((a, b) => compare(a[0], b[0], down ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  }));
}

/* Pointing at a run highlights it in the table and in all charts. */
document.addEventListener("pointerover", (event) => {
  const run = event.target.closest("[data-run]")?.dataset.run;
  document.querySelectorAll("svg").forEach((chart) => chart.classList.toggle("lighting", run !== undefined));
  document.querySelectorAll("[data-run]").forEach((one) => one.classList.toggle("lit", one.dataset.run === run));
});

/* The sheet of an evaluation can be ordered by how badly a model did. */
document.getElementById("order")?.addEventListener("change", (event) => {
  const sheet = document.querySelector(".sheet");
  const { model, metric, sign } = event.target.selectedOptions[0].dataset;
  const badness = (row) => {
    const figure = [...row.querySelectorAll("figure")].find((one) => one.dataset.label === model);
    return sign * (JSON.parse(figure?.dataset.numbers ?? "{}")[metric] ?? -sign * Infinity);
  };
  sheet.append(...(model === undefined ? rows : [...rows].sort((a, b) => badness(b) - badness(a))));
});
const rows = [...document.querySelectorAll(".sheet > .row")];
