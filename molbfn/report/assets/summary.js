// The file as a whole: headline figures, all figures, distributions, what fails.

const HEADLINES = ["connected_validity", "molecule_stability", "atom_stability", "valid_unique"];
// shown where their protocols ran
const SLOW_HEADLINES = { physics_below_5: "ΔE below 5 kcal/mol", posebusters_valid: "All tests of PoseBusters" };
const several = data.files.length > 1;

function protocolChoice() {
  const choice = el("select", { id: "protocol", onchange: (event) => setProtocol(event.target.value) },
    Object.entries(PROTOCOLS).map(([name, text]) => el("option", { value: name, selected: name === state.protocol }, text)));
  const without = data.files.filter((_, file) => !statesBonds(file)).map((file) => file.name);
  const note = without.length > 0 && ` No bonds are stated in ${without.join(", ")}: only distances can judge ${without.length > 1 ? "these" : "it"}.`;
  return el("p", { class: "choice" }, el("label", { for: "protocol" }, "Judged by "), choice,
    note && el("span", { class: "quiet" }, note));
}

function headlines(section) {
  const box = el("div", { class: "headlines" });
  section.append(protocolChoice(), box);
  const draw = () => {
    const prefix = state.protocol === "bonds" ? "bonds_" : "";
    const novelty = data.files[0].metrics.filter((m) => m.protocol === state.protocol && m.name.startsWith(`${prefix}novelty`));
    const names = [...HEADLINES.map((name) => prefix + name), ...novelty.slice(0, 1).map((m) => m.name), ...Object.keys(SLOW_HEADLINES)];
    box.replaceChildren(...names.map(headline).filter(Boolean));
  };
  onProtocol(draw);
  draw();
}

function headline(name) {
  const found = data.files.map((file) => file.metrics.find((metric) => metric.name === name));
  const known = found.find(Boolean);
  if (!known) return null;
  return el("div", { class: "headline" },
    el("h3", {}, SLOW_HEADLINES[name] || known.label),
    found.map((metric, file) => metric && el("div", { class: "figure" },
      several && el("span", { class: "name" }, swatch(file), data.files[file].name),
      figureValue(metric, file),
      el("span", { class: "ends" }, ends(metric), el("span", { class: "counts" }, ` · ${count(metric.numerator)} of ${count(metric.denominator)}`)),
      intervalBar(metric, file))),
    el("p", { class: "definition" }, known.definition));
}

function figureValue(metric, file) {
  if (metric.protocol === "bonds" && !statesBonds(file)) return el("span", { class: "ends" }, "states no bonds; each molecule counts as failed");
  return el("span", { class: "value" }, percent(metric.value), metric.value != null && el("span", { class: "unit" }, " %"));
}

function ends(metric) {
  return metric.low == null ? "not defined" : `${percent(metric.low)} – ${percent(metric.high)}`;
}

function allFigures(section) {
  const rows = new Map();
  data.files.forEach((file, index) => {
    for (const metric of file.metrics) row(rows, metric, index, "share");
    for (const quantity of file.quantities) row(rows, quantity, index, "quantity");
  });
  const body = el("tbody");
  let protocol = null;
  for (const { of, kind, cells } of rows.values()) {
    if (of.protocol !== protocol) {
      protocol = of.protocol;
      body.append(el("tr", { class: "group" }, el("th", { colspan: 1 + data.files.length, scope: "colgroup" }, protocol,
        PROTOCOLS[protocol] && el("span", { class: "quiet" }, ` by the ${PROTOCOLS[protocol]}`.replace("the EDM", "EDM")))));
    }
    body.append(el("tr", {},
      el("th", { scope: "row" }, el("details", {}, el("summary", {}, of.label), el("p", {}, of.definition,
        of.interval ? ` Interval: 95 %, ${of.interval}.` : ""))),
      data.files.map((_, index) => el("td", {}, kind === "share" ? shareCell(cells[index]) : quantityCell(cells[index])))));
  }
  section.append(el("details", { class: "all" },
    el("summary", {}, `All ${rows.size} figures with 95 % intervals, counts and definitions`),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All figures" },
      el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Figure"),
        data.files.map((file, index) => el("th", { scope: "col" }, several && swatch(index), file.name)))), body))));
}

function row(rows, of, index, kind) {
  if (!rows.has(of.name)) rows.set(of.name, { of, kind, cells: [] });
  rows.get(of.name).cells[index] = of;
}

function shareCell(metric) {
  if (!metric) return "–";
  return [el("b", {}, metric.value == null ? "–" : `${percent(metric.value, 2)} %`), el("small", {}, metric.low == null ? "–" : `${percent(metric.low, 2)} – ${percent(metric.high, 2)}`),
    el("small", {}, `${count(metric.numerator)} / ${count(metric.denominator)}`)];
}

function quantityCell(quantity) {
  if (!quantity) return "–";
  return [el("b", {}, number(quantity.value) + (quantity.value != null && quantity.unit ? ` ${quantity.unit}` : "")),
    el("small", {}, quantity.low == null ? "–" : `${number(quantity.low)} – ${number(quantity.high)}`),
    el("small", {}, `${count(quantity.count)} / ${count(quantity.given)}`)];
}

const GROUPS = [
  ["Size, composition and properties", () => true],
  ["Bond lengths", (name) => name.startsWith("bond_length")],
  ["Angles", (name) => name.startsWith("angle")],
  ["Torsions", (name) => name.startsWith("torsion")],
];

function distributions(section) {
  const groups = new Map(GROUPS.map(([title]) => [title, new Map()]));
  data.files.forEach((file, index) => {
    for (const d of file.distributions) {
      const [title] = GROUPS.slice(1).find(([, test]) => test(d.name)) || GROUPS[0];
      const group = groups.get(title);
      if (!group.has(d.name)) group.set(d.name, []);
      group.get(d.name).push({ d, file: index });
    }
  });
  section.append(el("p", { class: "legend" },
    several ? data.files.map((file, index) => el("span", {}, swatch(index), file.name)) : el("span", {}, swatch(0), "share of the values"),
    data.reference ? el("span", {}, el("span", { class: "swatch line", "aria-hidden": "true" }), `reference: ${data.reference}`)
      : el("span", { class: "quiet" }, "no reference given (--reference)")));
  for (const [title, group] of groups) {
    if (!group.size) continue;
    const box = el("div", { class: "charts" });
    const draw = () => box.childElementCount || box.append(...[...group.values()].map(chartCard));
    if (title === GROUPS[0][0]) {
      draw();
      section.append(box);
    } else {
      section.append(el("details", { class: "all", ontoggle: draw }, el("summary", {}, `${title} (${group.size})`), box));
    }
  }
}

function chartCard(sets) {
  const { d } = sets[0];
  return el("figure", {},
    el("figcaption", {}, el("b", {}, d.label), d.unit && el("span", { class: "quiet" }, ` ${d.unit}`)),
    distributionChart(sets),
    el("p", { class: "quiet distance" }, sets.map(({ d: own, file }) => el("span", { title: own.distance_kind },
      several && swatch(file),
      own.distance == null ? `${count(own.count)} values` : `${distanceName(own)} ${number(own.distance)}${own.unit && own.distance_kind !== "total variation" ? ` ${own.unit}` : ""}`))));
}

function distanceName(d) {
  return d.distance_kind === "total variation" ? "total variation" : "Wasserstein";
}

function failures(section) {
  const box = el("div");
  section.append(box);
  const draw = () => {
    const failed = data.cards.filter((card) => status(card) !== "stable");
    box.replaceChildren(el("p", {}, failureSummary(failed)), ...(failed.length ? [failureTable(failed)] : []));
  };
  onProtocol(draw);
  draw();
}

function failureSummary(failed) {
  const shown = data.cards.length;
  const given = data.files.reduce((sum, file) => sum + file.given, 0);
  const among = shown < given ? `the first ${count(shown)} of ${count(given)} records` : plural(shown, "record");
  if (!failed.length) return `Nothing fails among ${among}: all are valid, in one piece, and every atom has a known valence.`;
  return `${count(failed.length)} of ${among} ${failed.length === 1 ? "is" : "are"} not valid, in one piece and with a known valence at every atom. ` +
    "Each is counted once, by its first reason; choose a row to see its molecules.";
}

function failureTable(failed) {
  const kinds = new Map();
  for (const card of failed) {
    const [first] = reasons(card);
    const kind = first ? first.kind : status(card);
    const key = `${status(card)}\n${kind}`;
    if (!kinds.has(key)) kinds.set(key, { kind, status: status(card), cards: [] });
    kinds.get(key).cards.push(card);
  }
  const ordered = [...kinds.values()].sort((a, b) => b.cards.length - a.cards.length || STATUS_ORDER.indexOf(b.status) - STATUS_ORDER.indexOf(a.status));
  const most = ordered[0].cards.length;
  const rows = ordered.map((found) => el("tr", {},
    el("td", {}, pill(found.status)),
    el("td", { class: "why" }, el("button", { type: "button", class: "link", onclick: () => showFailure(found) }, found.kind)),
    data.files.map((_, file) => el("td", { class: "number" }, count(found.cards.filter((card) => card.f === file).length))),
    el("td", { class: "bars", "aria-hidden": "true" }, el("span", { class: `bar-line ${found.status}`, style: `width:${(100 * found.cards.length) / most}%` }))));
  const table = el("table", { class: "failures" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Status"), el("th", { scope: "col" }, "First reason"),
      data.files.map((file, index) => el("th", { scope: "col", class: "number" }, several ? [swatch(index), file.name] : "Molecules")), el("td", { class: "bars" }))),
    el("tbody", {}, rows));
  const wrapper = el("div", { class: "scroll" }, table);
  if (rows.length > 8) {
    const rest = rows.slice(8);
    for (const line of rest) line.hidden = true;
    const more = el("button", { type: "button", class: "plain", onclick: () => {
      for (const line of rest) line.hidden = false;
      more.remove();
    } }, `Show ${rest.length} more reasons`);
    return el("div", {}, wrapper, more);
  }
  return wrapper;
}
