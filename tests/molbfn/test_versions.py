import importlib.metadata

from molbfn.versions import installed_version


def test_versions_of_what_is_there_and_what_is_not():
    assert installed_version("torch") == importlib.metadata.version("torch")
    assert installed_version("no-such-package-here") is None
