"use strict";
(() => {
  const root = document.documentElement;
  const all = (query, within = document) => [...within.querySelectorAll(query)];

  document.querySelector(".tools").hidden = false;

  // Theme: the system's, until a reader chooses. A page opened from a file may be refused storage.
  let memory = null;
  try { memory = localStorage; memory.getItem("cuescope-theme"); } catch { memory = null; }
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.querySelector("[data-theme-switch]");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  const chosen = memory && memory.getItem("cuescope-theme");
  if (chosen) root.dataset.theme = chosen;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    if (memory) memory.setItem("cuescope-theme", root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);
  label();

  // Folding: all at once, or opened by a link into them. What is folded is not printed.
  const folds = all("details.fold");
  const foldAll = document.querySelector("[data-fold]");
  const refresh = () => { foldAll.textContent = folds.some((f) => f.open) ? "Fold all" : "Unfold all"; };
  foldAll.addEventListener("click", () => {
    const open = !folds.some((f) => f.open);
    folds.forEach((f) => { f.open = open; });
  });
  folds.forEach((f) => f.addEventListener("toggle", refresh));
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = target && target.querySelector("details.fold");
    if (!fold || fold.open) return;
    fold.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  refresh();

  // Sorting: numbers by value, text by the reader's alphabet, what is missing always last.
  const sortBy = (table, column, direction) => {
    const body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const [p, q] = [Number(x), Number(y)];
      const order = Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y, undefined, { numeric: true }) : p - q;
      return direction * order;
    };
    body.append(...[...body.rows].sort(compare));
  };
  all("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const control = document.createElement("button");
      control.type = "button";
      control.append(...head.childNodes);
      head.append(control);
      control.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sortBy(table, column, down ? -1 : 1);
      });
    });
  });

  // Full images lie in the run folder: where the page was moved away from it, say so instead of an empty page.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.full");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const image = new Image();
    image.onload = () => { location.href = link.href; };
    image.onerror = () => {
      const note = document.createElement("p");
      note.className = "note";
      note.setAttribute("role", "status");
      note.textContent = `The full image is ${decodeURI(link.getAttribute("href"))}, where this page was written.`;
      link.replaceWith(...link.childNodes, note);
    };
    image.src = link.href;
  });

  // The table of contents shows where the reader is.
  const links = new Map(all(".toc a").map((a) => [a.hash.slice(1), a]));
  const seen = new Set();
  const watcher = new IntersectionObserver((changes) => {
    changes.forEach((c) => (c.isIntersecting ? seen.add(c.target.id) : seen.delete(c.target.id)));
    const first = [...links.keys()].find((id) => seen.has(id));
    links.forEach((a, id) => (id === first ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current")));
  }, { rootMargin: "-10% 0px -60% 0px" });
  all("main > section[id]").forEach((s) => links.has(s.id) && watcher.observe(s));
})();
