"""gate.yaml: strict, and a waiver ends."""

import datetime
from pathlib import Path

import pytest
import yaml

from pneumonia.errors import PipelineError
from pneumonia.gate.policy import parse_policy

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "gate.yaml").read_text()
WAIVER = {"rule": "recall_floor", "reason": "a new scanner", "expires": "2026-12-31"}


def changed(**values: object) -> str:
    return yaml.safe_dump(yaml.safe_load(TEXT) | values)


def with_waiver(**values: object) -> str:
    return changed(waivers=[WAIVER | values])


def test_the_policy_of_this_repository_is_read_and_waives_nothing():
    policy = parse_policy(TEXT, "gate.yaml")
    assert policy.waivers == ()
    assert vars(policy.rules.floors) == yaml.safe_load(TEXT)["floors"]
    assert vars(policy.rules.margins) == yaml.safe_load(TEXT)["margins"]
    assert policy.rules.confidence == 0.95


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(schema=2), r"gate\.yaml: schema must be 1\. Received: 2"),
        (changed(confidence=0.5), r"confidence must be in \(0\.5, 1\)"),
        (changed(confidence=1.0), r"confidence must be in \(0\.5, 1\)"),
        (changed(confidence="high"), r"confidence must be float"),
        (changed(confidence=float("nan")), r"confidence must be a finite number"),
        (changed(floors={"recall": 0.9}), r"gate\.yaml: floors: missing specificity"),
        (changed(floors={"recall": 1.0, "specificity": 0}), r"recall must be in \[0, 1\)"),
        (changed(floors=None), r"gate\.yaml: floors: expected keys with values"),
        (
            changed(margins=yaml.safe_load(TEXT)["margins"] | {"recall": 0.0}),
            r"margins\.recall must be in \(0, 1\)",
        ),
        (
            changed(margins=yaml.safe_load(TEXT)["margins"] | {"f1": 0.1}),
            r"gate\.yaml: margins: unknown f1",
        ),
        (changed(n_bootstrap=999), r"n_bootstrap must be in \[1000, 100000\]"),
        (changed(min_images_of_a_kind=0), r"min_images_of_a_kind must be in \[1, 1000000\]"),
        (changed(seed=-1), r"seed must be in \[0, 4294967295\]"),
        (changed(extra=1), r"gate\.yaml: unknown extra"),
        (changed(waivers=None), r"waivers must be a list\. Received: None"),
        (with_waiver(rule="accuracy"), r"waivers\[0\]\.rule must be one of recall_floor"),
        (with_waiver(reason="  "), r"waivers\[0\]\.reason must be given"),
        (with_waiver(expires="2026-02-30"), r"waivers\[0\]\.expires must be a day as 2026-12-31"),
        (with_waiver(expires="20261231"), r"expires must be a day as 2026-12-31"),
        (changed(waivers=["all"]), r"waivers\[0\]: expected keys with values"),
        ("floors: [", r"gate\.yaml: "),
    ],
)
def test_what_a_policy_may_not_say_is_one_clear_error(text, message):
    with pytest.raises(PipelineError, match=message):
        parse_policy(text, "gate.yaml")


@pytest.mark.parametrize("section", ["floors", "margins", "confidence", "n_bootstrap", "waivers"])
def test_nothing_may_be_left_out(section):
    values = yaml.safe_load(TEXT)
    del values[section]
    with pytest.raises(PipelineError, match=section):
        parse_policy(yaml.safe_dump(values), "gate.yaml")


def test_a_waiver_counts_to_the_end_of_its_last_day_and_no_longer():
    (waiver,) = parse_policy(with_waiver(), "gate.yaml").waivers
    assert waiver.counts_on(datetime.date(2026, 12, 31))
    assert not waiver.counts_on(datetime.date(2027, 1, 1))


def test_a_date_without_quotes_is_the_text_that_it_is():
    text = TEXT.replace(
        "waivers: []",
        "waivers:\n- {rule: recall_floor, reason: a new scanner, expires: 2026-12-31}",
    )
    assert parse_policy(text, "gate.yaml").waivers[0].expires == "2026-12-31"
