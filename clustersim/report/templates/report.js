"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ofSeries = (name) => colour(`--c-${name}`);

  const shapes = (figure) => [
    ...(figure.bands || []).map(([x0, x1]) => ({
      type: "rect", xref: "x", yref: "paper", x0, x1, y0: 0, y1: 1, fillcolor: colour("--band"), line: { width: 0 }, layer: "below",
    })),
    ...figure.marks.map((mark) => ({
      type: "line", xref: "x", yref: "paper", x0: mark.x, x1: mark.x, y0: 0, y1: 1,
      line: { color: ofSeries(mark.color), width: 1.5, dash: "dash" },
    })),
  ];

  const labels = (figure) => figure.marks.map((mark, index) => ({
    x: Math.log10(mark.x), y: 1, xref: "x", yref: "paper", yanchor: "bottom", xanchor: "center", showarrow: false,
    yshift: 16 * (index % 2), text: mark.text, font: { color: ofSeries(mark.color), size: 12 },
  }));

  const axis = (side, extra) => ({
    title: { text: side.title, font: { size: 12.5 }, standoff: 8 }, gridcolor: colour("--grid"), linecolor: colour("--line"),
    zeroline: false, automargin: true, fixedrange: true, ...extra,
  });

  const draw = (id, figure) => {
    const traces = figure.traces.map((trace) => ({
      type: "scatter", mode: trace.marks ? "lines+markers" : "lines", x: trace.x, y: trace.y, text: trace.text, name: trace.name,
      line: { color: ofSeries(trace.color), width: 2 }, marker: { size: 7 }, hovertemplate: `${trace.hover}<extra></extra>`,
      error_y: trace.low && {
        type: "data", symmetric: false, array: trace.high.map((high, i) => high - trace.y[i]),
        arrayminus: trace.low.map((low, i) => trace.y[i] - low), color: ofSeries(trace.color), thickness: 1, width: 3,
      },
    }));
    const x = figure.x.log
      ? { type: "log", tickvals: figure.x.ticks, ticktext: figure.x.labels, range: figure.x.range }
      : figure.x.range ? { range: figure.x.range } : { rangemode: "tozero" };
    const y = figure.y.range ? { range: figure.y.range } : { rangemode: "tozero" };
    const layout = {
      margin: { l: 8, r: 12, t: figure.marks.length ? 44 : 10, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("--soft") },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 13 } },
      showlegend: figure.legend, legend: { orientation: "h", x: 0, xref: "paper", y: -0.2, yanchor: "top" }, hovermode: "closest",
      xaxis: axis(figure.x, x), yaxis: axis(figure.y, { ...y, separatethousands: true, nticks: 6 }),
      shapes: shapes(figure), annotations: labels(figure),
    };
    return Plotly.react(id, traces, layout, { displayModeBar: false, responsive: true });
  };

  const drawAll = () => Promise.all(Object.entries(figures).map(([id, figure]) => draw(id, figure)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll().then(() => { document.documentElement.dataset.drawn = "true"; });
})();
