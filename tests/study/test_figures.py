import re

import pandas as pd
import pytest

from nnunet_archs.study.figures import (
    PALETTE,
    case_plot,
    difference_plot,
    fold_plot,
    looks,
    loss_plot,
    pseudo_dice_plot,
)
from nnunet_archs.study.statistics import Comparison, Interval


def luminance(colour):
    """As WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colour", PALETTE)
@pytest.mark.parametrize("paper", ["#ffffff", "#15181b"])
def test_networks_are_legible_in_light_and_dark(colour, paper):
    light, dark = sorted([luminance(colour), luminance(paper)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_every_network_looks_its_own_way():
    assert len({*looks([str(i) for i in range(40)]).values()}) == 40


def test_a_figure_takes_the_colour_of_the_text():
    drawing = case_plot(pd.DataFrame({"a": [0.1, 0.2, 0.4], "b <i>": [0.2, 0.3, 0.3]}), looks(["a", "b <i>"]), "Dice")
    assert "currentColor" in drawing.svg
    assert "#000000" not in drawing.svg
    assert "b &lt;i&gt;" in drawing.svg
    assert drawing.text == (
        "Dice of every case. Median (quartiles): a 0.200 (0.150 to 0.300) and b <i> 0.300 (0.250 to 0.300)."
    )


def test_dots_keep_their_colour():
    """Half transparent, they could hardly be seen on dark paper."""
    scores = pd.DataFrame({"a": [0.1, 0.2, 0.4], "b": [0.2, 0.3, 0.3]})
    compared = [Comparison("a", "b", 3, Interval(0.1, 0.0, 0.2), 0.5, 0.5)]
    of = looks(["a", "b"])
    folds = pd.Series([0, 1, 1])
    figures = (
        case_plot(scores, of, "Dice"),
        difference_plot(scores, compared, of, "Dice", "b"),
        fold_plot(scores, folds, of, "Dice"),
    )
    for figure in figures:
        coloured = re.findall(rf'style="([^"]*(?:{"|".join(PALETTE)})[^"]*)"', figure.svg)
        assert coloured
        assert not [style for style in coloured if "opacity" in style]
        assert "var(--paper)" in figure.svg


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 1000])
def test_epochs_are_whole_numbers(epochs):
    curves = {"a": [[0.5] * epochs]}
    for figure in (loss_plot(curves, curves, looks(["a"])), pseudo_dice_plot(curves, looks(["a"]))):
        ticks = re.findall(r'xtick_\d+">.*?>([^<>]+)</text>', figure.svg, re.DOTALL)
        assert ticks
        assert all(re.fullmatch(r"[−-]?\d+", tick) for tick in ticks)


def test_curves_of_folds_of_other_lengths_have_a_mean_where_all_are():
    text = pseudo_dice_plot({"a": [[0.1, 0.5, 0.9], [0.3, 0.6]]}, looks(["a"])).text
    assert text.endswith("a 0.550.")


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_losses_have_a_panel_a_network(n):
    curves = {str(i): [[0.5], [0.4]] for i in range(n)}
    assert loss_plot(curves, curves, looks([*curves])).svg.count(">epoch<") == min(n, 2)
