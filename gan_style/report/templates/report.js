"use strict";
const rows = JSON.parse(document.getElementById("rows").textContent);
const order = document.getElementById("order");
const sheet = document.getElementById("sheet");
const higherIsBetter = ["ssim", "structure"];

function option(text, value) {
  const made = document.createElement("option");
  made.textContent = text;
  made.value = value;
  order.append(made);
}

function fill() {
  option("as given", "");
  if (!rows.length) return;
  for (const [model, numbers] of Object.entries(rows[0].numbers))
    for (const metric of Object.keys(numbers))
      option(`worst first: ${metric} of ${model}`, JSON.stringify([model, metric]));
}

function sorted() {
  if (!order.value) return rows;
  const [model, metric] = JSON.parse(order.value);
  const sign = higherIsBetter.includes(metric) ? 1 : -1;
  const value = (row) => sign * ((row.numbers[model] || {})[metric] ?? Infinity);
  return [...rows].sort((a, b) => value(a) - value(b));
}

function figure(row, label) {
  const made = document.createElement("figure");
  const picture = document.createElement("img");
  picture.src = row.pictures[label];
  picture.alt = `${label}: ${row.name}`;
  picture.loading = "lazy";
  const caption = document.createElement("figcaption");
  const numbers = Object.entries(row.numbers[label] || {}).map(([name, value]) => `${name} ${value.toPrecision(3)}`);
  caption.textContent = [numbers.length ? label : row.name, ...numbers].join(" · ");
  made.append(picture, caption);
  return made;
}

function show() {
  sheet.replaceChildren(...sorted().map((row) => {
    const line = document.createElement("div");
    line.className = "row";
    line.append(...Object.keys(row.pictures).map((label) => figure(row, label)));
    return line;
  }));
}

fill();
order.addEventListener("change", show);
show();
