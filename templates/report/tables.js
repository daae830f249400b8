
"use strict";
// Tables of more than one row sort by each of their columns; long ones of results can be filtered. Without this script
// they are complete, in the order in which they were written.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  if (rows.length > 1) [...table.tHead.rows[0].cells].forEach((head, column) => sortable(table, rows, head, column));
  if (rows.length > 8 && table.className === "filtered") filterable(table, rows);
}

function sortable(table, rows, head, column) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row, place) => ({ row, place, key: key(row.cells[column]) }));
    keyed.sort((a, b) => compared(a.key, b.key, down) || a.place - b.place);
    table.tBodies[0].append(...keyed.map((one) => one.row));
  });
}

// The number of a cell, else its text; nothing of one that is empty.
function key(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  return cell.textContent === "–" ? null : cell.textContent;
}

const words = new Intl.Collator("en", { numeric: true });

// What is empty comes last in both directions, and numbers come before texts.
function compared(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  const order = typeof a === "number" ? a - b : words.compare(a, b);
  return down ? -order : order;
}

function filterable(table, rows) {
  const tools = document.createElement("div");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  tools.className = "tools";
  input.type = "search";
  input.id = count.htmlFor = `filter-${document.querySelectorAll(".tools").length + 1}`;
  label.htmlFor = input.id;
  label.textContent = "Show rows with";
  input.setAttribute("aria-label", `Show rows with, in ${table.caption.textContent}`);
  tools.append(label, input, count);
  table.parentNode.before(tools);
  let texts;
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    texts ??= rows.map((row) => row.textContent.toLowerCase());
    let left = 0;
    rows.forEach((row, place) => {
      row.hidden = !wanted.every((word) => texts[place].includes(word));
      left += !row.hidden;
    });
    count.value = wanted.length ? `${left} of ${rows.length} rows` : "";
  });
}
