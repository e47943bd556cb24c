import base64
import dataclasses
import hashlib
import html.parser
import json
import os
import re
from importlib import resources

import pytest

from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError
from molbfn.report.measured import MEASURED
from molbfn.report.page import ReportOptions, embedded_json, page, report_data, write_report


class Elements(html.parser.HTMLParser):
    """What a browser would see: elements with attributes, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] == "script" and data.strip():
            self.scripts.append(data)


@pytest.fixture(scope="module")
def files(example, demo, write, evil, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    names = ["water", "neutral NH4", "two waters"]
    wrong = [example(name) for name in names]
    wrong[0] = wrong[0].with_properties(energy=3.5, note=evil)
    return [write(folder / "wrong.sdf", wrong), write(folder / "demo.sdf", demo)]


@pytest.fixture(scope="module")
def data(files):
    return report_data(files, ReportOptions())


def test_the_page_is_one_file_that_asks_for_nothing(data):
    text = page(data)
    elements = Elements(text).found
    assert not {"link", "iframe", "img", "object", "base"} & {tag for tag, _ in elements}
    assert not [a for _, a in elements if {"src", "srcset", "onload", "onerror"} & a.keys()]
    policy = next(a["content"] for tag, a in elements if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy  # falls back to none


def test_the_policy_names_exactly_the_scripts_there_are(data):
    text = page(data)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    library, own = Elements(text).scripts[-2:]
    wanted = [
        base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (library, own)
    ]
    assert re.findall(r"sha256-([^']+)'", policy) == wanted


def test_what_stands_in_a_file_stays_text(data, evil):
    data = {**data, "title": evil}
    text = page(data)
    assert "alert(2)" not in re.sub(r"<script type=.*?</script>|<title>.*?</title>", "", text)
    assert [tag for tag, _ in Elements(text).found].count("script") == 3
    inside = re.search(r'id="data">(.*?)</script>', text)[1]
    assert json.loads(inside)["cards"][0]["p"]["note"] == evil
    assert json.loads(inside)["title"] == evil


def test_json_survives_any_text():
    nasty = "</script>\u2028\u2029<!--&amp;%%DATA%%\u0000é\ud800"
    found = json.loads(embedded_json({"a": nasty}))["a"]
    assert found == nasty.replace("\ud800", "?")
    assert "<" not in embedded_json({"a": nasty})


def test_placeholders_in_a_file_are_left_alone(data):
    text = page({**data, "title": "%%LIBRARY%%"})
    assert "<title>%%LIBRARY%%</title>" in text


def test_files_stand_side_by_side(data, files):
    assert [file["name"] for file in data["files"]] == [path.name for path in files]
    assert [card["f"] for card in data["cards"]] == [0] * 3 + [1] * 24
    names = {metric["name"] for metric in data["files"][0]["metrics"]}
    assert {"validity", "bonds_validity"} <= names
    assert data["files"][0]["distributions"]


def test_columns_are_numbers_that_differ(data):
    keys = [column["key"] for column in data["columns"]]
    assert keys[:3] == ["atoms", "heavy", "weight"]
    assert "energy" in keys


def test_what_all_molecules_share_is_told_once(example, write, tmp_path):
    molecules = [example(n).with_properties(model="m", seed=4, index=k)
                 for k, n in enumerate(["water", "ammonium"])]  # fmt: skip
    made = report_data([write(tmp_path / "a.sdf", molecules)], ReportOptions())
    assert made["files"][0]["constants"] == {"model": "m", "seed": "4"}
    assert "index" in [column["key"] for column in made["columns"]]


@pytest.fixture
def relaxing(relax, monkeypatch):
    """No worker and no xTB."""
    monkeypatch.setattr("molbfn.evaluation.registry._PACKAGES", {})
    monkeypatch.setattr("molbfn.evaluation.physics.measure_molecules", relax)


@pytest.mark.usefixtures("relaxing")
def test_energies_of_the_sample_are_a_column(files):
    options = ReportOptions(protocols=("physics",), samples={"physics": 10})
    made = report_data(files, options)
    keys = [column["key"] for column in made["columns"]]
    energy, atoms = keys.index("relaxation_energy"), keys.index("atoms")
    assert made["columns"][energy]["unit"] == "kcal/mol"
    for number, given in enumerate((3, 10)):
        cards = [card for card in made["cards"] if card["f"] == number]
        known = [card for card in cards if card["v"][energy] is not None]
        failed = [c for c in cards if c.get("n", {}).get("relaxation_energy", "").startswith("fai")]
        assert len(known) + len(failed) == given
        # each has its own energy, not that of another molecule
        assert all(card["v"][energy] == 0.5 * card["v"][atoms] for card in known)
        rest = [card for card in cards if card not in known and card not in failed]
        assert all(card["n"]["relaxation_energy"] == "not computed" for card in rest)
    assert "After relaxation" not in made["files"][0]["constants"]


@pytest.mark.usefixtures("relaxing")
def test_a_failed_relaxation_is_not_a_number(example, write, tmp_path):
    fluoride = example("hydroxyl")
    fluoride = type(fluoride)(
        [9, 1], [[0, 0, 0], [0, 0, 0.92]], bonds=[[0, 1, 1]], formal_charges=[0, 0]
    )
    made = report_data(
        [write(tmp_path / "hf.sdf", [fluoride])], ReportOptions(protocols=["physics"])
    )
    (card,) = made["cards"]
    column = [c["key"] for c in made["columns"]].index("relaxation_energy")
    assert card["v"][column] is None
    assert card["n"]["relaxation_energy"] == "failed: fluorine is not liked"


def test_without_the_protocol_there_is_no_such_column(data):
    assert not {c["key"] for c in data["columns"]} & MEASURED.keys()
    assert not any("n" in card for card in data["cards"])


def test_molecules_without_their_hydrogens_are_told(example, write, tmp_path):
    water = example("water")
    bare = Molecule(water.atomic_numbers[:1], water.positions[:1], title="O")
    path = write(tmp_path / "heavy.sdf", [bare, water])
    (file,) = report_data([path], ReportOptions())["files"]
    (note,) = [note for note in file["notes"] if "lack hydrogens" in note]
    assert note.startswith("1 of 2 molecules")


def test_files_of_one_name_are_told_apart(example, write, tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(write(tmp_path / folder / "x.sdf", [example("water")]))
    made = report_data(paths, ReportOptions())
    assert [file["name"] for file in made["files"]] == ["a/x.sdf", "b/x.sdf"]
    twice = report_data([paths[0], paths[0]], ReportOptions())
    assert len({file["name"] for file in twice["files"]}) == 2


def test_figures_are_of_all_molecules_and_cards_of_some(files):
    made = report_data(files[1:], ReportOptions(shown=4))
    assert (made["files"][0]["given"], made["files"][0]["shown"]) == (24, 4)
    assert len(made["cards"]) == 4


def test_a_reference_gives_novelty_and_its_distributions(files, monkeypatch, tmp_path):
    monkeypatch.setattr("molbfn.evaluation.reference.cache_dir", lambda: tmp_path)
    made = report_data(files[:1], ReportOptions(reference=str(files[1])))
    assert any(metric["name"].startswith("novelty") for metric in made["files"][0]["metrics"])
    assert any(d["reference_shares"] for d in made["files"][0]["distributions"])


def test_a_later_missing_file_is_found_first(files, tmp_path):
    with pytest.raises(UserError, match=r"gone\.sdf"):
        write_report([files[0], tmp_path / "gone.sdf"], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.sdf")
    with pytest.raises(UserError, match="more than once"):
        write_report([tmp_path / "pipe.sdf"], tmp_path / "out.html")


@pytest.mark.parametrize(
    ("options", "message"),
    [(ReportOptions(shown=0), "at least 1"), (ReportOptions(protocols=("edn",)), "edm")],
)
def test_unusable_options_are_named(files, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        write_report(files, tmp_path / "out.html", options=options)


def test_the_library_is_the_one_its_note_names():
    assets = resources.files("molbfn.report") / "assets"
    digest = hashlib.sha256((assets / "3Dmol-min.js").read_bytes()).hexdigest()
    assert digest in (assets / "README.md").read_text()
    assert "BSD-3-Clause" in (assets / "3Dmol-LICENSE.txt").read_text()


def test_numbers_are_a_column_and_shown_as_written(example, write, tmp_path):
    texts = ["-7.30", "1.0E+02"]
    molecules = [example("water").with_properties(score=t, dose="5.00") for t in texts]
    made = report_data([write(tmp_path / "a.sdf", molecules)], ReportOptions())
    place = [column["key"] for column in made["columns"]].index("score")
    assert [card["v"][place] for card in made["cards"]] == [-7.3, 100]
    assert [card["a"] for card in made["cards"]] == [{"score": text} for text in texts]
    assert made["files"][0]["constants"] == {"dose": "5.00"}


def test_distributions_of_all_files_are_of_the_same_bonds(example, write, tmp_path):
    water = example("water")
    bare = dataclasses.replace(water, bonds=None, formal_charges=None)
    paths = [write(tmp_path / "a.sdf", [water]), write(tmp_path / "b.xyz", [bare])]

    def notes(paths, **options):
        files = report_data(paths, ReportOptions(**options))["files"]
        return [[n for n in f["notes"] if n.startswith("distributions")] for f in files]

    for found in notes(paths):
        assert found[0].endswith(
            "no bonds are stated in b.xyz, so those of all files are by distance"
        )
        assert found[1] == "distributions: by the bonds of EDM's distance table"
    ((alone,),) = notes(paths[:1])
    assert alone == "distributions: by the bonds that the molecules state"
    assert notes([paths[1]]) == [["distributions: by the bonds of EDM's distance table"]]
