"""The page Steering: distances and changed neurons of a fit; effect against perplexity, and examples, of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import ALL
from tests.dashboards.rooms import maps_run, sweep_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("steering")
    maps_run(root / "maps")
    sweep_run(root / "sweep")
    return root


def test_a_fit_shows_distances_and_where_neurons_are_changed(root: Path) -> None:
    test = drawn("steering", root, run="maps")
    told = [chart.proto.alt for chart in test.get("vega_lite_chart")]
    assert "All sites: 3 without maps, 1.67 with them." in told
    assert "Share of changed neurons by site; 20% of all." in told
    assert "Effect and perplexity by strength belong to a sweep" in words(test)


def test_neurons_are_listed_by_site(root: Path) -> None:
    test = drawn("steering", root, run="maps", site="model.layers.1.norm")
    assert "Rows 1 to 2 of 2 that pass, of 12 in all" in words(test)


def test_a_sweep_shows_effect_against_perplexity_of_every_arm(root: Path) -> None:
    test = drawn("steering", root, run="sweep")
    titles = [one.value for one in test.subheader]
    assert titles[:2] == ["Effect against cost\\, neutral texts", "Effect against cost\\, target texts"]
    assert "Effect by strength" in titles
    assert "belong to the run that fitted the maps" in words(test)


def test_what_was_written_is_hidden_until_somebody_asks(root: Path) -> None:
    test = drawn("steering", root, run="sweep")
    assert "continuation of" not in words(test)
    test.toggle(key="show-texts-steering").set_value(True).run()
    assert ":blue-background[continuation of ours]" in words(test)
    assert "prompt 2" in words(test)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    maps_run(tmp_path / "maps", word=f"{ALL} ")
    sweep_run(tmp_path / "sweep", word=f"{ALL} ")
    for run in ("maps", "sweep"):
        test = drawn("steering", tmp_path, run=run)
        test.toggle(key="show-texts-steering").set_value(True).run()
        assert not test.exception
        assert_inert(test)
