import pytest

from molbfn.errors import UserError
from molbfn.report.draw import draw_grid

PANEL = (300, 260)


def image(path):
    from PIL import Image

    return Image.open(path).convert("RGB")


def panel(picture, column, row):
    width, height = PANEL
    return picture.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))


def colours(picture):
    return {colour for _, colour in picture.getcolors(1 << 20)}


def test_every_record_has_its_place(demo, write, tmp_path):
    path = write(tmp_path / "a.sdf", demo[:5])
    assert draw_grid(path, tmp_path / "a.png", columns=3) == 5
    picture = image(tmp_path / "a.png")
    assert picture.size == (3 * PANEL[0], 2 * PANEL[1])
    for column, row in ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1)):
        assert len(colours(panel(picture, column, row))) > 10
    assert len(colours(panel(picture, 2, 1))) == 1


def test_fewer_are_drawn_if_asked_for(demo, write, tmp_path):
    path = write(tmp_path / "a.sdf", demo)
    assert draw_grid(path, tmp_path / "a.png", n=2) == 2
    assert image(tmp_path / "a.png").size == (2 * PANEL[0], PANEL[1])


def test_what_is_wrong_is_marked_and_said(example, write, tmp_path):
    good, bad = example("ammonium"), example("neutral NH4")
    path = write(tmp_path / "a.sdf", [good, bad])
    path.write_text(path.read_text() + "junk\n$$$$\n")
    assert draw_grid(path, tmp_path / "a.png") == 3
    picture = image(tmp_path / "a.png")

    def reddish(part):
        return sum(n for n, (r, g, b) in part.getcolors(1 << 20) if r - b > 20 and g > 120)

    assert reddish(panel(picture, 1, 0)) > 100
    assert reddish(panel(picture, 0, 0)) == 0
    # an unreadable record has no drawing but its reason
    assert len(colours(panel(picture, 2, 0))) > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 0}, "-n 0"), ({"columns": 0}, "--columns 0"), ({"n": 10**6}, "1000")],
)
def test_unusable_numbers_are_named(demo, write, tmp_path, options, message):
    path = write(tmp_path / "a.sdf", demo[:1])
    with pytest.raises(UserError, match=message):
        draw_grid(path, tmp_path / "a.png", **options)


def test_the_output_must_be_a_png_in_a_folder_that_exists(demo, write, tmp_path):
    path = write(tmp_path / "a.sdf", demo[:1])
    with pytest.raises(UserError, match=r"\.png"):
        draw_grid(path, tmp_path / "a.jpg")
    with pytest.raises(UserError, match="does not exist"):
        draw_grid(path, tmp_path / "b" / "a.png")
