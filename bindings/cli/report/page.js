/* SPDX-License-Identifier: Apache-2.0
 *
 * Draws the charts from the block `data`. Colours come from the style sheet, so they follow the
 * reader's light or dark scheme, also when it changes. Names are drawn on canvases only.
 */
"use strict";
(() => {
  if (typeof Chart === "undefined") return;
  const { runs, plan } = JSON.parse(document.getElementById("data").textContent);
  const COLORS = 8, STAGES = ["enqueue", "queue", "batch", "broker"];
  let charts = [];

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const digits = (value) => String(Number(value.toPrecision(3)));
  const number = (value) => value >= 1000 ? Math.round(value).toLocaleString("en") : digits(value);
  const cut = (text, most) => [...text].length > most
    ? [...text].slice(0, most - 1).join("") + "…" : text;
  const labelOf = (run, most) => cut(run.name, most) + (run.valid ? "" : " (INVALID)");

  function time(ns) {
    const at = ns < 1e3 ? 0 : ns < 1e6 ? 1 : ns < 1e9 ? 2 : 3;
    return digits(ns / 1000 ** at) + " " + ["ns", "µs", "ms", "s"][at];
  }

  /* 1/(1-p) as a percentage: 10 is 90 %, 1000 is 99.9 %. */
  function percent(x) {
    const nines = Math.max(0, Math.ceil(Math.log10(x)) - 2 + (x % 10 ? 1 : 0));
    return (100 - 100 / x).toFixed(Math.min(nines, 12)) + " %";
  }

  /* Decades, and 2 and 5 between them where there are few. */
  function decades(low, high) {
    const ticks = [], few = high / low < 2000;
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of few ? [1, 2, 5] : [1]) {
        const value = m * 10 ** e;
        if (value >= low * 0.999 && value <= high * 1.001) ticks.push({ value });
      }
    }
    return ticks;
  }

  function axis(type, title, label, more) {
    return {
      type, title: { display: title !== "", text: title, color: color("--quiet") },
      grid: { color: color("--line"), borderColor: color("--quiet") },
      ticks: {
        color: color("--ink"), maxRotation: 0, autoSkipPadding: 5,
        ...(label ? { callback: label } : {}),
      },
      ...more,
    };
  }

  function logTimes(points) {
    const values = points.filter((v) => v > 0);
    const low = values.reduce((a, b) => Math.min(a, b), Infinity);
    const high = values.reduce((a, b) => Math.max(a, b), 1);
    const min = Number.isFinite(low) ? low / 1.3 : 1, max = high * 1.3;
    return axis("logarithmic", "", (v) => time(v), {
      min, max, afterBuildTicks: (scale) => { scale.ticks = decades(min, max); },
    });
  }

  function options(x, y, tip) {
    return {
      animation: false, responsive: true, maintainAspectRatio: false, locale: "en",
      interaction: { mode: "nearest", axis: "x", intersect: false },
      elements: { point: { radius: 0, hitRadius: 8 }, line: { borderWidth: 2 } },
      plugins: {
        legend: { display: false },
        tooltip: {
          backgroundColor: color("--card"), titleColor: color("--ink"), bodyColor: color("--ink"),
          borderColor: color("--line"), borderWidth: 1, callbacks: tip,
        },
      },
      scales: { x, y },
    };
  }

  const line = (run, index, data, more) => ({
    label: labelOf(run, 40), data, borderColor: color("--color-" + index % COLORS),
    backgroundColor: color("--color-" + index % COLORS),
    borderDash: !run.valid ? [7, 3] : index >= COLORS ? [14, 3, 2, 3] : [], ...more,
  });

  function percentiles(column) {
    const sets = [], all = [];
    let most = 10;
    runs.forEach((run, i) => {
      const { points, never } = run.curves[column] || { points: [], never: 0 };
      for (const [x, y] of points) { all.push(y); most = Math.max(most, x); }
      sets.push(line(run, i, points.map(([x, y]) => ({ x, y })), {
        /* A cross where a curve ends because the rest never arrived. */
        pointStyle: "crossRot", pointBorderWidth: 3,
        pointRadius: (at) => never > 0 && at.dataIndex === points.length - 1 ? 6 : 0,
      }));
    });
    const ticks = [2];
    for (let x = 10; x <= most; x *= 10) ticks.push(x);
    return {
      type: "line", data: { datasets: sets },
      options: options(
        axis("logarithmic", "percentile", percent, {
          min: 1, max: most, afterBuildTicks: (s) => { s.ticks = ticks.map((value) => ({ value })); },
        }),
        logTimes(all),
        { title: (items) => items.length ? percent(items[0].parsed.x) : "",
          label: (item) => item.dataset.label + ": " + time(item.parsed.y) }),
    };
  }

  function overTime(member, y, format, dashed) {
    const sets = [];
    runs.forEach((run, i) => {
      const points = (name) => run.over_time.map((s) => ({ x: s.at_s, y: s[name] }));
      if (dashed) {
        sets.push(line(run, i, points(dashed), {
          label: labelOf(run, 30) + ", " + dashed, borderDash: [2, 3], borderWidth: 1,
        }));
      }
      sets.push(line(run, i, points(member), {
        pointRadius: run.over_time.length < 40 ? 2 : 0, label: labelOf(run, 30) + ", " + member,
      }));
    });
    const last = runs.flatMap((r) => r.over_time.map((s) => s.at_s)).reduce((a, b) =>
      Math.max(a, b), 1);
    return {
      type: "line", data: { datasets: sets },
      options: options(
        axis("linear", "s", (v) => v, { min: 0, max: last }), y,
        { title: (items) => items.length ? items[0].parsed.x + " s" : "",
          label: (item) => item.dataset.label + ": " + format(item.parsed.y) }),
    };
  }

  function stages(plot) {
    plot.style.height = 70 + 38 * runs.length + "px";
    return {
      type: "bar",
      data: {
        labels: runs.map((run) => run.valid ? cut(run.name, 16) : [cut(run.name, 16), "INVALID"]),
        datasets: STAGES.map((stage, i) => ({
          label: stage, data: runs.map((run) => run.stages ? run.stages[stage] : 0),
          backgroundColor: color("--color-" + i), maxBarThickness: 26,
        })),
      },
      options: {
        ...options(
          axis("linear", "", (v) => time(v), { stacked: true, beginAtZero: true }),
          axis("category", "", null, { stacked: true }),
          { label: (item) => item.dataset.label + ": " + time(item.parsed.x) }),
        indexAxis: "y", interaction: { mode: "index", axis: "y", intersect: false },
      },
    };
  }

  /* Of a plan: [x, y] points, and a bound as a dashed line. */
  function curve(points, label, y, format, bound) {
    const last = points[points.length - 1][0];
    const set = (data, i, more) => ({
      label, data, borderColor: color("--color-" + i), backgroundColor: color("--color-" + i),
      ...more,
    });
    const sets = [set(points.map(([x, v]) => ({ x, y: v })), 0, {
      pointRadius: points.length < 60 ? 2 : 0,
    })];
    if (bound > 0) {
      const ends = [points[0][0], last].map((x) => ({ x, y: bound }));
      sets.push(set(ends, 1, { label: "target", borderDash: [6, 4] }));
    }
    return {
      type: "line", data: { datasets: sets },
      options: options(axis("linear", "s", (v) => v, { min: 0, max: last }), y, {
        title: (items) => items.length ? items[0].parsed.x + " s" : "",
        label: (item) => item.dataset.label + ": " + format(item.parsed.y),
      }),
    };
  }

  function bars(plot, names, sets, format) {
    plot.style.height = 80 + 44 * names.length + "px";
    const common = options(axis("linear", "", (v) => format(v), { beginAtZero: true }),
      axis("category", "", null, {}),
      { label: (item) => item.dataset.label + ": " + format(item.parsed.x) });
    common.plugins.legend = {
      display: sets.length > 1, position: "bottom", labels: { color: color("--ink"), boxWidth: 12 },
    };
    return {
      type: "bar",
      data: {
        labels: names,
        datasets: sets.map(([label, data], i) => ({
          label, data, backgroundColor: color("--color-" + i), maxBarThickness: 18,
        })),
      },
      options: {
        ...common, indexAxis: "y", interaction: { mode: "index", axis: "y", intersect: false },
      },
    };
  }

  function planned(name, plot) {
    if (name === "hour") {
      const y = axis("linear", "", (v) => time(v), { beginAtZero: true });
      return curve(plan.p99, "p99 of 10 s", y, time, plan.target_ns);
    }
    if (name === "waiting") {
      const y = axis("linear", "", (v) => number(v), { beginAtZero: true });
      return curve(plan.waiting, "messages", y, number, 0);
    }
    if (name === "memory") {
      return bars(plot, plan.memory.map((part) => part[0]),
        [["size", plan.memory.map((part) => part[1])],
          ["most in use", plan.memory.map((part) => part[2])]],
        (v) => digits(Number(v)) + " MiB");
    }
    return bars(plot, plan.cliffs.map((part) => part[0]),
      [["times the rate", plan.cliffs.map((part) => part[1])]], (v) => digits(Number(v)));
  }

  function config(name, plot) {
    if (plan) return planned(name, plot);
    if (name === "stages") return stages(plot);
    if (name === "rate") {
      return overTime("acknowledged", axis("linear", "", (v) => number(v), { beginAtZero: true }),
        number, "offered");
    }
    if (name === "p99") {
      const all = runs.flatMap((run) => run.over_time.map((s) => s.p99_ns));
      return overTime("p99_ns", logTimes(all), time);
    }
    return percentiles(name);
  }

  function draw() {
    charts.forEach((chart) => chart.destroy());
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    charts = [...document.querySelectorAll("[data-chart]")].map((figure) => {
      const plot = figure.querySelector(".plot");
      return new Chart(figure.querySelector("canvas"), config(figure.dataset.chart, plot));
    });
  }

  document.documentElement.classList.add("drawn");
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
