"""Layers, and what is imported when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bfn_core
import molbfn

CORE = Path(bfn_core.__file__).parent
PACKAGE = Path(molbfn.__file__).parent
HEAVY = ("torch", "rdkit", "lightning", "torch_geometric", "pandas", "numpy", "e3nn")


def imported(path: Path, *, top_level: bool = False) -> set[str]:
    """Return the modules a file imports: anywhere, or only when it is itself imported."""
    found = set()
    todo = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not (top_level and (lazy or typing_only)):
            todo += ast.iter_child_nodes(node)
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@pytest.mark.parametrize("path", files(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_bfn_core_imports_torch_and_the_standard_library_only(path):
    outside = {name.split(".")[0] for name in imported(path)} - {"torch", "bfn_core"}
    assert outside <= sys.stdlib_module_names


# What each part of molbfn must not know of: imports point down only.
JOBS = ("molbfn.training", "molbfn.generation", "molbfn.evaluation", "molbfn.benchmarks")
LAYERS = {
    "chem": ("molbfn.networks", "molbfn.model", "molbfn.config", *JOBS, "molbfn.cli", "bfn_core"),
    "networks": ("molbfn.model", "molbfn.config", *JOBS, "molbfn.cli"),
    "data": ("molbfn.networks", "molbfn.model", *JOBS, "molbfn.cli"),
    "evaluation": (
        "molbfn.model",
        "molbfn.training",
        "molbfn.generation",
        "molbfn.report",
        "molbfn.cli",
    ),
    "generation": ("molbfn.training", "molbfn.report", "molbfn.cli"),
    "report": (
        "molbfn.training",
        "molbfn.generation",
        "molbfn.model",
        "molbfn.networks",
        "molbfn.cli",
    ),
    "training": ("molbfn.generation", "molbfn.cli"),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_of_molbfn_point_down(layer):
    for path in files(PACKAGE / layer):
        for name in imported(path):
            assert not name.startswith(LAYERS[layer]), f"{path} imports {name}"


def test_commands_import_nothing_heavy_before_they_run():
    for path in files(PACKAGE / "cli"):
        names = {name.split(".")[0] for name in imported(path, top_level=True)}
        assert names <= {*sys.stdlib_module_names, "typer", "molbfn"}, path


def test_the_scan_for_imports_sees_what_it_should(tmp_path):
    (tmp_path / "a.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import rdkit\n"
        "try:\n    import numpy.linalg\nexcept ImportError:\n    pass\n"
        "class A:\n    def f(self):\n        from torch import nn\n"
    )
    assert imported(tmp_path / "a.py") == {"typing", "rdkit", "numpy.linalg", "torch"}
    assert imported(tmp_path / "a.py", top_level=True) == {"typing", "numpy.linalg"}


@pytest.mark.parametrize(
    "code",
    [
        "import molbfn, molbfn.errors",
        "from molbfn.cli import main; main(['--help'])",
        "from molbfn.cli import main; main(['generate', '--help'])",
    ],
)
def test_help_and_import_load_nothing_heavy(code):
    script = f"{code}\nimport sys\nprint(); print(*(m for m in {HEAVY!r} if m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == ""


def test_public_names_come_when_they_are_asked_for():
    from molbfn.chem.molecule import Molecule
    from molbfn.model import MoleculeModel, load_model

    assert molbfn.Molecule is Molecule
    assert molbfn.MoleculeModel is MoleculeModel
    assert molbfn.load_model is load_model
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        _ = molbfn.load_modle
