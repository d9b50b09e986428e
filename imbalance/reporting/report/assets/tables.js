"use strict";

/**
 * A table of columns {name, number, of}, where `of(row)` gives {text, value, swatch} or plain text;
 * `value` is what it sorts by. A click on a head, or Enter on it, sorts; again: the other way.
 */
function table(caption, columns, rows, { sorted = null, most = Infinity, onSort = null } = {}) {
  const cells = rows.map((row) => columns.map((column) => cell(column.of(row))));
  if (sorted) {
    const { column, down } = sorted;
    const order = (a, b) => compare(a[column].value, b[column].value, down);
    cells.sort(order);
  }
  const heads = columns.map((column, i) => {
    const head = element("th", { scope: "col", class: column.number ? "number" : "" });
    if (!onSort) {
      head.append(column.name);
      return head;
    }
    if (sorted?.column === i) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    const button = element("button", { type: "button" }, column.name);
    button.addEventListener("click", () => onSort({ column: i, down: sorted?.column === i ? !sorted.down : Boolean(column.number) }));
    head.append(button);
    return head;
  });
  const lines = cells.slice(0, most).map((line) =>
    element("tr", {}, ...line.map((one, i) => {
      const td = element("td", { class: columns[i].number ? "number" : "" });
      if (one.swatch) {
        const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
        swatch.style.background = one.swatch;
        td.append(swatch);
      }
      td.append(one.text);
      return td;
    })),
  );
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...lines),
  );
}

function cell(given) {
  return typeof given === "object" ? given : { text: given, value: given };
}

/** Numbers by size, words by the alphabet; what is missing comes last either way. */
function compare(a, b, down) {
  const missing = (value) => value === null || value === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return down ? -order : order;
}

/** A cell of a number. */
function number(value, text = shown(value)) {
  return { text, value };
}
