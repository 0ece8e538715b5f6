"use strict";
// Draws the charts from the page's data; nothing is fetched.
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const config = {
    displaylogo: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };
  const hidden = new Set();
  const views = {};

  // The colour that a custom property has in the present theme.
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const translucent = (rgb, alpha) => rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);

  function painted(trace) {
    const meta = trace.meta;
    const own = colour(meta.colour < 0 ? "base" : `c${meta.colour}`);
    const copy = { ...trace };
    // The name stands in the label: the box of its own beside it knows no theme.
    if (trace.hovertemplate) copy.hovertemplate = `%{fullData.name}<br>${trace.hovertemplate}<extra></extra>`;
    if (meta.band) {
      copy.fillcolor = translucent(own, 0.16);
      copy.line = { width: 0, color: own };
    } else if (trace.type === "scatter" && trace.mode.startsWith("lines")) {
      copy.line = { color: own, width: 2, dash: meta.dash };
      copy.marker = { color: own, size: 6 };
    } else {
      copy.marker = { ...trace.marker, color: own };
      for (const side of ["error_x", "error_y"])
        if (trace[side]) copy[side] = { ...trace[side], color: own, thickness: 1.8, width: 5 };
      if (trace.type === "bar") copy.width = 0.65;
    }
    return copy;
  }

  function base(box, height) {
    return {
      width: box.clientWidth,
      height,
      font: { color: colour("text"), size: 12, family: getComputedStyle(document.body).fontFamily },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 14, t: 26, b: 46 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("text") },
    };
  }

  function draw(chart) {
    const view = views[chart.key];
    const traces = chart.traces.filter(
      (trace) => !hidden.has(trace.meta.arm) && (!trace.meta.view || trace.meta.view === view)
    );
    const box = document.getElementById(`chart-${chart.key}`);
    const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false };
    const layout = { ...base(box, chart.layout.height || 420), ...chart.layout, uirevision: view || "all" };
    layout.xaxis = { ...axis, tickangle: 0, ...chart.layout.xaxis };
    layout.yaxis = { ...axis, automargin: true, ...chart.layout.yaxis };
    const { narrow, ...names } = layout.yaxis;
    if (narrow) layout.yaxis = innerWidth < 700 ? { ...names, ticktext: narrow } : names;
    if (view) {
      layout.xaxis.title = { text: chart.views[view].x };
      layout.yaxis.range = chart.views[view].range || undefined;
    }
    layout.shapes = (chart.layout.shapes || []).map((shape) => ({
      ...shape,
      line: { ...shape.line, color: colour("faint") },
    }));
    return Plotly.react(box, traces.map(painted), layout, config);
  }

  function levels(map) {
    const bytes = Uint8Array.from(atob(map.levels), (c) => c.charCodeAt(0));
    const rows = [];
    for (let i = 0; i < map.down; i++)
      rows.push(
        Array.from(bytes.subarray(i * map.across, (i + 1) * map.across), (level) =>
          level ? (level * map.top) / 255 : null
        )
      );
    return rows;
  }

  function drawWeights() {
    const select = document.getElementById("weights-select");
    if (!select) return Promise.resolve();
    document
      .querySelectorAll("[data-weights]")
      .forEach((table) => (table.hidden = table.dataset.weights !== select.value));
    const maps = page.weights[Number(select.value)];
    const box = document.getElementById("chart-weights");
    const columns = Math.min(maps.length, box.clientWidth < 700 ? 2 : 4);
    const rows = Math.ceil(maps.length / columns);
    const side = box.clientWidth / columns;
    const height = rows * Math.min(side, 260) + 90;
    const layout = base(box, height);
    layout.margin = { l: 8, r: 8, t: 30, b: 60 };
    layout.annotations = [];
    layout.coloraxis = {
      cmin: 0,
      cmax: Math.max(...maps.map((map) => map.top)) || 1,
      colorscale: [[0, colour("low")], [1, colour("high")]],
      colorbar: {
        orientation: "h", thickness: 10, y: 0, yanchor: "top", ypad: 16, outlinewidth: 0, len: 0.7,
        title: { text: "mean |W| of a block", side: "bottom" },
      },
    };
    const traces = maps.map((map, i) => {
      const suffix = i ? i + 1 : "";
      const [column, row] = [i % columns, Math.floor(i / columns)];
      const x = [(column + 0.04) / columns, (column + 0.96) / columns];
      const y = [1 - (row + 0.97) / rows, 1 - (row + 0.15) / rows];
      const axis = {
        showgrid: false, zeroline: false, showticklabels: false, ticks: "", mirror: true,
        linecolor: colour("line"), linewidth: 1,
      };
      layout[`xaxis${suffix}`] = { ...axis, domain: x, anchor: `y${suffix}` };
      layout[`yaxis${suffix}`] = { ...axis, domain: y, anchor: `x${suffix}`, autorange: "reversed" };
      layout.annotations.push({
        text: map.title, showarrow: false, xref: "paper", yref: "paper", font: { size: 12 },
        x: x[0], y: y[1], xanchor: "left", yanchor: "bottom",
      });
      return {
        type: "heatmap", z: levels(map), coloraxis: "coloraxis", hoverongaps: false,
        x0: map.cols / map.across / 2, dx: map.cols / map.across,
        y0: map.rows / map.down / 2, dy: map.rows / map.down,
        xaxis: `x${suffix}`, yaxis: `y${suffix}`,
        hovertemplate: `${map.title}<br>column %{x:.0f}, row %{y:.0f}<br>mean |W| %{z:.3g}<extra></extra>`,
      };
    });
    return Plotly.react(box, traces, layout, config);
  }

  const redraw = () => Promise.all([...page.charts.map(draw), drawWeights()]);

  const boxes = [...document.querySelectorAll("#picker input")];
  function pick() {
    hidden.clear();
    for (const box of boxes) if (!box.checked) hidden.add(box.value);
    page.charts.forEach(draw);
  }
  boxes.forEach((box) => box.addEventListener("change", pick));
  for (const [id, checked] of [["pick-all", true], ["pick-none", false]])
    document.getElementById(id).addEventListener("click", () => {
      boxes.forEach((box) => (box.checked = checked));
      pick();
    });

  for (const chart of page.charts) {
    const buttons = [...document.querySelectorAll(`[data-chart="${chart.key}"]`)];
    if (!buttons.length) continue;
    const choose = (name) => {
      views[chart.key] = name;
      buttons.forEach((button) => button.setAttribute("aria-pressed", button.dataset.view === name));
    };
    buttons.forEach((button) =>
      button.addEventListener("click", () => {
        choose(button.dataset.view);
        draw(chart);
      })
    );
    choose(buttons[0].dataset.view);
  }

  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const named = () => (toggle.textContent = isDark() ? "Light theme" : "Dark theme");
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    named();
    redraw();
  });
  system.addEventListener("change", () => {
    named();
    redraw();
  });
  named();

  const select = document.getElementById("weights-select");
  if (select) select.addEventListener("change", drawWeights);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (width !== innerWidth) requestAnimationFrame(redraw);
    width = innerWidth; // a phone's address bar changes the height only
  });
  redraw().then(() => (root.dataset.drawn = "yes"));
})();
