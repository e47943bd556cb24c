// Puts the page together.

function heading() {
  const given = data.files.reduce((sum, file) => sum + file.given, 0);
  byId("title").textContent = data.title;
  const parts = [plural(given, "molecule"), several && plural(data.files.length, "file"), data.reference && `reference ${data.reference}`,
    data.date.slice(0, 10), `molbfn ${data.version}`];
  byId("subtitle").textContent = parts.filter(Boolean).join(" · ");
  const links = [...document.querySelectorAll("main > section")].filter((section) => !section.hidden);
  byId("contents").append(...links.map((section) => el("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)));
}

function provenance() {
  const rows = data.files.map((file) => {
    const facts = [`${plural(file.given, "record")}, ${count(file.shown)} shown`,
      file.unreadable && `${count(file.unreadable)} could not be read`, file.unjudged && `${count(file.unjudged)} could not be judged`,
      ...Object.entries(file.constants).map(([key, value]) => `${key} ${value}`), ...file.notes,
      Object.entries(file.versions).map(([key, value]) => `${key} ${value}`).join(", ")].filter(Boolean);
    return [el("dt", {}, file.name), facts.map((fact) => el("dd", {}, fact))];
  });
  byId("provenance").append(el("dl", {}, rows));
  const notes = data.files.flatMap((file) => file.notes.filter((note) => note.startsWith("Trajector") || note.includes("trajectories")));
  if (notes.length) byId("failures").append(...notes.map((note) => el("p", { class: "note" }, note)));
}

const THEME_KEY = "molbfn-report-theme";

function currentTheme() {
  return document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function applyTheme() {
  byId("theme").textContent = currentTheme() === "dark" ? "Light theme" : "Dark theme";
  forgetPictures();
  for (const view of [live, detailView, camera, player.view]) view.refresh();
  if (gallery.mode === "3d") setMode("3d");
}

function theme() {
  try {
    const stored = localStorage.getItem(THEME_KEY);
    if (stored === "dark" || stored === "light") document.documentElement.dataset.theme = stored;
  } catch {
    // files opened from disk may have no storage; the system's choice then stands
  }
  byId("theme").addEventListener("click", () => {
    const wanted = currentTheme() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = wanted;
    try {
      localStorage.setItem(THEME_KEY, wanted);
    } catch {
      // as above
    }
    applyTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
}

function dialogKeys() {
  const dialog = byId("detail");
  dialog.addEventListener("keydown", (event) => {
    if (event.target.closest("select, input, .stage")) return;
    const button = { ArrowLeft: "previous", ArrowRight: "next" }[event.key];
    if (button) byId(button).click();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

theme();
headlines(byId("figures"));
allFigures(byId("figures"));
distributions(byId("distributions"));
failures(byId("failures"));
buildPlayer(byId("trajectories"));
buildGallery(byId("molecules"));
provenance();
heading();
dialogKeys();
applyTheme();
document.documentElement.dataset.ready = "true";
