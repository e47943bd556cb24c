// All molecules as cards: sorted, filtered, drawn when they come into sight.

const gallery = {
  sort: "record", descending: false, statuses: new Set(STATUS_ORDER), file: "", text: "", column: "", low: null,
  high: null, kind: null, mode: "2d", shown: [], nodes: new Map(), list: null, observer: null,
};

function buildGallery(section) {
  gallery.list = el("ul", { id: "cards", class: "cards" });
  gallery.observer = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) drawCard(entry.target);
  }, { rootMargin: "300px" });
  section.append(toolbar(), el("p", { id: "shown", role: "status", "aria-live": "polite" }), gallery.list);
  onProtocol(() => {
    gallery.kind = null;
    forgetPictures();
    for (const node of gallery.nodes.values()) node.replaceChildren();
    statusChoice();
    arrange();
  });
  statusChoice();
  arrange();
}

function toolbar() {
  const option = (value, text) => el("option", { value }, text);
  const label = ({ label: text, unit }) => (unit ? `${text}, ${unit}` : text);
  const columns = data.columns.map((column, k) => option(String(k), label(column)));
  const change = (name) => (event) => {
    gallery[name] = event.target.value;
    arrange();
  };
  const limit = (name) => (event) => {
    gallery[name] = event.target.value === "" ? null : Number(event.target.value);
    arrange();
  };
  const direction = el("button", { type: "button", id: "direction", class: "plain", "aria-label": "Sort order: ascending", onclick: () => {
    gallery.descending = !gallery.descending;
    direction.textContent = gallery.descending ? "↓" : "↑";
    direction.setAttribute("aria-label", `Sort order: ${gallery.descending ? "descending" : "ascending"}`);
    arrange();
  } }, "↑");
  return el("form", { class: "toolbar", onsubmit: (event) => event.preventDefault() },
    field("Sort by", "sort", el("span", { class: "pair" }, el("select", { id: "sort", onchange: change("sort") },
      option("record", "Order in the file"), option("status", "Validity"), columns.map((node) => node.cloneNode(true))), direction)),
    several && field("File", "file", el("select", { id: "file", onchange: change("file") },
      option("", "All"), data.files.map((file, k) => option(String(k), file.name)))),
    field("Find", "text", el("input", { id: "text", type: "search", placeholder: "title, formula, SMILES", oninput: change("text") })),
    field("Range of", "column", el("span", { class: "pair" }, el("select", { id: "column", onchange: change("column") }, option("", "–"), columns),
      el("input", { id: "low", type: "number", step: "any", placeholder: "from", "aria-label": "from", oninput: limit("low") }),
      el("input", { id: "high", type: "number", step: "any", placeholder: "to", "aria-label": "to", oninput: limit("high") }))),
    el("fieldset", { class: "modes" }, el("legend", {}, "Show as"), ["2d", "3d"].map((mode) => el("label", {},
      el("input", { type: "radio", name: "mode", value: mode, checked: mode === "2d", onchange: () => setMode(mode) }), mode.toUpperCase()))),
    el("fieldset", { id: "statuses", class: "statuses" }));
}

function field(label, id, control) {
  return el("div", { class: "field" }, el("label", { for: id }, label), control);
}

function statusChoice() {
  const totals = Object.fromEntries(STATUS_ORDER.map((name) => [name, 0]));
  for (const card of data.cards) totals[status(card)] += 1;
  gallery.statuses = new Set(STATUS_ORDER);
  byId("statuses").replaceChildren(el("legend", {}, "Validity"), ...STATUS_ORDER.filter((name) => totals[name]).map((name) =>
    el("label", { class: "chip", title: data.statuses[name] },
      el("input", { type: "checkbox", value: name, checked: true, onchange: (event) => {
        if (event.target.checked) gallery.statuses.add(name);
        else gallery.statuses.delete(name);
        arrange();
      } }), pill(name), el("span", { class: "quiet" }, count(totals[name])))));
}

function setMode(mode) {
  gallery.mode = mode;
  gallery.list.classList.toggle("solid", mode === "3d");
  for (const node of gallery.nodes.values()) node.replaceChildren();
  arrange();
}

function showFailure(found) {
  gallery.kind = found;
  arrange();
  byId("molecules").scrollIntoView();
}

function passes(card) {
  if (!gallery.statuses.has(status(card))) return false;
  if (gallery.file !== "" && card.f !== Number(gallery.file)) return false;
  if (gallery.kind && !gallery.kind.cards.includes(card)) return false;
  if (gallery.column !== "" && (gallery.low != null || gallery.high != null)) {
    const value = card.v[Number(gallery.column)];
    if (value == null) return false;
    if (gallery.low != null && value < gallery.low) return false;
    if (gallery.high != null && value > gallery.high) return false;
  }
  const wanted = gallery.text.trim().toLowerCase();
  return !wanted || [cardName(card), card.m, card.s].some((text) => text && text.toLowerCase().includes(wanted));
}

function sortValue(card) {
  if (gallery.sort === "record") return null;
  if (gallery.sort === "status") return STATUS_ORDER.indexOf(status(card));
  return card.v[Number(gallery.sort)];
}

// Without a value last, whichever way it is sorted; equal ones in the order of the file.
function compareCards(a, b) {
  const [x, y] = [sortValue(a), sortValue(b)];
  if (gallery.sort !== "record" && x !== y) {
    if (x == null) return 1;
    if (y == null) return -1;
    return gallery.descending ? y - x : x - y;
  }
  const order = a.f - b.f || a.i - b.i;
  return gallery.sort === "record" && gallery.descending ? -order : order;
}

function arrange() {
  gallery.shown = data.cards.filter(passes).sort(compareCards);
  gallery.list.replaceChildren(...gallery.shown.map(nodeOf));
  for (const node of gallery.list.children) if (node.childElementCount) refreshValue(node);
  const clear = gallery.kind && el("button", { type: "button", class: "link", onclick: () => {
    gallery.kind = null;
    arrange();
  } }, "show all again");
  byId("shown").replaceChildren(`${count(gallery.shown.length)} of ${plural(data.cards.length, "molecule")}`, ...measuredNote(),
    ...(gallery.kind ? [`, only “${gallery.kind.kind}” · `, clear] : []));
}

// What is sorted or filtered by may be known of a sample only.
function measuredNote() {
  const chosen = [gallery.column, gallery.sort].find((k) => data.cards.some((card) => card.n && data.columns[Number(k)]?.key in card.n));
  if (chosen === undefined) return [];
  const known = data.cards.filter((card) => card.v[Number(chosen)] != null).length;
  return [` · ${data.columns[Number(chosen)].label} is known of ${count(known)}`];
}

function nodeOf(card) {
  let node = gallery.nodes.get(card);
  if (!node) {
    node = el("li", { class: "card" });
    node.card = card;
    gallery.nodes.set(card, node);
    gallery.observer.observe(node);
  }
  if (!node.childElementCount) {
    // seen anew, so that it is drawn again if it is in sight
    gallery.observer.unobserve(node);
    gallery.observer.observe(node);
  }
  return node;
}

function drawCard(node) {
  if (node.childElementCount) return;
  const { card } = node;
  const why = reasons(card);
  const picture = el("div", { class: "picture" });
  node.replaceChildren(picture,
    el("button", { type: "button", class: "name", onclick: () => openDetail(card) }, cardName(card)),
    el("p", { class: "facts" }, several && swatch(card.f), el("span", {}, card.m || ""), el("span", { class: "sorted" })),
    el("p", { class: "verdict" }, pill(status(card)), why.length > 0 && el("span", { class: "reason" }, why[0].text)));
  fillPicture(card, picture, why.flatMap((reason) => reason.atoms));
  refreshValue(node);
}

function fillPicture(card, picture, marked) {
  if (!card.z) {
    picture.append(el("p", { class: "quiet" }, "no molecule"));
    return;
  }
  const flat = gallery.mode === "2d" ? drawing(card, marked) : null;
  if (flat) picture.append(flat);
  else solidPicture(card, picture, marked);
  let moved = 0;
  picture.addEventListener("pointerdown", () => { moved = 0; });
  picture.addEventListener("pointermove", (event) => { moved += Math.abs(event.movementX) + Math.abs(event.movementY); });
  picture.addEventListener("click", () => { if (moved < 8) openDetail(card); });
}

// A still picture; under the mouse it turns into the live view, which can be rotated.
function solidPicture(card, picture, marked) {
  const image = el("img", { alt: `3D view of ${cardName(card)}`, draggable: "false" });
  picture.append(image);
  requestPicture(card, image);
  picture.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse") return;
    live.moveTo(picture);
    live.show(card, { marked });
    live.moveTo(picture);
  });
}

function refreshValue(node) {
  const column = data.columns[Number(gallery.sort)];
  const value = column && valueText(node.card, Number(gallery.sort));
  node.querySelector(".sorted").textContent = column ? `${column.label} ${value.split(":")[0]}` : `#${node.card.i}`;
}
