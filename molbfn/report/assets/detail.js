// One molecule in a dialog: rotatable, with all that is known of it.

const detail = { card: null, labels: false };
const ROUTES = {
  file: "bonds of the file",
  table: "bonds by EDM’s distance table (the file has none)",
  none: "none (the file states none, and the molecule is large)",
  single: "bonds by covalent radii, for the picture only (the file has none)",
};

function openDetail(card) {
  detail.card = card;
  const dialog = byId("detail");
  const position = gallery.shown.indexOf(card);
  const step = (by) => () => {
    const next = gallery.shown[gallery.shown.indexOf(detail.card) + by];
    if (next) openDetail(next);
  };
  const stage = el("div", { class: "stage", tabindex: 0, role: "application", "aria-label": "3D view; arrow keys turn it" });
  dialog.replaceChildren(
    el("header", {},
      el("div", {}, el("h2", { id: "detail-title" }, cardName(card)),
        el("p", { class: "quiet" }, several && [swatch(card.f), data.files[card.f].name, " · "], `record ${card.i}`, card.m && ` · ${card.m}`)),
      el("div", { class: "pair" },
        el("button", { type: "button", class: "plain", id: "previous", disabled: position <= 0, "aria-label": "Previous molecule", onclick: step(-1) }, "←"),
        el("button", { type: "button", class: "plain", id: "next", disabled: position < 0 || position >= gallery.shown.length - 1, "aria-label": "Next molecule", onclick: step(1) }, "→"),
        el("button", { type: "button", class: "plain", "aria-label": "Close", onclick: () => dialog.close() }, "✕"))),
    el("div", { class: "columns" },
      card.z ? el("div", {}, stage, stageControls()) : null,
      el("div", {}, verdicts(card), card.z && drawing(card, markedAtoms(card)), properties(card))));
  if (!dialog.open) dialog.showModal();
  if (!card.z) return;
  turnByKeys(stage, detailView);
  detailView.moveTo(stage);
  showDetail();
  detailView.moveTo(stage);
}

// By the protocol chosen; where it finds nothing wrong, by the other.
function markedAtoms(card) {
  const other = Object.keys(PROTOCOLS).find((name) => name !== state.protocol);
  const chosen = reasons(card).length ? state.protocol : other;
  return card.j[chosen][1].flatMap(([, , atoms]) => atoms);
}

function showDetail(keep = false) {
  detailView.show(detail.card, { marked: markedAtoms(detail.card), labels: detail.labels, keep });
}

function stageControls() {
  const choose = el("select", { "aria-label": "Style", onchange: (event) => {
    detailView.style = event.target.value;
    showDetail(true);
  } }, Object.keys(STYLES).map((name) => el("option", { value: name, selected: name === detailView.style }, name)));
  const film = data.trajectories.findIndex((t) => t.f === detail.card.f && t.i === detail.card.i);
  return el("p", { class: "controls" }, choose,
    el("label", {}, el("input", { type: "checkbox", checked: detail.labels, onchange: (event) => {
      detail.labels = event.target.checked;
      showDetail(true);
    } }), " atom numbers"),
    film >= 0 && el("button", { type: "button", class: "plain", onclick: () => {
      byId("detail").close();
      chooseTrajectory(film);
      byId("trajectories").scrollIntoView();
    } }, "Trajectory"));
}

function verdicts(card) {
  return el("dl", { class: "verdicts" }, Object.entries(PROTOCOLS).map(([protocol, name]) => {
    const [found, why] = card.j[protocol];
    return [el("dt", {}, `By the ${name}`.replace("By the EDM", "By EDM")), el("dd", {}, pill(found),
      why.length ? el("ul", {}, why.slice(0, 12).map(([text]) => el("li", {}, text)),
        why.length > 12 && el("li", {}, `and ${why.length - 12} more`)) : el("span", { class: "quiet" }, ` ${data.statuses[found]}`))];
  }));
}

function properties(card) {
  const rows = data.columns.map((column, k) => [column.label, card.v[k] == null ? card.n && card.n[column.key] : valueText(card, k) + (column.unit ? ` ${column.unit}` : "")]);
  const shared = data.files[card.f].constants;
  const texts = Object.entries(card.p || {}).filter(([key]) => !(key in shared));
  const all = [["SMILES", card.s], ...rows, ...Object.entries(card.w || {}), ...texts, ["Bonds shown", ROUTES[card.r]]].filter(([, value]) => value != null && value !== "");
  if (!card.z) return null;
  return el("table", { class: "properties" }, el("tbody", {}, all.map(([key, value]) =>
    el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, value)))));
}
