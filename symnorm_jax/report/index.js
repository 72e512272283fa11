"use strict";
const body = document.querySelector("#scans tbody");
const heads = [...document.querySelectorAll("#scans th[aria-sort]")];

function value(row, column) {
  const said = row.cells[column].dataset.value;
  return said === "" || Number.isNaN(Number(said)) ? said : Number(said);
}

function compare(a, b) {
  if ((a === "") !== (b === "")) return a === "" ? 1 : -1;  // what is undefined comes last either way
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

for (const head of heads) {
  head.firstElementChild.onclick = () => {
    const down = head.ariaSort !== "descending";
    for (const other of heads) other.ariaSort = "none";
    head.ariaSort = down ? "descending" : "ascending";
    const rows = [...body.rows].map((row) => [value(row, head.cellIndex), row]);
    rows.sort(([a], [b]) => (a === "" || b === "" || !down ? compare(a, b) : -compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  };
}
