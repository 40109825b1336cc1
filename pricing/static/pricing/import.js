// The import page: a box that hides what does not match, and one that ticks all that is to be seen.
"use strict";
(() => {
  const find = document.getElementById("find-model");
  const all = document.getElementById("tick-all");
  const rows = [...document.querySelectorAll("tr[data-name]")];
  const count = document.getElementById("ticked");
  if (!find || !all) return;
  const boxes = () => rows.map((row) => row.querySelector("input[name=model]")).filter(Boolean);
  const tell = () => {
    count.textContent = String(boxes().filter((box) => box.checked).length);
  };
  find.addEventListener("input", () => {
    const sought = find.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.dataset.name.toLowerCase().includes(sought);
    all.checked = false;
  });
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
  all.addEventListener("change", () => {
    for (const row of rows) {
      const box = row.querySelector("input[name=model]");
      if (box && !row.hidden) box.checked = all.checked;
    }
    tell();
  });
  document.addEventListener("change", tell);
  tell();
})();
