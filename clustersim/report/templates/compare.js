"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ofSeries = (name) => colour(`--c-${name}`);

  const trace = (line, index, count, rows) => {
    const color = ofSeries(line.color);
    const shift = count > 1 ? (index - (count - 1) / 2) * Math.min(0.22, 0.7 / count) : 0;
    return {
      type: "scatter", mode: "markers", name: line.name, x: line.x, y: line.y.map((row) => rows.indexOf(row) + shift), text: line.text,
      customdata: line.y, hovertemplate: `${line.name}: %{customdata}<br>%{text}<extra></extra>`,
      error_x: {
        type: "data", symmetric: false, array: line.high.map((high, at) => high - line.x[at]),
        arrayminus: line.low.map((low, at) => line.x[at] - low), color, thickness: 2, width: 5,
      },
      marker: { color: line.real.map((real) => (real ? color : colour("--card"))), size: 10, line: { color, width: 2 } },
    };
  };

  const draw = (id, figure) => {
    const narrow = document.documentElement.clientWidth < 760;
    const shifted = figure.zero ? figure.traces.length : 1;
    const traces = figure.traces.map((line, index) => trace(line, figure.zero ? index : 0, shifted, figure.rows));
    const wrap = (text) => (narrow && text.length > 18 ? text.replace(/(.{8,16}) /g, "$1<br>") : text);
    const layout = {
      height: figure.height + (figure.legend ? 30 : 0), margin: { l: 8, r: 14, t: figure.legend ? 34 : 8, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("--soft") },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 13 } },
      showlegend: figure.legend, legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" }, hovermode: "closest",
      xaxis: {
        title: { text: figure.title, font: { size: 12.5 }, standoff: 6 }, gridcolor: colour("--grid"), linecolor: colour("--line"),
        zeroline: figure.zero, zerolinecolor: colour("--soft"), zerolinewidth: 1.5, automargin: true, fixedrange: true, nticks: narrow ? 4 : 7,
        separatethousands: true,
      },
      yaxis: {
        tickvals: figure.rows.map((_, index) => index), ticktext: figure.rows.map(wrap), range: [figure.rows.length - 0.4, -0.6],
        gridcolor: colour("--grid"), zeroline: false, automargin: true, fixedrange: true,
      },
    };
    return Plotly.react(id, traces, layout, { displayModeBar: false, responsive: true });
  };

  const drawAll = () => Promise.all(Object.entries(figures).map(([id, figure]) => draw(id, figure)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll().then(() => { document.documentElement.dataset.drawn = "true"; });
})();
