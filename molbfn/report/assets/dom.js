// Elements, numbers and the state that all parts share. Text from files is only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const PROTOCOLS = { bonds: "bonds and charges of the file", edm: "EDM’s distance table" };
const STATUS_ORDER = Object.keys(data.statuses);

function statesBonds(file) {
  return data.cards.some((card) => card.f === file && card.k === "bonds");
}

const state = {
  // the molecules' own bonds say most, but all files must have some to be compared by them
  protocol: data.files.every((_, file) => statesBonds(file)) ? "bonds" : "edm",
  listeners: [],
};

function onProtocol(listener) {
  state.listeners.push(listener);
}

function setProtocol(name) {
  state.protocol = name;
  for (const listener of state.listeners) listener();
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child != null && child !== false) node.append(child);
  }
  return node;
}

function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

function count(number) {
  return number.toLocaleString("en-US");
}

// Three significant digits, and no exponent for what people read without one.
function number(value) {
  if (value == null) return "–";
  if (Number.isInteger(value)) return Math.abs(value) < 1e9 ? count(value) : value.toExponential(2);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e5)) return value.toExponential(2);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// One molecule's own value: as many digits as it has, up to a sensible number.
function plainNumber(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
  return value.toLocaleString("en-US", { maximumFractionDigits: 3 });
}

// A card's value of a column as its file writes it, or why it has none.
function valueText(card, k) {
  const stated = card.a && card.a[data.columns[k].key];
  if (stated != null) return stated;
  if (card.v[k] != null) return plainNumber(card.v[k]);
  return (card.n && card.n[data.columns[k].key]) || "–";
}

// Never 100 or 0 for what is not exactly that.
function percent(share, digits = 1) {
  if (share == null) return "–";
  const text = (100 * share).toFixed(digits);
  if (share < 1 && Number(text) === 100) return digits < 2 ? percent(share, digits + 1) : ">99.99";
  if (share > 0 && Number(text) === 0) return digits < 2 ? percent(share, digits + 1) : "<0.01";
  return text;
}

function plural(total, word) {
  return `${count(total)} ${word}${total === 1 ? "" : "s"}`;
}

function fileColour(index) {
  return `var(--file-${(index % 6) + 1})`;
}

function swatch(index) {
  return el("span", { class: "swatch", style: `background:${fileColour(index)}`, "aria-hidden": "true" });
}

function status(card) {
  return card.j[state.protocol][0];
}

function reasons(card) {
  return card.j[state.protocol][1].map(([text, kind, atoms]) => ({ text, kind, atoms }));
}

function pill(name) {
  return el("span", { class: `pill ${name}`, title: data.statuses[name] }, name);
}

function cardName(card) {
  return card.t || `record ${card.i}`;
}
