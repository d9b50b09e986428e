"use strict";

const LETTERS = ["A", "B"];

/** The explorer of one exhibit: state in `this.state`, everything on the page drawn from it. */
class Explorer {
  constructor(root, data, onChange) {
    for (const look of data.optimizers) if (look.colour === "#000000") look.colour = "currentColor"; // white in the dark
    this.root = root;
    this.data = data;
    this.onChange = onChange;
    root.append(document.getElementById("explorer").content.cloneNode(true));
    this.panels = [...root.querySelectorAll(".run")].map((panel) => {
      panel.append(document.getElementById("run").content.cloneNode(true));
      return panel;
    });
    this.charts = this.panels.map((panel) => new Chart(panel.querySelector(".chart"), SPECS.curves));
    this.rates = new Chart(root.querySelector(".rates .chart"), SPECS.rates);
    this.classes = new ClassTable(root.querySelector(".classes"), data);
    this.state = this.start();
    this.fill();
    this.listen();
  }

  find(name) {
    return this.root.querySelector(`[name="${name}"]`);
  }

  /** What is shown first: the first two optimizers at their selected rates, side by side. */
  start() {
    const optimizers = optimizersOf(this.data, 0);
    const other = this.data.over && optimizers.length === 1 ? 1 : 0;
    const run = (over, optimizer) => ({ over, optimizer, rate: selectedRate(this.data, this.data.choices[over]?.[0], over, optimizer), seed: null });
    const second = optimizersOf(this.data, other);
    const runs = [run(0, optimizers[0]), run(other, second[Math.min(1, second.length - 1)])];
    const alone = this.data.runs.length === 1;
    const last = this.data.steps.length - 1;
    return { kind: 0, choice: 0, logx: false, logy: false, whole: false, single: alone, step: last, runs };
  }

  /** The selection rule and horizon in force for a value of over. */
  choice(over) {
    const known = this.data.choices[over] ?? [];
    return known[Math.min(this.state.choice, known.length - 1)];
  }

  fill() {
    const { data } = this;
    options(this.find("kind"), data.kinds.map((kind) => `${kind.name} loss`));
    this.root.querySelector(".kind").hidden = data.kinds.length < 2;
    const choices = data.choices.reduce((a, b) => (b.length > a.length ? b : a), []);
    options(this.find("choice"), choices.map((one) => `${one.rule}, at step ${one.step}`));
    this.root.querySelector(".rule").hidden = !choices.length;
    this.root.querySelector(".ramp").style.background = `linear-gradient(to right, ${data.colours.join(", ")})`;
    this.panels.forEach((panel) => {
      panel.querySelector(".over").hidden = !data.over;
      if (data.over) {
        panel.querySelector(".over span").textContent = data.over.name;
        options(panel.querySelector('[name="over"]'), data.over.values);
      }
      options(panel.querySelector('[name="optimizer"]'), data.optimizers.map((one) => one.label));
    });
    this.find("step").max = data.steps.length - 1;
    for (const name of ["logx", "logy", "whole", "single"]) this.find(name).checked = this.state[name];
  }

  listen() {
    const change = (name, value) => {
      this.state[name] = value;
      this.render();
    };
    this.find("kind").addEventListener("change", (event) => change("kind", Number(event.target.value)));
    this.find("choice").addEventListener("change", (event) => {
      this.state.choice = Number(event.target.value);
      this.state.runs.forEach((run) => this.select(run));
      this.render();
    });
    this.find("step").addEventListener("input", (event) => {
      this.state.step = Number(event.target.value);
      this.at();
    });
    for (const name of ["logx", "logy", "whole", "single"]) {
      this.find(name).addEventListener("change", (event) => change(name, event.target.checked));
    }
    this.panels.forEach((panel, i) => {
      const run = this.state.runs[i];
      panel.addEventListener("input", (event) => this.changed(run, event.target));
      panel.querySelector('[name="select"]').addEventListener("click", () => {
        this.select(run);
        this.render();
      });
      const place = panel.querySelector(".chart");
      place.addEventListener("pointermove", (event) => this.hover(i, event));
      place.addEventListener("pointerleave", hideTip);
    });
    const rates = this.root.querySelector(".rates .chart");
    rates.addEventListener("pointermove", (event) => this.hoverRate(event));
    rates.addEventListener("pointerleave", hideTip);
  }

  select(run) {
    run.rate = selectedRate(this.data, this.choice(run.over), run.over, run.optimizer);
  }

  /** A control of a panel has a new value. */
  changed(run, control) {
    const value = Number(control.value);
    if (control.name === "rate") run.rate = ratesOf(this.data, run.over, run.optimizer)[value];
    else if (control.name === "seed") run.seed = value < 0 ? null : value;
    else {
      run[control.name] = value;
      const known = optimizersOf(this.data, run.over);
      if (!known.includes(run.optimizer)) run.optimizer = known[0];
      this.select(run);
    }
    this.render();
  }

  /** Everything anew. */
  render() {
    this.shown = this.state.single ? [0] : [0, 1];
    this.panels[1].hidden = this.state.single;
    this.root.querySelector(".pair").classList.toggle("single", this.state.single);
    const { data, state } = this;
    const kind = data.kinds[state.kind];
    this.runs = state.runs.map((run) => {
      const wanted = runsAt(data, run.over, run.optimizer, run.rate, run.seed);
      if (!wanted.length) run.seed = null;
      return wanted.length ? wanted : runsAt(data, run.over, run.optimizer, run.rate);
    });
    this.curves = this.runs.map((runs) => curvesOf(kind, runs));
    const limit = limits(this.shown.map((i) => this.curves[i]), state.logy, state.whole);
    for (const [name, value] of [["kind", state.kind], ["choice", state.choice]]) this.find(name).value = value;
    const chosen = this.choice(state.runs[0].over);
    this.root.querySelector(".rule-words").textContent = chosen ? new Map(data.rules).get(chosen.rule) : "";
    const drawn = this.shown.map((i) => this.panel(i, limit));
    drawn.push(this.renderRates());
    this.at();
    const over = state.runs[0].over;
    this.classes.render(over, this.shown.filter((i) => state.runs[i].over === over).map((i) => [LETTERS[i], this.runs[i]]));
    this.onChange(this);
    return Promise.all(drawn);
  }

  /** Controls, words and curves of one panel. */
  panel(i, limit) {
    const { data, state } = this;
    const run = state.runs[i];
    const runs = this.runs[i];
    const panel = this.panels[i];
    const control = (name) => panel.querySelector(`[name="${name}"]`);
    control("over").value = run.over;
    const known = optimizersOf(data, run.over);
    [...control("optimizer").options].forEach((option, o) => (option.hidden = option.disabled = !known.includes(o)));
    control("optimizer").value = run.optimizer;
    const rates = ratesOf(data, run.over, run.optimizer);
    const seeds = [...new Set(runsOfRate(data, run).map((r) => data.runs[r][3]))];
    options(control("seed"), ["mean and range", ...seeds.map((seed) => String(data.seeds[seed]))], [-1, ...seeds]);
    control("seed").value = run.seed ?? -1;
    const slider = control("rate");
    slider.max = rates.length - 1;
    slider.value = rates.indexOf(run.rate);
    slider.disabled = rates.length < 2;
    const name = rateName(data, run.rate);
    slider.setAttribute("aria-valuetext", name);
    panel.querySelector(".rate output").textContent = name;
    const choice = this.choice(run.over);
    const best = choice ? choice.best[run.optimizer] : -1;
    control("select").disabled = best < 0 || best === run.rate;
    panel.querySelector(".state").replaceChildren(...this.stateWords(run, runs, choice, best, limit));
    const rows = curveRows(data, this.curves[i], { ...state, bottom: limit.bottom });
    const steps = rows.overall.concat(rows.buckets).map((row) => row.step);
    const first = steps.length ? steps.reduce((a, b) => Math.min(a, b)) : 0;
    const last = steps.length ? steps.reduce((a, b) => Math.max(a, b)) : 1;
    return this.charts[i].draw({
      rows,
      signals: { bottom: limit.bottom, top: limit.top, at: data.steps[state.step] },
      types: { x: state.logx ? "log" : "linear", y: state.logy ? "log" : "linear" },
      titles: { x: state.logx && data.steps[0] <= 0 ? "step (0 left out)" : "step", y: `${data.kinds[state.kind].name} loss (nats)` },
      domain: { x: [first, last > first ? last : first + 1] },
      words: `Run ${LETTERS[i]}: loss by bucket against the step, ${this.name(run)}. ${seedWords(data, runs)}. The values are in the table below.`,
    });
  }

  name(run) {
    const over = this.data.over ? `${this.data.over.name} ${this.data.over.values[run.over]}, ` : "";
    return `${over}${this.data.optimizers[run.optimizer].label}, learning rate ${rateName(this.data, run.rate)}`;
  }

  /** What is to be said of a run: seeds, selection, divergence, clipped curves. */
  stateWords(run, runs, choice, best, limit) {
    const { data } = this;
    const parts = [`${seedWords(data, runs)}. `];
    if (diverged(data, runs)) {
      const gone = runs.filter((r) => data.runs[r][4]).length;
      parts.push(element("strong", {}, runs.length > 1 ? `${gone} of ${runs.length} runs diverged. ` : "This run diverged. "));
    }
    if (choice && best < 0) parts.push(`No rate qualifies under the rule ${choice.rule} at step ${choice.step}. `);
    else if (choice && best === run.rate) {
      const edge = choice.edge[run.optimizer];
      parts.push(`Selected by the rule ${choice.rule} at step ${choice.step}${edge ? ` (${edge})` : ""}. `);
    } else if (choice && !choice.admitted[run.optimizer][run.rate]) parts.push(`Not admitted by the rule ${choice.rule}. `);
    if (limit.beyond !== null) parts.push(`Some curve rises to ${shown(limit.beyond)}, beyond the axis. `);
    return parts;
  }

  /** What follows the step: the line in the charts, and the table of values. */
  at() {
    const { data, state } = this;
    const step = data.steps[state.step];
    this.find("step").value = state.step;
    this.find("step").setAttribute("aria-valuetext", `step ${step}`);
    this.root.querySelector(".at output").textContent = step;
    for (const i of this.shown) {
      if (this.charts[i].view) this.charts[i].view.signal("at", step).runAsync();
    }
    this.root.querySelector(".values").replaceChildren(this.values(step));
  }

  values(step) {
    const { data, state } = this;
    const about = data.buckets[state.runs[0].over] ?? {};
    const number_ = Math.max(...this.shown.map((i) => this.curves[i].buckets.length));
    const rows = Array.from({ length: number_ }, (_, b) => b);
    const loss = (i) => ({
      name: `loss of ${LETTERS[i]}`,
      number: true,
      of: (b) => number((b < 0 ? this.curves[i].overall : this.curves[i].buckets[b] ?? [])[state.step]?.mean ?? null),
    });
    const columns = [
      { name: "bucket", of: (b) => (b < 0 ? "all" : { text: about.names?.[b] ?? String(b + 1), value: b, swatch: data.colours[b] }) },
      ...this.shown.map(loss),
    ];
    if (about.classes) columns.push({ name: "classes", number: true, of: (b) => (b < 0 ? "" : number(about.classes[b])) });
    if (about.mass) columns.push({ name: "share of examples", number: true, of: (b) => (b < 0 ? "" : number(about.mass[b], percent(about.mass[b]))) });
    if (about.unigram) columns.push({ name: "loss of knowing frequencies only", number: true, of: (b) => (b < 0 ? "" : number(about.unigram[b])) });
    const head = `Losses at step ${step}, in nats. ${this.shown.map((i) => `${LETTERS[i]}: ${this.name(state.runs[i])}`).join(". ")}.`;
    return table(head, columns, [-1, ...rows]);
  }

  hover(i, event) {
    const { data, state } = this;
    if (!this.charts[i].view) return;
    state.step = nearest(data.steps, this.charts[i].under(event));
    this.at();
    const lines = [[null, `step ${data.steps[state.step]}, run ${LETTERS[i]}`], [null, `all  ${shown(this.curves[i].overall[state.step]?.mean)}`]];
    this.curves[i].buckets.forEach((row, b) => lines.push([data.colours[b], shown(row[state.step]?.mean)]));
    showTip(event, lines);
  }

  /** Loss against learning rate, for every optimizer at the horizon of the rule. */
  renderRates() {
    const { data, state } = this;
    const over = state.runs[0].over;
    const place = this.root.querySelector(".rates");
    const optimizers = optimizersOf(data, over);
    const choice = this.choice(over);
    const horizon = choice ? data.steps.indexOf(choice.step) : state.step;
    const kind = data.kinds[state.kind];
    this.points = optimizers.flatMap((o) =>
      ratesOf(data, over, o).map((rate) => {
        const runs = runsAt(data, over, o, rate);
        const loss = mean(runs.map((run) => kind.all[run]?.[horizon] ?? null));
        const gone = diverged(data, runs) || loss === null;
        const look = data.optimizers[o];
        return {
          optimizer: o, rate: data.rates[rate], place: rate, diverged: gone,
          loss: loss !== null && state.logy && !(loss > 0) ? null : loss,
          admitted: !choice || Boolean(choice.admitted[o][rate]), chosen: choice?.best[o] === rate,
          colour: look.colour, dash: look.dashed ? [6, 4] : [1, 0], runs,
        };
      }),
    ).filter((point) => point.rate !== null && point.rate > 0);
    place.hidden = new Set(this.points.map((point) => point.rate)).size < 2;
    if (place.hidden) return Promise.resolve();
    const losses = this.points.map((point) => point.loss).filter((loss) => loss !== null);
    const start = mean(this.points.flatMap((point) => point.runs.map((run) => kind.all[run]?.[0] ?? null)));
    const largest = losses.length ? Math.max(...losses) : 1;
    const most = state.whole || state.logy || start === null ? largest : Math.min(largest, EXPLODED * start);
    const bottom = state.logy ? Math.min(...losses, most) / 1.2 : Math.min(0, ...losses);
    const top = (most > bottom ? most : bottom + 1) * (state.logy ? 1.2 : 1.05);
    for (const point of this.points) point.height = point.loss === null ? top : point.loss;
    const where = data.over ? ` (${data.over.name} ${data.over.values[over]})` : "";
    const step = choice ? choice.step : data.steps[state.step];
    const words = `Loss at step ${step}${where}. Filled: admitted by the rule; hollow: not; cross: diverged; ring: selected. A and B are the runs above.`;
    place.querySelector(".rates-words").textContent = words;
    this.legend(optimizers);
    this.ratesTable(step);
    const shownRuns = this.shown.map((i) => ({ rate: data.rates[state.runs[i].rate], letter: LETTERS[i], over: state.runs[i].over }));
    return this.rates.draw({
      rows: { points: this.points, shown: shownRuns.filter((one) => one.over === over && one.rate > 0) },
      signals: { bottom, top },
      types: { y: state.logy ? "log" : "linear" },
      titles: { y: `${kind.name} loss (nats)` },
      words: `Loss against learning rate for ${optimizers.length} optimizers. The values are in the table below.`,
    });
  }

  legend(optimizers) {
    this.root.querySelector(".legend").replaceChildren(
      ...optimizers.map((o) => {
        const look = this.data.optimizers[o];
        const line = element("span", { class: look.dashed ? "line dashed" : "line", "aria-hidden": "true" });
        line.style.borderTopColor = look.colour;
        return element("li", {}, line, look.label);
      }),
    );
  }

  ratesTable(step) {
    const { data } = this;
    const columns = [
      { name: "optimizer", of: (point) => data.optimizers[point.optimizer].label },
      { name: "learning rate", number: true, of: (point) => number(point.rate) },
      { name: `loss at step ${step}`, number: true, of: (point) => number(point.loss) },
      { name: "", of: (point) => [point.chosen && "selected", point.diverged && "diverged", !point.admitted && "not admitted"].filter(Boolean).join(", ") },
      { name: "seeds", of: (point) => point.runs.map((run) => data.seeds[data.runs[run][3]]).join(", ") },
    ];
    columns[3].name = "what the rule says";
    this.root.querySelector(".rates .table").replaceChildren(
      table("Loss by learning rate, in nats", columns, this.points, {
        sorted: this.ratesSorted ?? null,
        onSort: (sorted) => {
          this.ratesSorted = sorted;
          this.ratesTable(step);
        },
      }),
    );
  }

  hoverRate(event) {
    if (!this.rates.view || !this.points.length) return;
    const box = this.rates.place.querySelector("svg").getBoundingClientRect();
    const [left, top] = this.rates.view.origin();
    const [x, y] = ["x", "y"].map((name) => this.rates.view.scale(name));
    const far = (point) => Math.hypot(x(point.rate) - (event.clientX - box.left - left), y(point.height) - (event.clientY - box.top - top));
    const point = this.points.reduce((a, b) => (far(b) < far(a) ? b : a));
    if (far(point) > 40) return hideTip();
    const look = this.data.optimizers[point.optimizer];
    return showTip(event, [
      [look.colour, look.label],
      [null, `learning rate ${shown(point.rate)}`],
      [null, `loss ${shown(point.loss)}${point.diverged ? ", diverged" : ""}`],
      [null, seedWords(this.data, point.runs)],
    ]);
  }
}

/** All runs of the optimizer and rate of a panel, of whatever seed. */
function runsOfRate(data, run) {
  return data.runs.map((_, i) => i).filter((i) => data.runs[i].slice(0, 3).every((place, axis) => place === [run.over, run.optimizer, run.rate][axis]));
}

/** The options of a select; what was there goes. */
function options(select, names, values = names.map((_, i) => i)) {
  const same = select.options.length === names.length && names.every((name, i) => select.options[i].textContent === name);
  if (same) return;
  select.replaceChildren(...names.map((name, i) => element("option", { value: String(values[i]) }, name)));
}

function showTip(event, lines) {
  const tip = document.querySelector(".tip");
  tip.replaceChildren(
    ...lines.flatMap(([colour, text], i) => {
      const swatch = element("span", { class: "swatch" });
      if (colour) swatch.style.background = colour;
      return [...(colour ? [swatch] : []), text, ...(i < lines.length - 1 ? ["\n"] : [])];
    }),
  );
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 8, innerHeight - height - 4))}px`;
}

function hideTip() {
  document.querySelector(".tip").hidden = true;
}
