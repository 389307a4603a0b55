"""SVG charts of the figures; colours that can be read on light and on dark ground."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pygal
from pygal import style

INK, GRID = "#7d8590", "rgba(125, 133, 144, 0.35)"
OURS, OTHERS = "#3e63dd", ("#e5484d", "#ad7f58", "#18794e")
WIDTH, HEIGHT = 760, 400

Points = Sequence[tuple[float, float]]


def xy(
    path: Path,
    title: str,
    axes: tuple[str, str],
    series: Mapping[str, Points],
    *,
    logarithmic: bool = False,
    dots: bool = True,
) -> None:
    """Draw lines through (x, y) points; the first series is ours. `logarithmic` is about y."""
    drawn = pygal.XY(
        **_common(title, axes), logarithmic=logarithmic, show_dots=dots, dots_size=4, stroke_style={"width": 2.5}
    )
    if logarithmic:
        drawn.y_labels = _decades([y for points in series.values() for _, y in points])
    for name, points in series.items():
        drawn.add(name, [(x, y) for x, y in points if y > 0 or not logarithmic])
    _write(drawn, path)


def bars(
    path: Path, title: str, axes: tuple[str, str], labels: Sequence[str], series: Mapping[str, Sequence[float]]
) -> None:
    """Draw groups of bars, one group for each label; logarithmic, since they differ by orders of magnitude."""
    drawn = pygal.Bar(**_common(title, axes), logarithmic=True)
    drawn.y_labels = _decades([value for values in series.values() for value in values])
    drawn.x_labels = list(labels)
    for name, values in series.items():
        drawn.add(name, list(values))
    _write(drawn, path)


def _decades(values: Sequence[float]) -> list[float]:
    """Return the powers of ten around `values`."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**exponent for exponent in range(low, high + 1)]


def _common(title: str, axes: tuple[str, str]) -> dict[str, object]:
    looks = style.Style(
        background="transparent",
        plot_background="transparent",
        foreground=INK,
        foreground_strong=INK,
        foreground_subtle=INK,
        guide_stroke_color=GRID,
        major_guide_stroke_color=GRID,
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
        colors=(OURS, *OTHERS),
        font_family="system-ui, sans-serif",
        title_font_size=17,
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=13,
    )
    return {
        "title": title,
        "x_title": axes[0],
        "y_title": axes[1],
        "style": looks,
        "width": WIDTH,
        "height": HEIGHT,
        "js": [],
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 3,
        "truncate_legend": -1,
        "disable_xml_declaration": True,
    }


def _write(drawn: pygal.Graph, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.uuid = path.stem  # else a random one: the same figures draw the same file
    path.write_text(drawn.render(is_unicode=True) + "\n")
