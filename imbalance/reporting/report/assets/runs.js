"use strict";

/*
 * Runs as the Python side packs them (curves.py). A run is [over, optimizer, rate, seed, diverged],
 * all but the last being places in the lists of labels. The losses of run r are kind.all[r][step]
 * and kind.buckets[r][bucket][step]; null is a loss that is not finite or was not measured.
 */

/** Places of the learning rates that an optimizer was run at, from small to large. */
function ratesOf(data, over, optimizer) {
  const found = new Set(data.runs.filter((run) => run[0] === over && run[1] === optimizer).map((run) => run[2]));
  return [...found].sort((a, b) => a - b);
}

/** Places of the optimizers that were run. */
function optimizersOf(data, over) {
  const found = new Set(data.runs.filter((run) => run[0] === over).map((run) => run[1]));
  return [...found].sort((a, b) => a - b);
}

/** Runs of one optimizer and rate: of one seed, or (seed null) fresh ones, or else those searched on. */
function runsAt(data, over, optimizer, rate, seed = null) {
  const all = [];
  data.runs.forEach((run, i) => {
    if (run[0] === over && run[1] === optimizer && run[2] === rate) all.push(i);
  });
  if (seed !== null) return all.filter((i) => data.runs[i][3] === seed);
  const fresh = all.filter((i) => data.fresh[data.runs[i][3]]);
  return fresh.length ? fresh : all;
}

/** Mean of numbers; null where one is missing, as where a run diverged. */
function mean(values) {
  return values.length && values.every((value) => value !== null)
    ? values.reduce((sum, value) => sum + value, 0) / values.length
    : null;
}

/** Mean, lowest and highest over runs at every step. `curves` is [run][step]. */
function overSeeds(curves) {
  const steps = curves.length ? curves[0].length : 0;
  return Array.from({ length: steps }, (_, t) => {
    const values = curves.map((curve) => curve[t]);
    const middle = mean(values);
    return middle === null
      ? { mean: null, low: null, high: null }
      : { mean: middle, low: Math.min(...values), high: Math.max(...values) };
  });
}

/** Curves of some runs: all examples, and every bucket. */
function curvesOf(kind, runs) {
  const number = runs.length ? kind.buckets[runs[0]].length : 0;
  return {
    overall: overSeeds(runs.map((run) => kind.all[run] ?? [])),
    buckets: Array.from({ length: number }, (_, b) => overSeeds(runs.map((run) => kind.buckets[run][b]))),
  };
}

/** Where a rule selects, the place of the rate; otherwise the middle of those that were run. */
function selectedRate(data, choice, over, optimizer) {
  const best = choice ? choice.best[optimizer] : -1;
  if (best >= 0) return best;
  const rates = ratesOf(data, over, optimizer);
  return rates[Math.floor((rates.length - 1) / 2)];
}

/** What a learning rate is called. */
function rateName(data, rate) {
  return data.rates[rate] === null ? "unknown" : shown(Number(data.rates[rate].toPrecision(3)));
}

/** Whether some of the runs diverged. */
function diverged(data, runs) {
  return runs.some((run) => data.runs[run][4]);
}

/** Which seeds some runs have, in words. */
function seedWords(data, runs) {
  const names = runs.map((run) => data.seeds[data.runs[run][3]]);
  return names.length === 1 ? `Seed ${names[0]}` : `Mean and range of seeds ${names.join(", ")}`;
}
