"""Verdicts, and the tables they are printed in."""

import numpy as np
import pytest
import xarray as xr

from imbalance.reporting.claims import (
    between,
    claims_table,
    close,
    headlines,
    inside_grid,
    over_seeds,
    reported,
    sign_explains_adam,
    slug,
    to_markdown,
    to_text,
    undecided,
)

HOW = {"fixed": "before any run"}


@pytest.mark.parametrize(
    ("value", "limits", "holds", "expected"),
    [
        (1.0, {"low": 1.0}, True, "≥ 1"),
        (0.99, {"low": 1.0}, False, "≥ 1"),
        (2.0, {"high": 2.0}, True, "≤ 2"),
        (2.01, {"high": 2.0}, False, "≤ 2"),
        (1.5, {"low": 1.0, "high": 2.0}, True, "1 to 2"),
        (np.nan, {"low": 1.0}, False, "≥ 1"),
        (np.inf, {"low": 1.0}, False, "≥ 1"),
        (-np.inf, {"high": 1.0}, False, "≤ 1"),
    ],
)
def test_between(value, limits, holds, expected):
    claim = between("a-name", "a number", value, **limits, **HOW)
    assert (claim.holds, claim.expected) == (holds, expected)
    assert claim.measured == ("undefined" if np.isnan(value) else f"{value:.4g}")
    assert claim.verdict == ("holds" if holds else "FAILS")


def test_no_value_at_all_does_not_hold():
    claim = between("a-name", "of seeds that have nothing in common", np.array([]), low=0.0, **HOW)
    assert claim.holds is False and claim.measured == "undefined"


@pytest.mark.parametrize(
    ("values", "references", "tolerance", "holds"),
    [
        ([1.0, 2.05], [1.0, 2.0], {"atol": 0.06}, True),
        ([1.0, 2.05], [1.0, 2.0], {"atol": 0.04}, False),
        ([105.0], [100.0], {"rtol": 0.06}, True),
        ([-105.0], [-100.0], {"rtol": 0.04}, False),
        ([105.0], [100.0], {"atol": 2.0, "rtol": 0.03}, True),
        ([3], [3], {}, True),
        ([np.nan], [1.0], {"atol": 9.0}, False),
        ([1.0], [1.0, 1.0], {"atol": 9.0}, False),
    ],
)
def test_close(values, references, tolerance, holds):
    assert close("a-name", "numbers", values, references, **tolerance, **HOW).holds is holds


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        ({"atol": 0.05}, "2 ± 0.05"),
        ({"rtol": 0.15}, "2 ± 15%"),
        ({"rtol": 0.002}, "2 ± 0.2%"),
        ({"atol": 0.05, "rtol": 0.1}, "2 ± 0.05 + 10%"),
        ({}, "2 ± 0"),
    ],
)
def test_close_tells_its_tolerance(tolerance, expected):
    assert close("a-name", "a number", [2.0], [2.0], **tolerance, **HOW).expected == expected


def test_what_a_scale_cannot_decide_says_so():
    claim = undecided("a-name", "at m = 11", "≥ 8", "needs --scale paper", **HOW)
    assert claim.holds is None
    assert claim.verdict == "not decided"


def chosen(edges):
    return xr.Dataset(
        coords={"optimizer": list(edges), "edge": ("optimizer", list(edges.values()))},
        attrs={"selection": "best rate at step 9"},
    )


def test_best_rates_at_an_edge_fail_by_name():
    claim = inside_grid(chosen({"gd": "", "adam": "largest tried"}))
    assert claim.holds is False
    assert claim.measured == "adam: largest tried"
    assert "best rate at step 9" in claim.statement


def test_best_rates_inside_hold():
    claim = inside_grid(chosen({"gd": "", "adam": ""}))
    assert claim.holds is True
    assert claim.measured == "all inside"


def test_edges_along_two_dimensions_are_named_by_both():
    both = xr.concat(
        [chosen({"gd": ""}), chosen({"gd": "smallest tried"})], xr.Variable("seeds", ["a", "b"])
    )
    assert inside_grid(both).measured in ("b gd: smallest tried", "gd b: smallest tried")


def test_claims_of_several_selections_have_different_names():
    assert inside_grid(chosen({"gd": ""})).name == "best-rates-inside-grid"
    assert inside_grid(chosen({"gd": ""}), "digits-inside-grid").name == "digits-inside-grid"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("docstrings, BPE", "docstrings-bpe"),
        ("N(0,0.75)", "n-0-0.75"),
        ("adam_without_momentum", "adam-without-momentum"),
    ],
)
def test_words_as_names(words, expected):
    assert slug(words) == expected


ROWS = [
    between("first", "holds | really", 1.0, low=0.0, **HOW),
    between("second", "does not", 1.0, low=2.0, fixed="after a pilot"),
    undecided("third", "who knows", "≥ 2", "needs --scale paper", fixed="arithmetic"),
]


def test_sign_descent_explains_adam_if_it_closes_the_gap_and_normalizing_does_not():
    near, far = sign_explains_adam("here", [5.0, 1.0, 4.0, 1.7], "here", "Figure 5")
    names = ("here-sign-closes-the-gap", "here-normalized-gd-does-not")
    assert (near.name, far.name) == names
    assert near.holds and far.holds and near.statement.startswith("here: sign descent")
    assert (near.measured, far.measured) == ("82.5 %", "25 %")  # 3.3 and 1 of 4 nats
    assert near.section == far.section == "Figure 5"
    near, far = sign_explains_adam("here", [5.0, 1.0, 2.9, 0.1], "here")
    assert not near.holds and not far.holds


def test_a_claim_is_decided_on_every_seed():
    all_hold = between("a-name", "a gap", np.array([1.0, 1.5, 1.1]), low=1.0, **HOW)
    assert all_hold.holds and all_hold.measured == "1.2 (1 to 1.5, 3 seeds)"
    one_fails = between("a-name", "a gap", xr.DataArray([1.0, 0.9, 1.1], dims="seed"), 1.0, **HOW)
    assert not one_fails.holds and one_fails.measured.endswith("on 2 of 3 seeds")
    assert not between("a-name", "a gap", [1.0, np.nan], low=1.0, **HOW).holds


def test_shares_are_written_in_per_cent():
    claim = between("a-name", "a share", [0.9, 0.95], low=0.8, percent=True, **HOW)
    assert (claim.expected, claim.measured) == ("≥ 80 %", "92.5 % (90 % to 95 %, 2 seeds)")


def test_a_number_without_a_threshold_is_reported_and_decides_nothing():
    claim = reported("a-name", "a number", [1.0, 2.0])
    assert claim.verdict == "reported" and claim.holds is None and not claim.tests
    assert claim.measured == over_seeds([1.0, 2.0]) == "1.5 (1 to 2, 2 seeds)"
    assert reported("a-name", "a number", "words").measured == "words"


def test_the_table_has_a_row_a_claim_and_does_not_hide_failures():
    tests, words, others = to_markdown(ROWS).split("\n\n")
    assert words.startswith("Checks")
    (head, rule, held), (head_2, rule_2, *rest) = tests.split("\n"), others.split("\n")
    assert len(rest) == 2
    for row, like in ((rule, head), (held, head), *((one, head_2) for one in (rule_2, *rest))):
        assert row.replace("\\|", "").count("|") == like.count("|")
    assert "| holds |" in held and "| `first`:" in held
    assert "**FAILS**" in rest[0] and "after a pilot" in rest[0]
    assert "not decided" in rest[1]


def test_a_failure_tells_its_reason_and_a_claim_that_holds_does_not():
    why = {"reason": "too few steps", **HOW}
    assert "**FAILS**: too few steps" in to_markdown([between("a", "b", 1.0, low=2.0, **why)])
    assert "too few steps" in to_text([between("a", "b", 1.0, low=2.0, **why)])
    assert "too few steps" not in to_markdown([between("a", "b", 3.0, low=2.0, **why)])


def test_the_page_opens_with_the_main_claims_and_counts_tests_apart():
    main = between("gap", "GD - Adam", 3.0, 1.0, section="Figure 4", headline=True, **HOW)
    page = claims_table({"one": ROWS, "two": [main, reported("n", "a number", 1.0)]}, "laptop")
    assert page.index("Of 2 claims") < page.index("main claims") < page.index("## one")
    assert "2 hold and 0 fail" in page and "1 of these fail" in page
    assert "| Figure 4 | GD - Adam | ≥ 1 | 3 | holds | `two` |" in page
    assert headlines({"one": ROWS}).count("\n") == 1  # its head and no row


def test_the_text_begins_with_the_verdict():
    lines = to_text(ROWS).split("\n")
    assert [line.split("  ")[0].strip() or line.split()[0] for line in lines[::2]]
    assert lines[0].lstrip().startswith("holds  first: holds | really")
    assert lines[2].lstrip().startswith("FAILS  second: does not")
    assert lines[4].lstrip().startswith("not decided  third: who knows")
    assert "measured 1; asked ≥ 2" in lines[3]
