// Draws the analytics page's charts, keeps a range that reaches to now up to date, and hands out pictures.
"use strict";
(() => {
  const COLOURS = ["#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#64748b"];
  const EVERY_MS = 8000;
  const drawn = new Map();

  const dark = () => document.documentElement.classList.contains("dark");
  const ink = () => (dark() ? "#d1d5db" : "#374151");

  function options(chart, links) {
    const scales = chart.kind === "pie" ? {} : {
      x: { stacked: chart.kind === "stacked", ticks: { color: ink(), maxRotation: 0, autoSkip: true }, grid: { display: false } },
      y: { stacked: chart.kind === "stacked", beginAtZero: true, ticks: { color: ink() }, grid: { color: dark() ? "#374151" : "#e5e7eb" },
           title: { display: true, text: chart.unit, color: ink() } },
    };
    if (chart.kind === "bars") {
      scales.x.ticks.callback = function (value) {
        const label = this.getLabelForValue(value);
        return label.length > 14 ? label.slice(0, 13) + "…" : label;
      };
    }
    return {
      maintainAspectRatio: false,
      animation: false,
      interaction: { mode: chart.kind === "pie" ? "nearest" : "index", intersect: false },
      scales,
      plugins: { legend: { display: chart.kind !== "bars", position: "bottom", labels: { color: ink(), boxWidth: 12 } } },
      onClick: (event, _, it) => {
        const [hit] = it.getElementsAtEventForMode(event, "nearest", { intersect: true }, true);
        const link = hit && links(hit);
        if (link) location.assign(link);
      },
      onHover: (event, _, it) => {
        const [hit] = it.getElementsAtEventForMode(event, "nearest", { intersect: true }, true);
        event.native.target.style.cursor = hit && links(hit) ? "pointer" : "";
      },
    };
  }

  function draw() {
    const data = document.getElementById("charts");
    if (!data) return;
    const charts = JSON.parse(data.textContent);
    for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
      const chart = charts[canvas.dataset.chart];
      const many = chart.kind === "pie" || chart.kind === "bars";
      const sets = chart.sets.map((one, number) => ({
        label: one.name,
        data: one.values,
        backgroundColor: many ? COLOURS : COLOURS[number % COLOURS.length],
        borderColor: chart.kind === "lines" ? COLOURS[number % COLOURS.length] : undefined,
        borderWidth: chart.kind === "lines" ? 2 : 0,
        pointRadius: chart.kind === "lines" ? 2 : undefined,
        spanGaps: true,
      }));
      const links = (hit) => (chart.links ? chart.links[hit.index] : chart.sets[hit.datasetIndex].link);
      const type = { stacked: "bar", bars: "bar", pie: "doughnut", lines: "line" }[chart.kind];
      drawn.get(canvas.dataset.chart)?.destroy();
      drawn.set(canvas.dataset.chart, new Chart(canvas, { type, data: { labels: chart.labels, datasets: sets }, options: options(chart, links) }));
    }
    for (const button of document.querySelectorAll("[data-png]")) button.hidden = false;
  }

  function savePicture(id) {
    const canvas = document.querySelector(`canvas[data-chart="${id}"]`);
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [canvas.width, canvas.height];
    const pen = copy.getContext("2d");
    pen.fillStyle = dark() ? "#111827" : "#ffffff";
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.drawImage(canvas, 0, 0);
    copy.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${id}.png`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  async function refresh() {
    const old = document.getElementById("dashboard");
    const busy = old?.contains(document.activeElement) && document.activeElement !== document.body;
    if (!old || !("live" in old.dataset) || document.hidden || busy) return;
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("dashboard");
    if (!fresh) return;
    for (const open of old.querySelectorAll("details[open]")) fresh.querySelector(`#${open.id}`)?.setAttribute("open", "");
    old.replaceWith(document.adoptNode(fresh));
    draw();
  }

  async function keepFresh() {
    try {
      await refresh();
    } catch {
      // Away for a moment: the next turn asks again.
    }
    setTimeout(keepFresh, EVERY_MS);
  }

  document.addEventListener("click", (event) => {
    const id = event.target.dataset?.png;
    if (id) savePicture(id);
  });
  const form = document.getElementById("asking");
  form.addEventListener("change", (event) => {
    if (event.target.type === "date") form.elements.range?.remove();
    else if (form.elements.range) for (const name of ["from", "to"]) form.elements[name].disabled = true;
    if (event.target.type === "date" && !(form.elements.from.value && form.elements.to.value)) return;
    document.getElementById("dashboard")?.setAttribute("aria-busy", "true");
    form.requestSubmit();
  });
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
  draw();
  setTimeout(keepFresh, EVERY_MS);
})();
