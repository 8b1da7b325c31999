for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const sign = down ? -1 : 1;
      const rows = [...table.tBodies[0].rows].map((row) => {
        const value = row.cells[place].dataset.value;
        const isNumber = value !== undefined && head.classList.contains("number");
        return { row, value: isNumber ? Number(value) : value };
      });
      rows.sort((a, b) => {
        if (a.value === undefined || b.value === undefined) {
          return (a.value === undefined) - (b.value === undefined);
        }
        if (typeof a.value === "number") return sign * (a.value - b.value);
        return sign * a.value.localeCompare(b.value, undefined, { numeric: true });
      });
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows.map((entry) => entry.row));
    });
  });
}
