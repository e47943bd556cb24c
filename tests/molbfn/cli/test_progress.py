import pytest

from molbfn.cli.progress import ProgressBar


def test_without_a_terminal_there_is_a_line_at_each_tenth(capsys):
    with ProgressBar("working", total=1.0, plain=True) as bar:
        for k in range(101):
            bar.update(k / 100, f"[{k}]")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{10 * k} %  [{10 * k}]" for k in range(1, 11)]


def test_steps_over_several_tenths_are_one_line(capsys):
    with ProgressBar("working", total=4, plain=True) as bar:
        bar.update(2, "half")
        bar.update(4, "all")
    assert capsys.readouterr().err.splitlines() == ["50 %  half", "100 %  all"]


@pytest.mark.parametrize("total", [None, 10])
def test_plain_lines_are_only_for_those_who_ask(capsys, total):
    with ProgressBar("working") as bar:
        bar.update(10, "ten", total=total, label="reading")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_the_bar_shows_label_and_text(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar("working", total=4) as bar:
        bar.update(1, "one of four")
        bar.update(2, "two of four", label="reading")
    shown = capsys.readouterr().err
    assert "reading" in shown
    assert "two of four" in shown
