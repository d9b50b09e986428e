"use strict";

const FIRST_CLASSES = 50;

/** The table of classes of an explorer: searched, sorted, and long only on demand. */
class ClassTable {
  constructor(place, data) {
    this.place = place;
    this.data = data;
    this.sorted = { column: 1, down: true };
    this.most = FIRST_CLASSES;
    this.words = "";
    place.querySelector('[name="class"]').addEventListener("input", (event) => {
      this.words = event.target.value.toLowerCase();
      this.render(...this.last);
    });
    place.querySelector(".more").addEventListener("click", () => {
      this.most = Infinity;
      this.render(...this.last);
    });
  }

  /** The classes of a value of over; `shown` are pairs of a letter and the runs of that panel. */
  render(over, shown) {
    this.last = [over, shown];
    const { data, place } = this;
    const about = data.classes[over];
    place.hidden = !about;
    if (!about) return;
    const rows = about.names.map((_, i) => i).filter((i) => about.names[i].toLowerCase().includes(this.words));
    const where = data.over ? ` of ${data.over.name} ${data.over.values[over]}` : "";
    const number_ = Math.min(rows.length, this.most);
    place.querySelector(".classes-words").textContent =
      `${about.total} classes${where}; ${number_} of ${rows.length} are shown. Click a head to sort.`;
    const onSort = (order) => {
      this.sorted = order;
      this.render(...this.last);
      place.querySelectorAll("th button")[order.column].focus();
    };
    const columns = this.columns(about, over, shown);
    if (this.sorted.column >= columns.length) this.sorted = { column: 1, down: true };
    place.querySelector(".table").replaceChildren(
      table("Classes", columns, rows, { sorted: this.sorted, most: this.most, onSort }),
    );
    place.querySelector(".more").hidden = rows.length <= this.most;
  }

  columns(about, over, shown) {
    const total = about.counts.reduce((sum, count) => sum + count, 0);
    const first = this.data.runs.findIndex((run) => run[0] === over);
    const loss = ([letter, runs]) => ({
      name: `loss of ${letter} at step ${about.step}`,
      number: true,
      of: (k) => number(mean(runs.map((run) => about.losses[run - first]?.[k] ?? null))),
    });
    return [
      { name: "class", of: (k) => about.names[k] },
      { name: "examples", number: true, of: (k) => number(about.counts[k]) },
      { name: "share", number: true, of: (k) => number(about.counts[k] / total, percent(about.counts[k] / total)) },
      { name: "bucket", number: true, of: (k) => this.bucket(about.buckets[k]) },
      ...(about.losses ? shown.map(loss) : []),
    ];
  }

  bucket(b) {
    return b < 0 ? { text: "none", value: null } : { text: String(b + 1), value: b, swatch: this.data.colours[b] };
  }
}
