// Small charts as inline SVG: outlines of histograms, bars of categories, lines.

const CHART = { width: 300, height: 150, left: 8, right: 8, top: 16, bottom: 22 };

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) {
    found.push(Number(value.toPrecision(12)));
  }
  return found;
}

function frame(label) {
  const { width, height } = CHART;
  return svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

function axis(node, places) {
  const y = CHART.height - CHART.bottom;
  node.append(svg("line", { class: "axis", x1: CHART.left, x2: CHART.width - CHART.right, y1: y, y2: y }));
  for (const [x, text] of places) {
    node.append(svg("line", { class: "axis", x1: x, x2: x, y1: y, y2: y + 3 }));
    node.append(svg("text", { class: "tick", x, y: y + 14, "text-anchor": "middle" }, text));
  }
}

// How high the chart goes.
function ceiling(node, share) {
  node.append(svg("line", { class: "ceiling", x1: CHART.left, x2: CHART.width - CHART.right, y1: CHART.top, y2: CHART.top }));
  node.append(svg("text", { class: "tick", x: CHART.width - CHART.right, y: CHART.top - 3, "text-anchor": "end" }, `${percent(share)} %`));
}

// Several sets of one distribution: { shares, reference_shares, edges or labels } by file.
function distributionChart(sets) {
  const label = `${sets[0].d.label}: ${sets.map(({ d }) => `${count(d.count)} values`).join(", ")}`;
  const node = frame(label);
  if (sets[0].d.kind === "bins") binned(node, sets);
  else categories(node, sets);
  return node;
}

function widest(sets) {
  const compared = sets.filter(({ d }) => d.reference_shares);
  const span = ({ d }) => (d.kind === "bins" ? d.edges.length : d.labels.length);
  return compared.sort((a, b) => span(b) - span(a))[0];
}

function binned(node, sets) {
  const low = Math.min(...sets.map(({ d }) => d.edges[0]));
  const high = Math.max(...sets.map(({ d }) => d.edges[d.edges.length - 1]));
  const reference = widest(sets);
  const tallest = Math.max(...sets.flatMap(({ d }) => [...d.shares, ...(d.reference_shares || [])]));
  const x = (value) => CHART.left + ((value - low) / (high - low)) * (CHART.width - CHART.left - CHART.right);
  const floor = CHART.height - CHART.bottom;
  const y = (share) => floor - (share / tallest) * (floor - CHART.top);
  const outline = (edges, shares) => {
    let path = `M${x(edges[0]).toFixed(1)} ${floor}`;
    shares.forEach((share, k) => {
      path += `V${y(share).toFixed(1)}H${x(edges[k + 1]).toFixed(1)}`;
    });
    return `${path}V${floor}`;
  };
  for (const { d, file } of sets) {
    node.append(svg("path", {
      class: sets.length > 1 ? "outline" : "filled", style: `--colour:${fileColour(file)}`, d: outline(d.edges, d.shares),
    }));
  }
  if (reference) {
    node.append(svg("path", { class: "reference", d: outline(reference.d.edges, reference.d.reference_shares) }));
  }
  ceiling(node, tallest);
  axis(node, ticks(low, high, 5).map((value) => [x(value), plainNumber(value)]));
}

function categories(node, sets) {
  const order = new Intl.Collator("en", { numeric: true });
  const elements = sets[0].d.name === "elements";
  const labels = [...new Set(sets.flatMap(({ d }) => d.labels))];
  if (elements) labels.sort((a, b) => SYMBOLS.indexOf(a) - SYMBOLS.indexOf(b));
  else if (labels.every((text) => !Number.isNaN(Number(text)))) labels.sort((a, b) => Number(a) - Number(b));
  else labels.sort(order.compare);
  const reference = widest(sets);
  const value = (d, shares, text) => (d.labels.includes(text) ? shares[d.labels.indexOf(text)] : 0);
  const tallest = Math.max(...sets.flatMap(({ d }) => [...d.shares, ...(d.reference_shares || [])]));
  const floor = CHART.height - CHART.bottom;
  const height = (share) => (share / tallest) * (floor - CHART.top);
  const slot = (CHART.width - CHART.left - CHART.right) / labels.length;
  const bar = Math.min(26, (slot * 0.72) / sets.length);
  const places = labels.map((text, k) => {
    const middle = CHART.left + slot * (k + 0.5);
    sets.forEach(({ d, file }, n) => {
      const tall = height(value(d, d.shares, text));
      node.append(svg("rect", {
        class: "bar", style: `--colour:${fileColour(file)}`, x: (middle + (n - sets.length / 2) * bar).toFixed(1),
        y: (floor - tall).toFixed(1), width: (bar * 0.92).toFixed(1), height: tall.toFixed(1),
      }));
    });
    if (reference) {
      const tall = height(value(reference.d, reference.d.reference_shares, text));
      const half = (bar * sets.length) / 2 + 2;
      node.append(svg("path", {
        class: "reference", d: `M${middle - half} ${floor}v${-tall}h${2 * half}v${tall}`,
      }));
    }
    return [middle, text];
  });
  ceiling(node, tallest);
  const every = Math.ceil(labels.length / 14);
  axis(node, places.filter((_, k) => k % every === 0));
}

// A share with its interval on a line from 0 to 100 %.
function intervalBar(metric, file) {
  const node = svg("svg", { class: "interval", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  node.append(svg("line", { class: "track", x1: 0, x2: 100, y1: 4, y2: 4 }));
  if (metric.low != null) {
    const width = Math.max(0.8, 100 * (metric.high - metric.low));
    node.append(svg("rect", {
      class: "range", style: `--colour:${fileColour(file)}`, x: Math.min(99.2, 100 * metric.low), y: 0, width, height: 8,
    }));
  }
  return node;
}

// One number a frame, drawn over the frames' places along the slider.
function sparkline(values, label) {
  const top = Math.max(...values) || 1;
  const step = 100 / Math.max(1, values.length - 1);
  const line = values.map((v, k) => `${k ? "L" : "M"}${(k * step).toFixed(2)} ${(28 - (26 * v) / top).toFixed(2)}`).join("");
  return svg("svg", { class: "sparkline", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("path", { d: line }));
}
