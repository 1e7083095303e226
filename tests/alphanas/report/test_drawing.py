"""The drawing of a graph: every node appears, nothing overlaps, every edge is drawn, and it is well-formed SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from synth import Builder, Graph, display
from synth.drawing import BOX, MARKED, SHORTCUT, short_number
from synth.ops import Add, BatchNorm, Concatenate, Conv, Dense, GlobalAvgPool, Relu

SVG = "{http://www.w3.org/2000/svg}"


def residual() -> Graph:
    build = Builder((8, 8, 3))
    x = build(Conv(features=8), build.input, name="stem")
    for index, features in enumerate((8, 16)):
        block = f"stage{index}.block0"
        y = build(Conv(features=features), x, name=f"{block}.conv1")
        y = build(BatchNorm(), y, name=f"{block}.norm")
        y = build(Relu(), y, name=f"{block}.relu")
        y = build(Conv(features=features), y, name=f"{block}.conv2")
        x = build(Conv(features=features, kernel=1), x, name=f"{block}.shortcut") if index else x
        x = build(Add(), y, x, name=f"{block}.add")
    x = build(GlobalAvgPool(), x, name="pool")
    return build.graph(build(Dense(features=10), x, name="head<&>"))


def branches() -> Graph:
    build = Builder((8, 8, 4))
    parts = [build(Conv(features=4, kernel=kernel), build.input, name=f"branch{kernel}") for kernel in (1, 3, 5)]
    joined = build(Concatenate(), *parts, name="join")
    deep = build(Conv(features=12), joined, name="deep")
    return build.graph(build(Concatenate(), joined, deep, build.input, name="dense"), "deep")


def line() -> Graph:
    build = Builder((4,))
    return build.graph(build(Dense(features=2), build.input, name="only"))


GRAPHS = {"residual": residual, "branches": branches, "line": line}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_is_in_exactly_one_box_and_no_two_boxes_overlap(name: str) -> None:
    graph = GRAPHS[name]()
    picture = ElementTree.fromstring(display.as_svg(graph))
    titles = [title.text or "" for title in picture.iter(f"{SVG}title")]
    described = [line.split(": ")[0] for title in titles for line in title.split("\n")]
    assert sorted(described) == sorted(graph.values)
    spots = []
    for group in picture.iter(f"{SVG}g"):
        box = next(group.iter(f"{SVG}rect"))
        spots.append((float(box.get("x", 0)), float(box.get("y", 0)), float(box.get("width", 0))))
    for index, (x, y, width) in enumerate(spots):
        assert x >= 0 and x + width <= float(picture.get("width", 0))
        for other_x, other_y, other_width in spots[index + 1 :]:
            assert abs(y - other_y) >= BOX or x + width <= other_x or other_x + other_width <= x


@pytest.mark.parametrize("name", GRAPHS)
def test_every_edge_between_boxes_has_an_arrow(name: str) -> None:
    graph = GRAPHS[name]()
    picture = display.as_svg(graph)
    boxes = [set(re.findall(r"^(\S+): ", title, re.M)) for title in re.findall(r"<title>(.*?)</title>", picture, re.S)]
    unescape = {"head&lt;&amp;&gt;": "head<&>"}
    home = {unescape.get(node, node): index for index, box in enumerate(boxes) for node in box}
    edges = {(home[read], home[node.name]) for node in graph.nodes for read in node.inputs}
    between = {edge for edge in edges if edge[0] != edge[1]}
    assert picture.count("<polygon") == len(between) + len(graph.outputs)


def test_a_shortcut_is_drawn_in_its_own_colour_and_a_plain_chain_has_none() -> None:
    assert SHORTCUT in display.as_svg(residual())
    assert SHORTCUT not in display.as_svg(line())


def test_marked_nodes_are_highlighted_and_not_folded_into_others() -> None:
    graph = residual()
    assert MARKED[1] not in display.as_svg(graph)
    picture = display.as_svg(graph, marked={"stage1.block0.norm"})
    titles = re.findall(r"<title>(.*?)</title>", picture, re.S)
    assert any(title.startswith("stage1.block0.norm: ") for title in titles)
    assert picture.count(MARKED[1]) == 1


def test_names_are_escaped_and_html_holds_drawing_and_table() -> None:
    text = display.as_html(residual())
    assert "head<&>" not in text and "head&lt;&amp;&gt;" in text
    assert "<svg" in text and "<table" in text


def test_too_large_a_graph_says_what_is_left_out() -> None:
    from synth.drawing import draw

    assert "more boxes are not drawn" in draw(residual(), limit=3)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (10, "10"),
        (950, "950"),
        (999, "999"),
        (1000, "1k"),
        (1234, "1.2k"),
        (75290, "75.3k"),
        (999_999, "1M"),
        (4.1e9, "4.1G"),
    ],
)
def test_short_numbers(number: float, text: str) -> None:
    assert short_number(number) == text
