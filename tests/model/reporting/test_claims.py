"""Claims of the text and the numbers beside them."""

import pandas as pd
import pytest

from model.reporting.charts import nice_ticks
from model.reporting.claims import FINDINGS, Tables, claims, p_value

NOTHING = Tables(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())


def verdicts(tables):
    return dict(zip(FINDINGS, (claim.verdict for claim in claims(tables)), strict=True))


def changed(report, **columns):
    retrieval = report.retrieval.copy()
    codes = (retrieval["method"] == "autoencoder") & (retrieval["space"] == "features")
    for name, value in columns.items():
        retrieval.loc[codes, name] = value
    return Tables(report.rates, report.specialisation, retrieval)


def test_what_the_tables_lack_is_not_measured():
    assert set(verdicts(NOTHING).values()) == {"unmeasured"}
    assert {claim.measured["en"] for claim in claims(NOTHING)} == {"This run has no number for it."}


def test_claims_have_the_numbers_of_the_tables(report):
    found = claims(Tables(report.rates, report.specialisation, report.retrieval))
    text = " ".join(claim.measured["en"] for claim in found)
    for number in (
        "85.0\u00a0% of 1,000 images (tiny val)",
        "median pixel rank of 720 among 2,000",
        "90.0\u00a0% of the 0.500",
    ):
        assert number in text
    assert "0.450 from features against 0.120 from pixels: 3.8 times" in text


def test_random_kernels_show_no_specialisation_and_the_paper_s_own_row_is_no_measurement(report):
    found = verdicts(Tables(report.rates, report.specialisation, report.retrieval))
    assert (found["towers"], found["every_run"], found["off_centre"]) == ("unseen", "unseen", "unmeasured")
    published = report.specialisation[report.specialisation["source"] != "measured"]
    assert verdicts(Tables(report.rates, published, report.retrieval))["towers"] == "unmeasured"


def test_bad_codes_show_that_the_claim_fails(report):
    assert verdicts(changed(report))["short_codes"] == "seen"
    assert verdicts(changed(report, map=0.4))["short_codes"] == "unseen"
    assert verdicts(changed(report, map_low=0.125))["better_than_pixels"] == "unseen"


def test_the_fewest_bits_are_what_a_claim_is_about(report):
    many = report.retrieval["bits"] == 256
    retrieval = report.retrieval.assign(map=report.retrieval["map"].where(~many, 0.01))
    assert claims(Tables(report.rates, report.specialisation, retrieval))[6].measured["en"].startswith("Codes of 28 bits reach")


@pytest.mark.parametrize(("value", "text"), [(0.046, "p = 0.046"), (0.7, "p = 0.7"), (0.00005, "p < 0.0001"), (1.0, "p = 1")])
def test_p_values_are_short(value, text):
    assert p_value(value) == text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 0.8, [0, 0.2, 0.4, 0.6, 0.8]),
        (1, 20, [0, 5, 10, 15, 20]),
        (0, 0, [0, 0.2]),
        (0, 3.1, [0, 1, 2, 3, 4]),
    ],
)
def test_ticks_are_round_and_hold_all_values(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)
