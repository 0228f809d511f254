"""Plots, maps and sheets: data to marks."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from cuescope.core.findings import Figure, Look, Map, Panel, dot
from cuescope.report.draw import color, dots, look_png, maps, plots, sheet, words
from cuescope.report.draw.axes import Part, Scale, domain, ruler, shortened, track, width_of
from cuescope.report.draw.raster import pixels as painted
from cuescope.report.draw.scene import (
    Area,
    Line,
    Mark,
    Placed,
    Scene,
    Text,
    below,
    beside,
    outline,
    picture,
    svg,
)
from made_findings import photograph


def rows(*values: float | None) -> list[dict[str, object]]:
    spans = [(None, None) if v is None else (max(0, v - 0.1), min(1, v + 0.1)) for v in values]
    return [
        {"label": f"class {i}", "value": v, "low": a, "high": b, "n": 9}
        for i, (v, (a, b)) in enumerate(zip(values, spans, strict=True))
    ]


def marks(scene: Scene) -> list[Mark]:
    return [item for item in scene.items if isinstance(item, Mark)]


def test_every_scene_is_well_formed_and_escaped() -> None:
    """A hostile class name stays text in the plot, in its tooltip and in the label."""
    evil = '</text><script>alert("&")</script>'
    part = Part(0, evil, {"unit": "share", "rows": [{"label": evil, "value": 0.5, "low": 0.4, "high": 0.6, "n": 3}]})
    drawing = svg(dots.dots([part], evil))
    assert "<script" not in drawing
    root = ET.fromstring(drawing)
    assert root.get("aria-label") == evil
    assert any(evil in (title.text or "") for title in root.iter("title"))


@pytest.mark.parametrize("value", [None, 0.0, 1.0, 0.37])
def test_dots_stand_where_their_values_are(value: float | None) -> None:
    scene = dots.dots([Part(0, "a", {"unit": "share", "rows": rows(0.0, value, 1.0)})])
    xs = [m.at[0] for m in marks(scene)]
    assert len(xs) == (2 if value is None else 3)
    if value is not None:
        assert xs[1] == pytest.approx(xs[0] + value * (xs[2] - xs[0]))


def test_dots_of_two_classifiers_share_a_row_and_keep_their_glyphs() -> None:
    parts = [Part(0, "a", {"unit": "share", "rows": rows(0.2)}), Part(3, "b", {"unit": "share", "rows": rows(0.9)})]
    first, second = marks(dots.dots(parts))
    assert (first.glyph, first.role) == ("circle", "c0")
    assert (second.glyph, second.role) == (color.GLYPHS[3], "c3")
    assert abs(first.at[1] - second.at[1]) == 5


def test_reference_marks_are_hollow_and_beside_their_row() -> None:
    data = {"unit": "share", "rows": rows(0.2, 0.4), "marks": [{"who": "people", "values": [0.9, None]}]}
    hollow = [m for m in marks(dots.dots([Part(0, "a", data)])) if m.hollow]
    assert [(m.glyph, m.role) for m in hollow] == [("diamond", "ink")]
    assert [(r.who, r.glyph, r.role) for r in dots.references([Part(0, "a", data)])] == [("people", "diamond", "ink")]


def test_a_total_is_a_row_apart_with_lines_through_all_others() -> None:
    data = {"unit": "share", "rows": rows(0.2, 0.4), "total": {"label": "all", "value": 0.3}, "ends": ["none", "every"]}
    data["marks"] = [{"who": "people", "values": [0.9, None, 0.8]}, {"who": "net", "values": [0.1, 0.1, 0.1]}]
    scene = dots.dots([Part(0, "a", data)])
    own = [m for m in marks(scene) if not m.hollow]
    assert len(own) == 3
    assert own[2].at[1] - own[1].at[1] == own[1].at[1] - own[0].at[1] + dots.TOTAL_GAP
    hollow = {(m.role, m.at) for m in marks(scene) if m.hollow}
    assert [role for role, _ in sorted(hollow)] == ["ink"] * 2 + ["muted"] * 3
    lines = [item for item in scene.items if isinstance(item, Line) and item.role in ("ink", "muted", "c0")]
    upright = {line.points[0][0]: line for line in lines if line.points[0][0] == line.points[1][0]}
    for mark in [own[2], *(m for m in marks(scene) if m.hollow and m.at[1] == own[2].at[1])]:
        (x, top), (_, bottom) = upright[mark.at[0]].points
        assert (x, upright[x].role) == (mark.at[0], mark.role)
        assert top < own[0].at[1] < own[2].at[1] == bottom
    assert [t.text for t in scene.items if isinstance(t, Text)][-2:] == ["none", "every"]


def test_a_band_spans_its_two_ends_and_lies_under_the_marks() -> None:
    data = {"unit": "share", "rows": rows(0.0, 1.0)}
    data["marks"] = [{"who": "people", "values": [0.5, 0.5], "low": [0.0, None], "high": [1.0, None]}]
    scene = dots.dots([Part(0, "a", data)])
    (band,) = (item for item in scene.items if isinstance(item, Area) and item.opacity)
    xs = sorted({x for x, _ in band.points})
    assert xs == sorted(m.at[0] for m in marks(scene) if not m.hollow)
    assert list(scene.items).index(band) < min(i for i, item in enumerate(scene.items) if isinstance(item, Mark))


def test_too_many_rows_keep_both_ends() -> None:
    labels, lacking = dots.chosen_rows([Part(0, "a", {"rows": rows(*np.linspace(0, 1, 100))})])
    assert (len(labels), lacking) == (dots.MOST_ROWS, 100 - dots.MOST_ROWS)
    assert (labels[0], labels[-1]) == ("class 0", "class 99")


def test_only_equal_categories_are_merged() -> None:
    one, other = Part(0, "a", {"rows": rows(0.1, 0.2)}), Part(1, "b", {"rows": rows(0.1)})
    assert plots.mergeable([one, one], "dots")
    assert not plots.mergeable([one, other], "dots")
    assert plots.mergeable([one, other], "lines")
    assert not plots.mergeable([one, one], "bars")


def test_a_gap_parts_a_curve() -> None:
    series = {
        "name": "",
        "x": [0, 1, 2, 3],
        "y": [0.1, None, 0.3, 0.5],
        "low": [0, None, 0.2, 0.4],
        "high": [0.2, None, 0.4, 0.6],
    }
    scene = plots.lines([Part(0, "a", {"x": "x", "y": "y", "series": [series]})])
    curves = [item for item in scene.items if isinstance(item, Line) and item.role == "c0"]
    assert [len(c.points) for c in curves] == [1, 2]
    assert "nan" not in svg(scene).lower()


def test_curve_with_diagonal_has_equal_scales() -> None:
    series = {"name": "", "x": [2, 9], "y": [1, 3]}
    scene = plots.lines([Part(0, "a", {"series": [series], "diagonal": True})])
    (diagonal,) = [item for item in scene.items if isinstance(item, Line) and item.dash == "3 3"]
    (x1, y1), (x2, y2) = diagonal.points
    x, y = marks(scene)[1].at
    assert (x - x1) / (x2 - x1) == pytest.approx(0.9)
    assert (y - y1) / (y2 - y1) == pytest.approx(0.3)


def test_bars_are_as_high_as_their_values() -> None:
    data = {"edges": [0, 1, 2, 3], "values": [2, 0, 8]}
    areas = [item for item in plots.bars(Part(0, "a", data), top=10).items if isinstance(item, Area)]
    heights = [max(y for _, y in a.points) - min(y for _, y in a.points) for a in areas]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(4 * heights[0])


def test_empty_data_makes_empty_plots_not_errors() -> None:
    assert dots.dots([Part(0, "a", {"unit": "share", "rows": []})]).height > 0
    assert plots.lines([Part(0, "a", {"series": [{"name": "", "x": [], "y": []}]})]).height > 0
    assert plots.bars(Part(0, "a", {"edges": [0, 1], "values": [0]})).height > 0


def test_track_shows_value_interval_and_chance() -> None:
    scene = track((0, 1), "share", 0.594, (0.55, 0.636), index=0, chance=0.001, name="net")
    assert "net: 59.4%, 95% interval 55.0–63.6%" in svg(scene)
    assert "chance: 0.1%" in svg(scene)
    (published,) = marks(track((0, 1), "share", 0.959, published=True))
    assert (published.hollow, published.role) == (True, "ink")


@pytest.mark.parametrize(
    ("numbers", "unit", "ends"),
    [
        ([0.959], "share", (0, 1)),
        ([0.061], "share", (0, 0.08)),
        ([0.45], "share", (0, 1)),
        ([], "share", (0, 1)),
        ([0.0], "share", (0, 0.001)),
        ([-0.2, 0.5], "kappa", (-1, 1)),
        ([0.0], "px", (0, 1)),
        ([12.5], "px", (0, 15)),
        ([-3.0, -1.0], "nats", (-3, 0)),
        ([0.0], "difference", (-0.01, 0.01)),
    ],
)
def test_domain_holds_all_numbers(numbers: list[float], unit: str, ends: tuple[float, float]) -> None:
    low, high = domain(numbers, unit)
    assert (low, high) == pytest.approx(ends)
    assert all(low <= x <= high for x in numbers)


def test_ruler_numbers_are_round_and_placed_in_percent() -> None:
    assert [text for _, text in ruler((0, 1), "share")] == ["0%", "25%", "50%", "75%", "100%"]
    places = [at for at, _ in ruler((0, 1), "share")]
    assert places[0] == pytest.approx(100 * 10 / 360, abs=0.01)
    assert [text for _, text in ruler((-0.2, 0.2), "difference")] == ["−20", "−10", "0", "+10", "+20"]
    assert Scale(0, 1, 0, 100)(7) == 100


def test_long_labels_are_cut_to_their_room() -> None:
    cut = shortened("a very long name of a class indeed", 80)
    assert cut.endswith("…")
    assert width_of(cut) <= 80


@pytest.mark.parametrize("glyph", [*color.GLYPHS[1:], "diamond"])
def test_glyphs_are_about_equally_large(glyph: str) -> None:
    points = np.array(outline(glyph, (0, 0), 1.0))
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert 2.2 < area < 4.2


def test_raster_paints_what_svg_says() -> None:
    items = [
        Area([(0, 0), (180, 0), (180, 100), (0, 100)], "c0"),
        Line([(180, 50), (360, 50)], "c1", 10, "30 30"),
        Text((200, 20), "x", "ink", 20),
    ]
    pixels = painted(Scene(100, items))
    assert pixels.shape == (100, 360, 3)
    assert tuple(pixels[80, 90]) == color.rgb(color.ACCENTS[0])
    assert tuple(pixels[50, 190]) == color.rgb(color.ACCENTS[1])
    assert tuple(pixels[50, 225]) == (255, 255, 255)
    assert (pixels[5:25, 195:220] < 128).any()


def test_images_are_painted_as_they_are_wherever_they_stand() -> None:
    """Pixel by pixel: in a row, below another, and inside another scene."""
    first, second = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    pixels = painted(
        Scene(60, [Placed((5, 7), below([beside([picture(first), picture(second)], 4), picture(first)], 3))])
    )
    for shown, x, y in ((first, 5, 7), (second, 39, 7), (first, 5, 30)):
        assert (pixels[y : y + 20, x : x + 30] == shown).all()
    assert (pixels[:, 35:39] == 255).all()


def test_a_sheet_names_what_its_font_lacks() -> None:
    """Letters lose their accents; what is no Latin letter is a question mark, never an empty box."""
    one, other = (painted(Scene(30, [Text((5, 20), text, size=16)])) for text in ("Škoda − 日", "Skoda - ?"))
    assert (one == other).all()
    assert (one < 128).any()


# Maps


def heat(values: list[list[float]], **more: object) -> Map:
    return Map("heat", values, **more)  # type: ignore[arg-type]


def test_lightness_of_the_heat_map_rises_evenly() -> None:
    shades = color.heat(np.linspace(0, 1, 33)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(shades) > 0).all()


def test_signed_map_is_neutral_at_zero_and_symmetric() -> None:
    blue, middle, red = color.signed(np.array([-1.0, 0.0, 1.0])).astype(int)
    assert middle.max() - middle.min() == 0
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert maps.bounds(Map("signed", [[-1.0, 4.0]])) == (-4.0, 4.0)


def test_overlay_is_the_plain_blend() -> None:
    """Twin: pixel by pixel, for a map as fine as the image."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    values = np.random.default_rng(1).random((4, 5))
    slow = np.empty((4, 5, 3))
    for i in range(4):
        for j in range(5):
            r, g, b = map(float, pixels[i, j])
            gray = (0.299 * r + 0.587 * g + 0.114 * b) * 0.75 + 40
            slow[i, j] = gray * (1 - maps.STRENGTH) + color.heat(values[i, j]).astype(float) * maps.STRENGTH
    fast = maps.overlay(pixels, heat(values.tolist(), low=0.0, high=1.0))
    assert abs(fast - slow).max() <= 1.5


def test_map_covers_only_its_extent_and_what_is_known() -> None:
    pixels = np.full((10, 10, 3), 100, np.uint8)
    laid = maps.overlay(pixels, heat([[1.0, None]], low=0.0, high=1.0, extent=(0.0, 0.0, 0.4, 1.0)))  # type: ignore[list-item]
    gray = laid[:, 4:]
    assert (gray == gray[0, 0]).all()
    assert (laid[5, 0] != gray[0, 0]).any()
    assert (laid[5, 3] == gray[0, 0]).all()


def test_label_legend_is_by_area_and_gathers_the_rest() -> None:
    codes = [[0] * 20 + list(range(1, 13))]
    layer = Map("labels", codes, legend=tuple(f"label {i}" for i in range(13)))
    legend = maps.legend(layer)
    assert legend[0] == ("label 0", color.rgb(color.LABELS[0]), 20 / 32)
    assert legend[-1] == ("5 others", color.rgb(color.OTHER), 5 / 32)
    assert sum(share for *_, share in legend) == pytest.approx(1)
    assert len({shade for _, shade, _ in legend}) == len(legend)


def test_a_map_alone_over_the_gray_image_is_the_overlay() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    for kind in ("heat", "signed", "labels"):
        layer = Map(kind, [[0.0, 1.0], [2.0, None]], extent=(-0.2, 0.1, 0.7, 1.0))  # type: ignore[list-item]
        cover = maps.cover(layer, 9, 12).astype(float)
        gray = (pixels @ np.array([0.299, 0.587, 0.114]))[..., None] * 0.75 + 40
        laid = gray + (cover[..., :3] - gray) * cover[..., 3:] / 255
        assert abs(laid - maps.overlay(pixels, layer)).max() <= 2
        assert cover[0, :, 3].max() == 0, "above its extent it covers nothing"


def test_an_image_whose_pixels_must_stay_is_png() -> None:
    assert maps.data_uri(np.zeros((64, 64, 3), np.uint8)).startswith("data:image/png;base64,")
    assert maps.data_uri(np.zeros((64, 64, 3), np.uint8), 50).startswith("data:image/webp;base64,")


def test_flat_and_unknown_maps_have_bounds() -> None:
    assert maps.bounds(heat([[0.5]])) == (0.5, 1.5)
    nothing = heat([[None]])  # type: ignore[list-item]
    assert maps.bounds(nothing) == (0.0, 1.0)
    assert maps.overlay(np.zeros((4, 4, 3), np.uint8), nothing).max() == 40
    assert maps.legend(Map("labels", [[None]])) == []  # type: ignore[list-item]


# Scatters


def scatter(*places: tuple[float, float], diagonal: bool = True) -> Part:
    points = [{"x": x, "y": y, "label": f"class {i}", "n": 5} for i, (x, y) in enumerate(places)]
    return Part(None, "a and b", {"x": "a", "y": "b", "points": points, "diagonal": diagonal})


def test_points_stand_where_their_values_are_in_ink() -> None:
    corner, middle, other = marks(plots.points(scatter((0.0, 0.0), (0.5, 0.25), (1.0, 1.0))))
    assert {m.role for m in (corner, middle, other)} == {"ink"}
    assert middle.at[0] == pytest.approx((corner.at[0] + other.at[0]) / 2)
    assert middle.at[1] == pytest.approx(corner.at[1] + (other.at[1] - corner.at[1]) / 4)
    assert "class 1 (n = 5)\na: 0.5\nb: 0.25" in middle.title


def test_the_diagonal_is_where_both_are_equal() -> None:
    scene = plots.points(scatter((0.0, 0.2), (0.6, 1.0)))
    (diagonal,) = (item for item in scene.items if isinstance(item, Line) and item.dash)
    (x0, y0), (x1, y1) = diagonal.points
    on = [m.at for m in marks(plots.points(scatter((0.2, 0.2), (1.0, 1.0), (0.0, 0.6))))][:2]
    for x, y in on:
        assert (y - y0) / (y1 - y0) == pytest.approx((x - x0) / (x1 - x0))
    assert not [i for i in plots.points(scatter((0.0, 0.2), diagonal=False)).items if getattr(i, "dash", "")]
    apart = plots.points(scatter((1.0, 30.0), (2.0, 2.0)))
    (diagonal,) = (item for item in apart.items if isinstance(item, Line) and item.dash)
    (x0, y0), (x1, y1) = diagonal.points
    assert x1 - x0 == pytest.approx(y0 - y1), "both axes have the same ends"


def test_points_at_one_place_are_one_mark_of_their_area() -> None:
    large, small = marks(plots.points(scatter(*[(1.0, 1.0)] * 4, (0.5, 0.5))))
    assert large.radius == pytest.approx(2 * small.radius)
    assert large.title.startswith("4: class 0, class 1")


def test_a_thousand_points_are_gathered_and_stay_apart() -> None:
    """None is lost, none moves by more than half a step of the grid, and no mark covers its neighbor."""
    generator = np.random.default_rng(0)
    places = [(float(x), float(y)) for x, y in generator.random((800, 2))] + [(1.0, 1.0)] * 200
    part = scatter(*places)
    found = plots.gathered(part.data["points"], (0.0, 1.0), (0.0, 1.0))
    assert len(found) < len(places)
    assert sum(len(there) for _, there in found) == 1000
    moved = [max(abs(p["x"] - x), abs(p["y"] - y)) for (x, y), there in found for p in there]
    assert max(moved) <= 0.5 / plots.GRID + 1e-9
    drawn = marks(plots.points(part))
    assert len(drawn) == len(found)
    assert max(m.radius for m in drawn) <= plots.LARGEST / 2
    assert all(m.title for m in drawn)


def test_a_scatter_of_nothing_and_of_one() -> None:
    assert not marks(plots.points(scatter()))
    assert len(marks(plots.points(scatter((3.0, 3.0))))) == 1


# Words


def test_small_shares_are_not_nothing_and_zero_has_no_sign() -> None:
    assert words.value(0.0002, "share") == "0.02%"
    assert words.value(0.0, "share") == "0.0%"
    assert words.value(-0.0001, "difference") == "−0.01 points"
    assert words.value(0.0, "difference") == "0.0 points"
    assert words.value(1, "images") == "1 image"


# Sheets


def test_look_png_has_the_pictures_above_the_sentence_and_nothing_beside_the_page(tmp_path) -> None:
    labels = Map("labels", [[0, 1]], "answer", legend=("a very long name of a class " * 3, "b"))
    heat = Map("heat", [[0.0, 0.5]], "P(cat)", "probability", 0.0, 1.0)
    plot = Panel("p", "dots", "Plot", data={"unit": "share", "rows": [dot("a", 0.5)]})
    for count in range(1, 6):
        figure = Figure("", photograph(0), maps=(labels, heat, heat, labels)[: count - 1])
        look = Look("It says cat (62%).", (plot, Panel("f", "images", "", figures=(figure,))))
        with Image.open(look_png(look, "Occlusion: net, cat.jpg", tmp_path / "a.png")) as image:
            drawn = np.asarray(image.convert("RGB"))
        assert drawn.shape[1] == sheet.WIDTH
        edges = drawn[:, : sheet.EDGE - 2], drawn[:, -sheet.EDGE + 2 :], drawn[-sheet.EDGE // 2 :]
        assert all((edge == 255).all() for edge in edges), f"{count} pictures leave the edges white"
        filled = (drawn < 250).any(2).mean(1) > 0.3
        assert 60 < filled.argmax() < 140, "the picture is the first thing below the title"


def test_a_color_bar_of_a_sheet_has_numbers_and_its_unit() -> None:
    texts = [
        item.text
        for scene in sheet._key(Map("heat", [[0.0, 4.0]], "m", "nats", 0.0, 4.0), 300)
        for item in scene.items
        if isinstance(item, Text)
    ]
    assert texts == ["0", "2.000 nats", "4.000 nats"]


def test_drawing_needs_no_torch() -> None:
    code = (
        "import sys, cuescope.report.draw, cuescope.report.html, cuescope.report.terminal; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_a_map_that_reaches_beyond_the_image_is_cut_not_squeezed():
    """Two cells of 8 px from -4 px on: in the image, the first ends at 4 px and the second at 12."""
    values = [[1.0, -1.0]]
    pixels = np.full((8, 16, 3), 128, np.uint8)
    laid = maps.overlay(pixels, Map("labels", values, legend=("a", "b"), extent=(-0.25, 0.0, 0.75, 1.0)))
    columns = laid[4].astype(int)
    assert (columns[:4] == columns[0]).all()
    assert (columns[4:12] == columns[4]).all()
    assert (columns[0] != columns[4]).any()
    assert (columns[12:] == columns[15]).all()
    assert (columns[12] != columns[11]).any()


def test_curves_of_others_are_drawn_once_in_ink_and_ticks_have_names() -> None:
    data = {
        "x": "level",
        "y": "share",
        "series": [{"name": "", "x": [0.0, 1.0], "y": [0.4, 0.2]}],
        "marks": [{"who": "people", "x": [0.0, 1.0], "y": [0.9, 0.8]}],
        "ticks": [[0.0, "inf"], [1.0, "3"], [2.0, "1.5"]],
        "y_ends": [0.0, 1.0],
        "chance": 0.0625,
    }
    parts = [Part(k, name, data) for k, name in enumerate("ab")]
    scene = plots.lines(parts)
    ink = [mark for mark in marks(scene) if mark.role == "ink"]
    assert [(mark.hollow, mark.title) for mark in ink] == [(True, "people: 0.9 at inf"), (True, "people: 0.8 at 3")]
    assert [shape for shape, _ in plots.reference_curves(parts)] == ["diamond"]
    texts = [item.text for item in scene.items if isinstance(item, Text)]
    assert [text for text in texts if text in ("inf", "3", "1.5")] == ["inf", "3", "1.5"]
    one = next(mark for mark in marks(scene) if mark.title == "a: 0.2 at 3")
    # Half of the way to the last tick, though no curve reaches it; a fifth of the way up.
    assert one.at == pytest.approx((42 + (plots.WIDTH - 10 - 42) / 2, 244 - 0.2 * (244 - 26)))
    chance = [i for i in scene.items if isinstance(i, Line) and i.dash and i.role == "muted"]
    assert [line.points[0][1] for line in chance] == pytest.approx([244 - 0.0625 * (244 - 26)])


def test_curves_fill_their_plot_and_start_at_0_where_that_is_near() -> None:
    def ends(xs: list[float]) -> list[float]:
        scene = plots.lines([Part(0, "a", {"series": [{"name": "", "x": xs, "y": [0.2] * len(xs)}]})])
        return [mark.at[0] for mark in marks(scene)]

    assert ends([0.0, 31.0]) == pytest.approx([42, plots.WIDTH - 10])
    assert ends([5.0, 25.0])[0] == pytest.approx(42 + (plots.WIDTH - 52) / 5)
    assert ends([60.0, 80.0])[0] == pytest.approx(42)
