from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import altair as alt
import pytest

from audit.errors import InputError
from audit.report.chart_rows import inline
from audit.report.svg import svg

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)> url(#x) javascript:'


def chart(name: str = "a") -> alt.Chart:
    drawn: alt.Chart = (
        inline([{"x": 1, "y": 2, "name": name}, {"x": 2, "y": 3, "name": "b"}])
        .mark_line(clip=True)
        .encode(x="x:Q", y="y:Q", color=alt.Color("name:N"))
    )
    return drawn


def draw(name: str = "a", uid: str = "fig-1") -> str:
    return svg(chart(name), uid=uid, title="A <title>", description="Rises from 2 to 3.")


def test_a_drawing_is_the_same_every_time() -> None:
    first = draw()
    draw(uid="other")
    assert draw() == first


def test_ids_are_unique_between_drawings_and_all_references_resolve() -> None:
    first, second = draw(uid="fig-1"), draw(uid="fig-2")
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn)) for drawn in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for drawn, own in zip((first, second), ids, strict=True):
        references = set(re.findall(r"url\(#([^)]+)\)", drawn))
        assert references
        assert references <= own


def test_title_and_description_are_there_for_screen_readers() -> None:
    root = ET.fromstring(draw())
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "fig-1-title fig-1-desc"
    assert [root[0].tag, root[0].text] == [f"{space}title", "A <title>"]
    assert [root[1].tag, root[1].text] == [f"{space}desc", "Rises from 2 to 3."]


def test_hostile_labels_stay_text() -> None:
    drawn = draw(HOSTILE)
    tags = {element.tag.split("}")[1] for element in ET.fromstring(drawn).iter()}
    assert tags <= {"svg", "title", "desc", "g", "path", "rect", "line", "circle", "text", "tspan", "defs", "clipPath"}
    attributes = {name for element in ET.fromstring(drawn).iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or "href" in name or name in ("style", "class")]
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert "&lt;script&gt;" in drawn


def test_nothing_is_loaded_from_an_address() -> None:
    remote = alt.Chart("http://127.0.0.1:9/data.csv").mark_point().encode(x="a:Q")
    with pytest.raises(InputError, match="the chart 't' could not be drawn: .*Charts need inline data, not an address"):
        svg(remote, uid="a", title="t", description="d")


def test_a_uid_that_could_break_an_attribute_is_refused() -> None:
    with pytest.raises(InputError, match=r"uid is 'a\"b'; expected a lower-case letter, then"):
        svg(chart(), uid='a"b', title="t", description="d")
