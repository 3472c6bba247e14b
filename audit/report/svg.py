"""Draw a chart as an SVG that may stand in a page: offline, the same every time, free of anything active.

vl-convert draws. What it returns is rebuilt from a short list of allowed elements and attributes, so that
nothing else can reach the page, whatever a chart's data hold.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # reads only what vl-convert has just written

import altair as alt
import vl_convert
from altair.typing import ChartType

from ..errors import InputError
from .safe_text import clean, one_line

_SVG = "{http://www.w3.org/2000/svg}"
_ELEMENTS = {"svg", "g", "path", "rect", "line", "circle", "text", "tspan", "defs", "clipPath"}  # nothing active
_ATTRIBUTES = {"id", "viewBox", "transform", "clip-path", "d", "r", "rx", "ry", "cx", "cy", "x", "x1", "x2", "y"}
_ATTRIBUTES |= {"y1", "y2", "dx", "dy", "width", "height", "opacity", "fill", "fill-opacity", "text-anchor"}
_ATTRIBUTES |= {"font-size", "font-style", "font-weight", "stroke", "stroke-dasharray", "stroke-dashoffset"}
_ATTRIBUTES |= {"stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "stroke-opacity", "stroke-width"}
_REFERENCE = re.compile(r"url\(#([A-Za-z][\w-]*)\)")
_LONG_FRACTION = re.compile(r"(\.\d{3})\d+")

# Charts are measured with Liberation Sans, which vl-convert brings along, and shown in a font of the same widths.
MEASURED_FONT = "Liberation Sans"
_SHOWN_FONT = "Arial, Helvetica, Liberation Sans, sans-serif"


def svg(chart: ChartType, *, uid: str, title: str, description: str) -> str:
    """Draw a chart.

    Args:
        chart: Any Altair chart whose data are inline; loading from an address is refused.
        uid: Start of every id inside the drawing, unique in the page: lower-case letters, digits and "-".
        title: Short name, read out by screen readers.
        description: What the chart shows, in words, for those who cannot see it.

    Returns:
        One ``<svg>`` element with ``role="img"``, to be put into HTML as it is.

    Raises:
        InputError: ``uid`` is not of that form, or the chart cannot be drawn.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", uid):
        raise InputError(
            f"the drawing's uid is {uid!r}; expected a lower-case letter, then lower-case letters, digits or '-'"
        )
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    try:
        drawn = vl_convert.vegalite_to_svg(chart.to_dict(validate=False), vl_version=version, allowed_base_urls=[])
    except ValueError as error:
        raise InputError(
            f"the chart {one_line(title)!r} could not be drawn: {one_line(str(error))}. Charts need inline data, "
            f"not an address."
        ) from error
    root = _rebuilt(ET.fromstring(drawn), _new_ids(drawn, uid))
    root.set("xmlns", _SVG.strip("{}"))
    root.set("font-family", _SHOWN_FONT)
    root.set("role", "img")
    root.set("aria-labelledby", f"{uid}-title {uid}-desc")
    for at, (tag, text) in enumerate((("title", title), ("desc", description))):
        words = ET.Element(tag, {"id": f"{uid}-{tag}"})
        words.text = clean(text)
        root.insert(at, words)
    return ET.tostring(root, encoding="unicode")


def _new_ids(drawn: str, uid: str) -> dict[str, str]:
    """The ids that are referred to, renumbered: vl-convert counts on from one drawing to the next."""
    found = dict.fromkeys(_REFERENCE.findall(drawn))
    return {old: f"{uid}-{number}" for number, old in enumerate(found)}


def _rebuilt(element: ET.Element, ids: dict[str, str]) -> ET.Element:
    """A copy with allowed elements and attributes only, new ids, and coordinates to 3 decimals."""
    copy = ET.Element(element.tag.removeprefix(_SVG))
    copy.text, copy.tail = element.text, element.tail
    for name, value in element.attrib.items():
        if name == "id":
            if value in ids:
                copy.set(name, ids[value])
        elif name in _ATTRIBUTES and (allowed := _allowed(value, ids)) is not None:
            copy.set(name, allowed)
    for child in element:
        if child.tag.removeprefix(_SVG) in _ELEMENTS and child.get("display") != "none":
            copy.append(_rebuilt(child, ids))
    return copy


def _allowed(value: str, ids: dict[str, str]) -> str | None:
    """An attribute's value, or None when it refers to anything outside the drawing."""
    if reference := _REFERENCE.fullmatch(value):
        return f"url(#{ids[reference[1]]})"
    if "url" in value.lower() or ":" in value:
        return None
    return _LONG_FRACTION.sub(r"\1", value)
