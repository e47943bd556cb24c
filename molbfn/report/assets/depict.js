// Plane drawings from depiction coordinates, bonds and charges: no stereochemistry.

const SYMBOLS = (
  "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se " +
  "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy " +
  "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf " +
  "Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split(" ");
const UNIT = 24; // pixels of one angstrom on the plane; a bond is 1.5 long
const FONT = 13;

function charges(card) {
  const found = new Map();
  const flat = card.c || [];
  for (let k = 0; k < flat.length; k += 2) found.set(flat[k], flat[k + 1]);
  return found;
}

function chargeText(charge) {
  if (!charge) return "";
  return (Math.abs(charge) > 1 ? Math.abs(charge) : "") + (charge > 0 ? "+" : "−");
}

function drawing(card, marked = []) {
  const layout = card.d;
  if (!layout) return null;
  const place = new Map(layout.a.map((atom, k) => [atom, k]));
  const charged = charges(card);
  const points = layout.a.map((_, k) => [(layout.p[2 * k] * UNIT) / 100, (-layout.p[2 * k + 1] * UNIT) / 100]);
  const neighbours = points.map(() => []);
  const bonds = [];
  for (let k = 0; k < card.b.length; k += 3) {
    const i = place.get(card.b[k]);
    const j = place.get(card.b[k + 1]);
    if (i === undefined || j === undefined) continue;
    bonds.push([i, j, card.b[k + 2]]);
    neighbours[i].push(j);
    neighbours[j].push(i);
  }
  const atoms = layout.a.map((atom, k) =>
    atomLabel(card.z[atom], layout.h[k], charged.get(atom) || 0, points, neighbours, k));
  const flagged = new Set(marked.map((atom) => place.get(atom)));
  const halos = points
    .filter((_, k) => flagged.has(k))
    .map(([x, y]) => svg("circle", { class: "halo", cx: x.toFixed(1), cy: y.toFixed(1), r: 13 }));
  const path = bonds.map((bond) => bondPath(bond, points, atoms, neighbours)).join("");
  return svg("svg", { class: "drawing", viewBox: viewBox(points, atoms), "aria-hidden": "true" },
    halos, svg("path", { class: "bonds", d: path }), atoms.map((atom) => atom && atom.node));
}

function viewBox(points, atoms) {
  const xs = points.flatMap(([x], k) => [x - (atoms[k] ? atoms[k].left : 0), x + (atoms[k] ? atoms[k].right : 0)]);
  const ys = points.map(([, y]) => y);
  const [left, top] = [Math.min(...xs) - 14, Math.min(...ys) - 16];
  let [width, height] = [Math.max(...xs) - left + 14, Math.max(...ys) - top + 16];
  // small molecules keep the size of others
  const [padX, padY] = [Math.max(0, 190 - width) / 2, Math.max(0, 150 - height) / 2];
  return [left - padX, top - padY, width + 2 * padX, height + 2 * padY].map((v) => v.toFixed(1)).join(" ");
}

// A carbon within a chain needs no label; hydrogens go to the side that is free.
function atomLabel(z, hydrogens, charge, points, neighbours, k) {
  if (z === 6 && !charge && neighbours[k].length > 0 && !(neighbours[k].length === 1 && hydrogens > 3)) return null;
  const symbol = SYMBOLS[z];
  const [x, y] = points[k];
  const pull = neighbours[k].reduce((sum, j) => sum + points[j][0] - x, 0);
  const leftward = hydrogens > 0 && neighbours[k].length > 0 && pull > 4;
  const width = (text) => text.length * FONT * 0.68;
  const core = width(symbol);
  const hydrogenText = hydrogens ? "H" : "";
  const subscript = hydrogens > 1 ? String(hydrogens) : "";
  const side = hydrogens ? width("H") + (subscript ? FONT * 0.42 * subscript.length : 0) : 0;
  const mark = chargeText(charge);
  const parts = [];
  if (leftward) parts.push(...hydrogenParts(hydrogenText, subscript));
  parts.push(svg("tspan", {}, symbol));
  if (!leftward) parts.push(...hydrogenParts(hydrogenText, subscript));
  if (mark) parts.push(svg("tspan", { class: "small", dy: -5 }, mark));
  const node = svg("text", {
    class: `atom z${z}`,
    x: (leftward ? x + core / 2 + (mark ? FONT * 0.45 * mark.length : 0) : x - core / 2).toFixed(1),
    y: (y + FONT * 0.36).toFixed(1),
    "text-anchor": leftward ? "end" : "start",
  }, parts);
  const more = mark ? FONT * 0.5 * mark.length : 0;
  return {
    node,
    reach: core / 2 + 4,
    left: core / 2 + (leftward ? side : 0),
    right: core / 2 + (leftward ? 0 : side) + more,
  };
}

function hydrogenParts(text, subscript) {
  if (!text) return [];
  if (!subscript) return [svg("tspan", {}, text)];
  return [svg("tspan", {}, text), svg("tspan", { class: "small", dy: 4 }, subscript),
    svg("tspan", { dy: -4 }, "\u200b")];
}

function bondPath([i, j, order], points, atoms, neighbours) {
  let [a, b] = [points[i], points[j]];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const along = [(b[0] - a[0]) / length, (b[1] - a[1]) / length];
  const across = [-along[1], along[0]];
  const clip = (atom, direction) => {
    if (!atom) return 0;
    // labels with hydrogens are wider on one side
    const side = direction > 0.35 ? atom.right : direction < -0.35 ? atom.left : 0;
    return Math.min(length * 0.45, Math.max(atom.reach, Math.abs(direction) * side + 2));
  };
  const [start, end] = [clip(atoms[i], along[0]), clip(atoms[j], -along[0])];
  const line = (offset, trim) => {
    const p = (point, sign, cut) => [
      (point[0] + sign * along[0] * cut + across[0] * offset).toFixed(1),
      (point[1] + sign * along[1] * cut + across[1] * offset).toFixed(1),
    ].join(" ");
    return `M${p(a, 1, Math.max(start, trim))}L${p(b, -1, Math.max(end, trim))}`;
  };
  if (order === 1) return line(0, 0);
  if (order === 3) return line(0, 0) + line(4, 2) + line(-4, 2);
  // the second line stands on the side with more neighbours: inside a ring
  let side = 0;
  for (const [atom, other] of [[i, j], [j, i]]) {
    for (const k of neighbours[atom]) {
      if (k === other) continue;
      const away = (points[k][0] - points[atom][0]) * across[0] + (points[k][1] - points[atom][1]) * across[1];
      side += Math.sign(Math.round(away));
    }
  }
  const terminal = neighbours[i].length === 1 || neighbours[j].length === 1;
  if (side === 0 || (terminal && neighbours[i].length + neighbours[j].length !== 3)) return line(2.4, 0) + line(-2.4, 0);
  return line(0, 0) + line(4.4 * Math.sign(side), 4);
}
