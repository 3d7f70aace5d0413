// Keeps the page fresh from /status.json, which says what to show; nothing is decided here. Texts are set as
// text, never as markup.
"use strict";

const REFRESH_MS = 2000;
const SLOW_MS = 10000; // an answer that takes longer is none
const BOTTOM = 100; // the lower edge of a drawing, as in control/drawing.py

const fresh = document.getElementById("fresh");
const pause = document.getElementById("pause");
const shown = new Map(); // what each part shows, so that what has not changed is left alone
let timer = 0;
let paused = false;

function changed(name, value) {
  const text = JSON.stringify(value);
  if (shown.get(name) === text) return false;
  shown.set(name, text);
  return true;
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function toned(cell) {
  return element("span", { class: cell.tone }, cell.text);
}

function showTable(table) {
  const panel = document.querySelector(`[data-table="${table.name}"]`);
  if (!panel || !changed(table.name, table.rows)) return;
  const rows = table.rows.map((row) => element("tr", { role: "row" }, ...row.map((cell, column) => element("td", {
    role: "cell",
    "data-label": table.columns[column],
    class: `${table.numbers.includes(column) ? "number" : ""}${cell.text === "-" ? " none" : ""}`,
  }, toned(cell)))));
  panel.querySelector("tbody").replaceChildren(...rows);
  panel.querySelector("table").hidden = rows.length === 0;
  panel.querySelector(".empty").hidden = rows.length !== 0;
}

function showChart(chart) {
  const figure = document.querySelector(`[data-chart="${chart.name}"]`);
  if (!figure || !changed(`chart ${chart.name}`, chart)) return;
  for (const key of ["now", "mean", "peak", "span", "top"]) {
    figure.querySelector(`[data-${key}]`).textContent = chart[key];
  }
  const drawing = figure.querySelector("svg");
  drawing.setAttribute("aria-label", chart.label);
  drawing.setAttribute("viewBox", chart.box);
  figure.querySelector(".line").setAttribute("d", chart.line);
  const left = chart.line.slice(1, chart.line.indexOf(" "));
  figure.querySelector(".area").setAttribute("d", chart.line && `${chart.line}V${BOTTOM}H${left}Z`);
}

function show(view) {
  document.querySelector("[data-at]").textContent = view.at;
  const state = document.querySelector("[data-state]");
  if (changed("state", view.state)) {
    state.textContent = view.state.text;
    state.className = `state ${view.state.tone}`;
  }
  if (changed("facts", view.facts)) {
    document.querySelector("[data-facts]").replaceChildren(...view.facts.map(([name, cell]) => element(
      "div", {}, element("dt", {}, name), element("dd", { class: cell.tone }, cell.text))));
  }
  view.charts.forEach(showChart);
  view.tables.forEach(showTable);
}

function say(text, stale) {
  if (fresh.textContent !== text) fresh.textContent = text;
  document.body.classList.toggle("stale", stale);
}

async function refresh() {
  clearTimeout(timer);
  if (paused || document.hidden) return;
  try {
    const answer = await fetch("/status.json", {
      cache: "no-store", credentials: "same-origin", redirect: "error", signal: AbortSignal.timeout(SLOW_MS),
    });
    if (answer.status === 401 || answer.status === 403) {
      location.reload(); // the session has ended: the page says so, and asks for a token
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const { view } = await answer.json();
    if (!paused) {
      show(view);
      say("As of", false);
    }
  } catch {
    say("No answer; trying again. Last seen at", true);
  }
  clearTimeout(timer);
  if (!paused) timer = setTimeout(refresh, REFRESH_MS);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  say(paused ? "Paused at" : "As of", paused);
  refresh();
});
document.addEventListener("visibilitychange", refresh);
timer = setTimeout(refresh, REFRESH_MS);
