"use strict";

const SPECS = JSON.parse(document.getElementById("specs").textContent);
const EXPLODED = 1.5; // times the first loss: runs beyond would flatten all others
const MARGIN = 1.03;

/** A Vega chart in an element, as wide as that; the words are for who cannot see it. */
class Chart {
  constructor(place, spec) {
    this.place = place;
    this.spec = spec;
    this.types = "";
    place.setAttribute("role", "img");
    new ResizeObserver(() => this.fit()).observe(place);
  }

  /** Draw rows by name of the data set, with signals and types of scales. */
  async draw({ rows, signals, types, titles, words, domain }) {
    this.place.setAttribute("aria-label", words);
    const key = JSON.stringify([types, titles, domain]);
    if (key !== this.types) {
      this.types = key;
      this.view?.finalize();
      const spec = structuredClone(this.spec);
      for (const scale of spec.scales) {
        if (types[scale.name]) scale.type = types[scale.name];
        if (domain?.[scale.name]) scale.domain = domain[scale.name];
        if (scale.type === "log" && scale.clamp === false) scale.clamp = true;
      }
      spec.axes.forEach((axis) => {
        axis.title = titles[axis.scale] ?? axis.title;
        if (types[axis.scale] === "log") axis.format = "~g";
      });
      // Rows belong to the first drawing: axes of nothing would be told as warnings.
      for (const data of spec.data) data.values = rows[data.name];
      for (const signal of spec.signals) signal.value = signals[signal.name];
      const inside = element("div");
      this.place.replaceChildren(inside);
      // `ast`: expressions are interpreted, so that the page need not be allowed to compile code.
      const options = { mode: "vega", renderer: "svg", actions: false, tooltip: false, hover: false, defaultStyle: false, ast: true };
      this.view = (await vegaEmbed(inside, spec, options)).view;
      this.view.width(this.width());
    } else {
      for (const [name, value] of Object.entries(signals)) this.view.signal(name, value);
      for (const [name, values] of Object.entries(rows)) this.view.data(name, values);
    }
    await this.view.runAsync();
    this.place.querySelector("svg")?.setAttribute("aria-hidden", "true");
  }

  width() {
    return Math.max(200, Math.floor(this.place.clientWidth));
  }

  /** As wide as its place is now. */
  fit() {
    if (this.view && this.place.clientWidth && this.view.width() !== this.width()) {
      this.view.width(this.width()).runAsync();
    }
  }

  /** The value of the horizontal axis under the pointer. */
  under(event) {
    const box = this.place.querySelector("svg").getBoundingClientRect();
    return this.view.scale("x").invert(event.clientX - box.left - this.view.origin()[0]);
  }
}

/** The place of the number that is nearest. */
function nearest(numbers, value) {
  let best = 0;
  numbers.forEach((number, i) => {
    if (Math.abs(number - value) < Math.abs(numbers[best] - value)) best = i;
  });
  return best;
}

/** Limits of the vertical axis that hold all curves, and the largest value that they leave out. */
function limits(curves, log, whole) {
  const rows = curves.flatMap((one) => [one.overall, ...one.buckets]);
  const values = rows.flat().flatMap((at) => [at.low, at.high]);
  const finite = values.filter((value) => value !== null && (!log || value > 0));
  if (!finite.length) return { bottom: log ? 0.1 : 0, top: 1, beyond: null };
  const largest = finite.reduce((a, b) => Math.max(a, b));
  const smallest = finite.reduce((a, b) => Math.min(a, b));
  const first = rows.map((row) => row[0]?.high ?? null).filter((value) => value !== null);
  const most = first.length ? EXPLODED * Math.max(...first) : largest;
  const top = whole || log || !(most > 0) ? largest : Math.min(largest, most);
  const beyond = largest > top ? largest : null;
  if (log) return { bottom: smallest / MARGIN, top: top * MARGIN, beyond };
  const bottom = Math.min(0, smallest);
  return { bottom, top: top > bottom ? top + (MARGIN - 1) * (top - bottom) : bottom + 1, beyond };
}

/** Rows of the curves of one panel. */
function curveRows(data, curves, { logx, logy, bottom }) {
  const drawn = (value) => (value === null || (logy && !(value > 0)) ? null : value);
  const low = (value) => (value === null ? null : logy ? Math.max(value, bottom) : value);
  const rows = [];
  const add = (into, at, t, more) => {
    const step = data.steps[t];
    if (logx && step <= 0) return;
    const value = drawn(at.mean);
    into.push({ step, mean: value, low: value === null ? null : low(at.low), high: at.high, ...more });
  };
  curves.buckets.forEach((row, bucket) => {
    row.forEach((at, t) => {
      if (measured(curves, t)) add(rows, at, t, { bucket, colour: data.colours[bucket] });
    });
  });
  const overall = [];
  curves.overall.forEach((at, t) => {
    if (measured(curves, t)) add(overall, at, t, {});
  });
  return { buckets: rows, overall };
}

/** Whether anything was measured at a step before the run ended; runs may have different steps. */
function measured(curves, t) {
  return curves.overall[t]?.mean != null || curves.buckets.some((row) => row[t].mean !== null);
}
