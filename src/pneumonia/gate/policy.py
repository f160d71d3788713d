"""gate.yaml: what a change must hold to be merged, and what is waived for a while."""

import datetime
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from pneumonia.store.params import Section, Seed, as_section, require
from pneumonia.store.yaml12 import parse_yaml

RuleName = Literal[
    "recall_floor",
    "specificity_floor",
    "recall_loss",
    "specificity_loss",
    "recall_loss_bacterial",
    "recall_loss_viral",
]


_Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
_Loss: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class Floors(Section):
    """What the lower bound of a rate on test must reach."""

    recall: _Rate
    specificity: _Rate


class Margins(Section):
    """What the upper bound of a loss against the base must stay below."""

    recall: _Loss
    specificity: _Loss
    recall_bacterial: _Loss
    recall_viral: _Loss


class Rules(Section):
    """All of gate.yaml but its waivers."""

    version: int = Field(alias="schema", ge=1, le=1)  # Literal[1] takes `true`, too
    # At one half a bound is the metric itself, below it lies on the wrong side.
    confidence: float = Field(gt=0.5, lt=1, description="of each bound, one-sided")
    floors: Floors
    margins: Margins
    min_images_of_a_kind: int = Field(
        ge=1, le=1_000_000, description="on test; with fewer, the rule of that kind is not asked"
    )
    n_bootstrap: int = Field(ge=1000, le=100_000, description="resamples of patients")
    seed: Seed


class Waiver(Section):
    """One rule that need not hold until a day, and why."""

    rule: RuleName
    reason: str
    expires: str = Field(description="the last day it counts, in UTC: 2026-12-31")

    @model_validator(mode="after")
    def _says_why_and_until_when(self) -> Self:
        require(bool(self.reason.strip()), "reason", "be given", self.reason)
        try:
            day = datetime.date.fromisoformat(self.expires)
        except ValueError:
            day = None
        # fromisoformat also reads 20261231 and 2026-W53-4.
        require(
            day is not None and day.isoformat() == self.expires,
            "expires",
            "be a day as 2026-12-31",
            self.expires,
        )
        return self

    def counts_on(self, day: datetime.date) -> bool:
        """Whether the waiver has not expired on `day`."""
        return day <= datetime.date.fromisoformat(self.expires)


class GateFile(Rules):
    """All of gate.yaml."""

    waivers: list[Waiver] = Field(description="[] where nothing is waived")


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
    values = parse_yaml(text, where)
    waivers = as_section(values, where, GateFile).waivers
    del values["waivers"]
    return Policy(as_section(values, where, Rules), tuple(waivers))
