"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faint = (color) => `${color}2b`;

  const band = (line, color) => {
    const there = line.low.map((low, at) => at).filter((at) => line.low[at] !== null && line.high[at] !== null);
    const x = there.map((at) => line.x[at]);
    return {
      type: "scatter", mode: "lines", x: [...x, ...x.slice().reverse()], line: { width: 0 }, fill: "toself", fillcolor: faint(color),
      y: [...there.map((at) => line.high[at]), ...there.map((at) => line.low[at]).reverse()], hoverinfo: "skip", showlegend: false,
    };
  };

  const bar = (line, color) => ({
    type: "bar", orientation: "h", name: line.name, x: line.x, y: line.y, text: line.text, textposition: "none", marker: { color },
    hovertemplate: "%{y}: %{x:.0f} %<br>%{text}<extra></extra>",
  });

  const curve = (line, color) => ({
    type: "scatter", mode: line.points ? "markers" : "lines+markers", name: line.name, x: line.x, y: line.y, text: line.text || [],
    line: { color, width: 2.5 }, marker: { color, size: line.points ? 7 : 5 }, connectgaps: false,
    hovertemplate: `${line.name}: %{y:.3s} at %{x:.3s}${line.text ? "<br>%{text}" : ""}<extra></extra>`,
  });

  const traces = (figure) => figure.traces.flatMap((line) => {
    const color = colour(`--c-${line.color}`);
    if (line.bar) return [bar(line, color)];
    return line.low ? [band(line, color), curve(line, color)] : [curve(line, color)];
  });

  const axis = (title, log, range) => ({
    title: { text: title, font: { size: 12.5 }, standoff: 6 }, type: log ? "log" : undefined, gridcolor: colour("--grid"),
    linecolor: colour("--line"), zeroline: false, automargin: true, fixedrange: true, exponentformat: "SI", dtick: log ? 1 : undefined,
    ...(range ? { range } : {}),
  });

  const draw = (id, figure) => {
    const bars = figure.traces.some((line) => line.bar);
    const layout = {
      height: figure.height, margin: { l: 8, r: 14, t: 34, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("--soft") },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 13 } },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" }, showlegend: true, hovermode: "closest", barmode: "group",
      xaxis: axis(figure.x, figure.log_x, null),
      yaxis: bars ? { autorange: "reversed", automargin: true, fixedrange: true } : axis(figure.y, figure.log_y, figure.range_y),
      shapes: figure.marks.map((mark) => ({
        type: "line", x0: mark.x, x1: mark.x, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dot" },
      })),
      annotations: figure.marks.map((mark, at) => ({
        x: figure.log_x ? Math.log10(mark.x) : mark.x, yref: "paper", y: 0.02 + 0.08 * at, text: mark.text, showarrow: false, xanchor: "left",
        font: { size: 11.5, color: colour("--soft") },
      })),
    };
    return Plotly.react(id, traces(figure), layout, { displayModeBar: false, responsive: true });
  };

  const drawAll = () => Promise.all(Object.entries(figures).map(([id, figure]) => draw(id, figure)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll().then(() => { document.documentElement.dataset.drawn = "true"; });
})();
