"use strict";

/*
 * One section at a time, named by the address: #PLACE, or #PLACE?what the explorer shows.
 */

const EXPLORERS = new Map();

function parseAddress() {
  const [place, query] = location.hash.slice(1).split("?");
  const view = [...document.querySelectorAll(".view")].find((one) => one.id === place);
  return { view: view ?? document.getElementById("progress") ?? document.getElementById("gallery"), query: query ?? "" };
}

/** What an explorer shows, as text: numbers and places only. */
function stateToText({ state }) {
  const runs = state.runs.map((run) => [run.over, run.optimizer, run.rate, run.seed ?? "m"].join("."));
  const flags = ["logx", "logy", "whole", "single"].filter((name) => state[name]);
  return [`a=${runs[0]}`, `b=${runs[1]}`, `c=${state.choice}`, `k=${state.kind}`, ...flags].join("&");
}

/** The state that a text describes; what does not fit the data is left as it is. */
function stateFromText(explorer, text) {
  const { data, state } = explorer;
  const found = new URLSearchParams(text);
  ["a", "b"].forEach((name, i) => {
    const places = (found.get(name) ?? "").split(".");
    const [over, optimizer, rate] = places.slice(0, 3).map(Number);
    if (places.length === 4 && ratesOf(data, over, optimizer).includes(rate)) {
      const seed = places[3] === "m" || !(Number(places[3]) in data.seeds) ? null : Number(places[3]);
      Object.assign(state.runs[i], { over, optimizer, rate, seed });
    }
  });
  const choices = Math.max(0, ...data.choices.map((one) => one.length));
  if (found.has("c") && Number(found.get("c")) < choices) state.choice = Number(found.get("c")) || 0;
  if (data.kinds[Number(found.get("k"))]) state.kind = Number(found.get("k"));
  for (const name of ["logx", "logy", "whole", "single"]) if (found.has(name)) state[name] = true;
  explorer.fill();
}

async function explore(view, query) {
  const root = view.querySelector(".explorer");
  if (!root || EXPLORERS.has(root)) return;
  EXPLORERS.set(root, null);
  try {
    const data = await unpack(view.querySelector(".runs").textContent);
    const onChange = (explorer) => {
      if (!view.hidden) history.replaceState(null, "", `#${view.id}?${stateToText(explorer)}`);
    };
    const explorer = new Explorer(root, data, onChange);
    EXPLORERS.set(root, explorer);
    if (query) stateFromText(explorer, query);
    await explorer.render();
    root.dataset.ready = "yes";
  } catch (error) {
    root.replaceChildren(element("p", { class: "note", role: "alert" }, `These runs cannot be shown: ${error.message}`));
    throw error;
  }
}

/** The picture of a section is that of its card in the gallery, which the file holds once. */
function showPicture(view) {
  const figure = view.querySelector("[data-picture]");
  const image = figure && document.querySelector(`#${figure.dataset.picture} img`);
  if (!image || figure.querySelector("img")) return;
  const copy = image.cloneNode();
  copy.loading = "eager";
  figure.prepend(copy);
}

function show(moved) {
  const { view, query } = parseAddress();
  for (const one of document.querySelectorAll(".view")) one.hidden = one !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.querySelector(".menu").open = false;
  showPicture(view);
  explore(view, query);
  scrollTo(0, 0);
  if (moved) {
    document.getElementById("main").focus({ preventScroll: true });
  }
}

/** Rows of the table of claims: those whose verdict, kind and words fit. */
function filterClaims() {
  const form = document.querySelector(".filter");
  if (!form) return;
  form.hidden = false;
  const rows = [...document.querySelectorAll(".claims.all tbody tr")];
  const filter = () => {
    const chosen = new FormData(form);
    const verdicts = chosen.getAll("verdict");
    const kind = chosen.get("kind");
    const words = chosen.get("words").toLowerCase();
    for (const row of rows) {
      const fits = kind === "all" || (kind === "headline" ? row.dataset.headline === "yes" : row.dataset.kind === "tests");
      row.hidden = !(fits && verdicts.includes(row.dataset.verdict) && row.textContent.toLowerCase().includes(words));
    }
    form.querySelector(".count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}

/** A page of a run that goes on is loaded again from time to time, unless someone is typing. */
function reloadNowAndThen() {
  const seconds = Number(document.body.dataset.reload);
  const box = document.getElementById("reload");
  if (!seconds || !box) return;
  box.closest("label").hidden = false;
  setInterval(() => {
    if (box.checked && !document.activeElement?.matches("input, select")) location.reload();
  }, 1000 * seconds);
}

addEventListener("hashchange", () => show(true));
filterClaims();
show(false);
reloadNowAndThen();
