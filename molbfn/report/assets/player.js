// How a molecule came about: the model's estimate after each network call.

const player = { view: new MoleculeView("film"), chosen: 0, frame: 0, timer: null, parts: {} };

function buildPlayer(section) {
  section.hidden = data.trajectories.length === 0;
  if (section.hidden) return;
  const { parts } = player;
  parts.choice = el("select", { id: "film", onchange: (event) => chooseTrajectory(Number(event.target.value)) },
    data.trajectories.map((t, k) => el("option", { value: k }, (several ? `${data.files[t.f].name}: ` : "") + (t.t || `record ${t.i}`))));
  parts.stage = el("div", { class: "stage", tabindex: 0, role: "application", "aria-label": "3D view of the trajectory; arrow keys turn it" });
  parts.slider = el("input", { id: "frame", type: "range", min: 0, step: 1, "aria-label": "Frame", oninput: (event) => {
    pause();
    showFrame(Number(event.target.value));
  } });
  parts.button = el("button", { type: "button", id: "play", class: "plain", onclick: () => (player.timer ? pause() : play()) }, "Play");
  parts.readout = el("output", { for: "frame", class: "readout" });
  parts.spark = el("div", { class: "spark" });
  section.append(
    el("p", { class: "quiet" }, "Each frame is the model’s estimate after one network call: what the molecule would be if the run ended there. Bonds are drawn by distance."),
    el("div", { class: "player" }, parts.stage, el("div", { class: "panel" },
      field("Molecule", "film", parts.choice),
      el("p", { class: "pair" }, parts.button, parts.readout), parts.slider, parts.spark,
      el("p", { class: "quiet" }, "Mean distance of the atoms to their final places, in Å, over the network calls"))));
  turnByKeys(parts.stage, player.view);
  parts.stage.append(player.view.element);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    chooseTrajectory(player.chosen);
  }).observe(section);
}

function chooseTrajectory(index) {
  pause();
  player.chosen = index;
  const { frames, t } = data.trajectories[index];
  const { parts } = player;
  parts.choice.value = String(index);
  parts.slider.max = frames.length - 1;
  const distances = frames.map((frame) => meanDistance(frame, frames[frames.length - 1]));
  parts.spark.replaceChildren(sparkline(distances, `From ${distances[0].toFixed(2)} Å to 0`),
    el("span", { class: "quiet" }, `${distances[0].toFixed(2)} Å → 0`));
  // the camera is set by the finished molecule
  player.view.show(frames[frames.length - 1]);
  player.view.moveTo(parts.stage);
  showFrame(frames.length - 1);
}

function meanDistance(frame, last) {
  let sum = 0;
  for (let k = 0; k < frame.x.length; k += 3) {
    sum += Math.hypot(...[0, 1, 2].map((axis) => frame.x[k + axis] - last.x[k + axis]));
  }
  return sum / (1000 * frame.z.length);
}

function showFrame(index) {
  const { frames, calls } = data.trajectories[player.chosen];
  const frame = frames[index];
  player.frame = index;
  player.parts.slider.value = String(index);
  player.parts.readout.textContent = `call ${frame.n} of ${calls} · t = ${frame.t.toFixed(3)}`;
  player.view.show(frame, { keep: true });
}

function play() {
  const { frames } = data.trajectories[player.chosen];
  if (player.frame >= frames.length - 1) showFrame(0);
  player.parts.button.textContent = "Pause";
  const pace = Math.min(250, Math.max(40, 6000 / frames.length));
  player.timer = setInterval(() => {
    if (player.frame >= frames.length - 1) pause();
    else showFrame(player.frame + 1);
  }, pace);
}

function pause() {
  clearInterval(player.timer);
  player.timer = null;
  if (player.parts.button) player.parts.button.textContent = "Play";
}
