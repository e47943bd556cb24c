// 3D views by 3Dmol.js. Browsers allow few WebGL contexts, so one live view moves to where it is
// needed, and a second one, out of sight, takes pictures for the gallery.

const STYLES = {
  "ball and stick": { stick: { radius: 0.11 }, sphere: { scale: 0.24 } },
  sticks: { stick: { radius: 0.16 } },
  spheres: { sphere: { scale: 1 } },
};
const BAD_COLOUR = "#e0463a";

function background() {
  return getComputedStyle(document.documentElement).getPropertyValue("--canvas").trim();
}

class MoleculeView {
  constructor(className) {
    this.element = el("div", { id: `view-${className}`, class: `view ${className}` });
    this.viewer = null;
    this.broken = false;
    this.style = "ball and stick";
  }

  // Make the WebGL context when it is first needed; says whether there is one.
  ready() {
    if (this.viewer || this.broken) return !this.broken;
    try {
      this.viewer = $3Dmol.createViewer(this.element, { backgroundColor: background(), antialias: true });
      if (!this.viewer || !this.element.querySelector("canvas")) throw new Error("no canvas");
      this.viewer.setBackgroundColor(background());
    } catch (error) {
      this.broken = true;
      this.viewer = null;
      this.element.replaceChildren(el("p", { class: "quiet" }, "3D views need WebGL, which this browser does not offer here."));
    }
    return !this.broken;
  }

  // Show atoms { z, x, b }; keeps the camera if asked to.
  show(molecule, { marked = [], labels = false, keep = false } = {}) {
    if (!this.ready()) return;
    const camera = keep ? this.viewer.getView() : null;
    this.viewer.clear();
    this.viewer.addModel().addAtoms(atomsOf(molecule));
    this.viewer.setStyle({}, STYLES[this.style]);
    for (const atom of marked) {
      this.viewer.addSphere({ center: position(molecule, atom), radius: 0.55, color: BAD_COLOUR, opacity: 0.4 });
    }
    if (labels) {
      molecule.z.forEach((z, k) => this.viewer.addLabel(`${SYMBOLS[z]}${k + 1}`, {
        position: position(molecule, k), fontSize: 12, fontColor: "white", backgroundColor: "black",
        backgroundOpacity: 0.55, inFront: true, alignment: "center",
      }));
    }
    if (camera) this.viewer.setView(camera);
    else {
      this.viewer.zoomTo();
      this.viewer.zoom(1.25);
    }
    this.viewer.render();
  }

  moveTo(parent) {
    if (this.element.parentNode !== parent) parent.append(this.element);
    if (this.viewer) this.viewer.resize();
  }

  refresh() {
    if (!this.viewer) return;
    this.viewer.setBackgroundColor(background());
    this.viewer.render();
  }

  turn(axis, degrees) {
    if (!this.viewer) return;
    this.viewer.rotate(degrees, axis);
    this.viewer.render();
  }

  picture() {
    return this.viewer ? this.viewer.pngURI() : null;
  }
}

function position(molecule, atom) {
  const [x, y, z] = molecule.x.slice(3 * atom, 3 * atom + 3);
  return { x: x / 1000, y: y / 1000, z: z / 1000 };
}

function atomsOf(molecule) {
  const atoms = molecule.z.map((z, k) => ({
    elem: SYMBOLS[z], serial: k, index: k, bonds: [], bondOrder: [], ...position(molecule, k),
  }));
  for (let k = 0; k < molecule.b.length; k += 3) {
    const [i, j, order] = molecule.b.slice(k, k + 3);
    atoms[i].bonds.push(j);
    atoms[i].bondOrder.push(order);
    atoms[j].bonds.push(i);
    atoms[j].bondOrder.push(order);
  }
  return atoms;
}

function turnByKeys(node, view) {
  const turns = { ArrowLeft: ["y", -10], ArrowRight: ["y", 10], ArrowUp: ["x", -10], ArrowDown: ["x", 10] };
  node.addEventListener("keydown", (event) => {
    if (!turns[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    view.turn(...turns[event.key]);
  });
}

const live = new MoleculeView("live");
const detailView = new MoleculeView("large");
const camera = new MoleculeView("camera");

// Pictures of molecules, one at a time between frames, kept until the colours change.
const pictures = { kept: new Map(), waiting: [], busy: false };

function requestPicture(card, image) {
  const known = pictures.kept.get(card);
  if (known) {
    image.src = known;
    return;
  }
  pictures.waiting.push([card, image]);
  if (!pictures.busy) {
    pictures.busy = true;
    requestAnimationFrame(takePicture);
  }
}

function takePicture() {
  if (!pictures.waiting.length) {
    pictures.busy = false;
    return;
  }
  const first = pictures.waiting.findIndex(([, image]) => inSight(image));
  const [[card, image]] = pictures.waiting.splice(Math.max(0, first), 1);
  if (image.isConnected) {
    if (!camera.element.parentNode) document.body.append(camera.element);
    camera.show(card, { marked: reasons(card).flatMap((reason) => reason.atoms) });
    const found = camera.picture();
    if (found) {
      pictures.kept.set(card, found);
      image.src = found;
    }
  }
  requestAnimationFrame(takePicture);
}

function inSight(node) {
  const { top, bottom } = node.getBoundingClientRect();
  return node.isConnected && bottom > 0 && top < innerHeight;
}

function forgetPictures() {
  pictures.kept.clear();
  pictures.waiting.length = 0;
}
