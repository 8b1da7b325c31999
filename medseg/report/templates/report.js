// Sorting: numbers by their value, text as people read it, cells without a value last.
function keyOf(cell, isNumber) {
  if (cell.classList.contains("absent")) return undefined;
  return isNumber && cell.dataset.value !== undefined
    ? Number(cell.dataset.value)
    : cell.textContent;
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const sign = down ? -1 : 1;
      const isNumber = head.classList.contains("number");
      const rows = [...table.tBodies[0].rows].map((row) => {
        return { row, value: keyOf(row.cells[place], isNumber) };
      });
      rows.sort((a, b) => {
        if (a.value === undefined || b.value === undefined) {
          return (a.value === undefined) - (b.value === undefined);
        }
        if (typeof a.value === "number" && typeof b.value === "number") {
          return sign * (a.value - b.value);
        }
        return sign * String(a.value).localeCompare(String(b.value), undefined, { numeric: true });
      });
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows.map((entry) => entry.row));
    });
  });
}

// The table of contents says where the reader is: the last section that began above the fold.
const links = [...document.querySelectorAll("nav a")];
const parts = links.map((link) => document.querySelector(link.getAttribute("href")));
function mark() {
  const begun = parts.filter((part) => part.getBoundingClientRect().top < innerHeight / 3);
  const here = parts.indexOf(begun[begun.length - 1] ?? parts[0]);
  links.forEach((link, place) => {
    if (place === here) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
}
addEventListener("scroll", mark, { passive: true });
mark();
