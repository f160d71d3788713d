"""gate.yaml: what a change must hold to be merged, and what is waived for a while."""

import datetime
from dataclasses import dataclass
from typing import Any, Literal

from pneumonia.errors import PipelineError
from pneumonia.store.params import as_section, check
from pneumonia.store.yaml12 import parse_yaml

SCHEMA = 1
RuleName = Literal[
    "recall_floor",
    "specificity_floor",
    "recall_loss",
    "specificity_loss",
    "recall_loss_bacterial",
    "recall_loss_viral",
]


@dataclass(frozen=True)
class Floors:
    """What the lower bound of a rate on test must reach; in [0, 1)."""

    recall: float
    specificity: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in vars(self).items():
            check(0 <= value < 1, name, "be in [0, 1)", value)


@dataclass(frozen=True)
class Margins:
    """What the upper bound of a loss against the base must stay below; in (0, 1)."""

    recall: float
    specificity: float
    recall_bacterial: float
    recall_viral: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in vars(self).items():
            check(0 < value < 1, name, "be in (0, 1)", value)


@dataclass(frozen=True)
class Rules:
    """All of gate.yaml but its waivers."""

    schema: int
    confidence: float  # of each bound, one-sided, in (0.5, 1)
    floors: Floors
    margins: Margins
    min_images_of_a_kind: int  # on test; with fewer, the rule of that kind is not asked
    n_bootstrap: int  # resamples of patients
    seed: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self.schema == SCHEMA, "schema", f"be {SCHEMA}", self.schema)
        # At one half a bound is the figure itself, below it lies on the wrong side.
        check(0.5 < self.confidence < 1, "confidence", "be in (0.5, 1)", self.confidence)
        check(
            self.min_images_of_a_kind >= 1,
            "min_images_of_a_kind",
            "be at least 1",
            self.min_images_of_a_kind,
        )
        check(
            1000 <= self.n_bootstrap <= 100_000,
            "n_bootstrap",
            "be in [1000, 100000]",
            self.n_bootstrap,
        )
        check(self.seed >= 0, "seed", "be at least 0", self.seed)


@dataclass(frozen=True)
class Waiver:
    """One rule that need not hold until a day, and why."""

    rule: RuleName
    reason: str
    expires: str  # the last day it counts, in UTC: 2026-12-31

    def __post_init__(self) -> None:
        """Check reason and date."""
        check(bool(self.reason.strip()), "reason", "be given", self.reason)
        try:
            day = datetime.date.fromisoformat(self.expires)
        except ValueError:
            day = None
        # fromisoformat also reads 20261231 and 2026-W53-4.
        check(
            day is not None and day.isoformat() == self.expires,
            "expires",
            "be a day as 2026-12-31",
            self.expires,
        )

    def counts_on(self, day: datetime.date) -> bool:
        """Whether the waiver has not expired on `day`."""
        return day <= datetime.date.fromisoformat(self.expires)


@dataclass(frozen=True)
class Policy:
    """The content of gate.yaml."""

    rules: Rules
    waivers: tuple[Waiver, ...]


def parse_policy(text: str, where: str) -> Policy:
    """The policy in the text of a gate.yaml, read strictly; `where` starts the error.

    Raises:
        PipelineError: the text is not YAML, or a key, type or value in it is wrong.
    """
    values: dict[str, Any] = parse_yaml(text, where)
    waivers = values.pop("waivers", None)
    if not isinstance(waivers, list):
        raise PipelineError(
            f"{where}: waivers must be a list, [] where nothing is waived. Received: {waivers!r}"
        )
    for name, into in (("floors", Floors), ("margins", Margins)):
        if name in values:
            values[name] = as_section(values[name], f"{where}: {name}", into)
    return Policy(
        rules=as_section(values, where, Rules),
        waivers=tuple(
            as_section(waiver, f"{where}: waivers[{number}]", Waiver)
            for number, waiver in enumerate(waivers)
        ),
    )
