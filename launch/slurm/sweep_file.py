"""A sweep's file, in W&B's own form: what is tried, by grid or at random, and by which metric trials are ranked.

    program: ave                         # the configuration that every trial begins from
    method: random                       # or grid
    metric: {name: validation/accuracy, goal: maximize}
    run_cap: 20                          # trials
    parameters:
      optim.lr: {min: 1e-5, max: 1e-3, distribution: log_uniform_values}
      model.trunk: {values: [vgg, resnet18]}

The parameters of a trial follow from the file and its number alone.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from avc.config import no_such_setting, read_settings, refusal
from avc.settings import Section

WANDBS = ("name", "description", "entity", "project", "command")  # W&B's alone
MOST_TRIALS = 100_000
Name = Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+$")]
Number = Annotated[int | float, Field(union_mode="left_to_right")]


class Parameter(Section):
    """Values of one setting. Distributions are W&B's; without one, `values` are equally likely, min to max uniform."""

    value: Any = None
    """The same in all trials."""
    values: list[Any] = Field(default=[])
    """One of these."""
    probabilities: list[float] = Field(default=[])
    """Of each of `values`, in random search."""
    min: Number | None = None
    """Smallest, in random search."""
    max: Number | None = None
    """Largest, in random search."""
    distribution: Literal["constant", "categorical", "uniform", "int_uniform", "log_uniform_values"] | None = None
    """By default as the other values say."""

    @model_validator(mode="after")
    def _possible(self) -> Parameter:
        ends = (self.min, self.max)
        given = ["value" in self.model_fields_set, bool(self.values), ends != (None, None)]
        if sum(given) != 1 or (ends[0] is None) != (ends[1] is None):
            raise ValueError("give it a `value`, `values`, or both `min` and `max`")
        if self.probabilities and (
            len(self.probabilities) != len(self.values) or not math.isclose(sum(self.probabilities), 1, abs_tol=1e-6)
        ):
            raise ValueError("`probabilities` must be one for each of `values` and sum to 1")
        if self.min is not None and self.max is not None:
            if self.min >= self.max:
                raise ValueError(f"min is {self.min} and must be less than max, {self.max}")
            if self.distribution == "log_uniform_values" and self.min <= 0:
                raise ValueError(f"min is {self.min} and must be above 0 on a logarithmic scale")
        return self

    @property
    def choices(self) -> list[Any] | None:
        """What a grid goes through; None where that has no end."""
        return self.values or ([self.value] if self.min is None else None)

    def draw(self, generator: np.random.Generator) -> Any:
        """A value at random."""
        if self.choices is not None:
            return self.choices[int(generator.choice(len(self.choices), p=self.probabilities or None))]
        assert self.min is not None and self.max is not None
        if self.distribution == "log_uniform_values":
            return float(math.exp(generator.uniform(math.log(self.min), math.log(self.max))))
        if self.distribution == "int_uniform" or (
            self.distribution is None and isinstance(self.min, int) and isinstance(self.max, int)
        ):
            return int(generator.integers(int(self.min), int(self.max), endpoint=True))
        return float(generator.uniform(self.min, self.max))


class Metric(Section):
    """What trials are ranked by."""

    name: str
    """A name in metrics.jsonl after its kind, as validation/accuracy or train/loss; its last value counts."""
    goal: Literal["minimize", "maximize"] = "minimize"
    """Whether small or large is good."""


class SweepFile(Section):
    """All that a sweep's file may say, but for what is W&B's alone."""

    program: str
    """The configuration that every trial begins from: a name in configs/, or a YAML file's path."""
    method: Literal["grid", "random"]
    """grid: every combination once. random: run_cap draws."""
    metric: Metric
    """What trials are ranked by."""
    parameters: dict[Name, Parameter] = Field(min_length=1)
    """Settings by their full names, as optim.lr."""
    run_cap: int | None = Field(default=None, ge=1, le=MOST_TRIALS)
    """Most trials; random search needs it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the random search."""

    @model_validator(mode="before")
    @classmethod
    def _without_wandbs(cls, tree: Any) -> Any:
        return {name: value for name, value in tree.items() if name not in WANDBS}

    def trials(self) -> list[dict[str, Any]]:
        """The parameters of all trials, in their order. Raises ValueError for a grid without values or end."""
        if self.method == "grid":
            choices = [parameter.choices for parameter in self.parameters.values()]
            count = math.prod(len(some or ()) for some in choices)
            if any(some is None for some in choices) or count > MOST_TRIALS:
                raise ValueError(
                    "method: grid needs `value` or `values` for each parameter, and no more than "
                    f"{MOST_TRIALS:,} combinations; method: random takes min and max"
                )
            combinations = itertools.product(*(some or () for some in choices))
            grid = [dict(zip(self.parameters, values, strict=True)) for values in combinations]
            return grid[: self.run_cap]
        if self.run_cap is None:
            raise ValueError("method: random has no end by itself: give run_cap, the number of trials")
        return [
            {name: parameter.draw(generator) for name, parameter in self.parameters.items()}
            for generator in (np.random.default_rng([self.seed, number]) for number in range(self.run_cap))
        ]


def load_sweep(path: Path) -> SweepFile:
    """Read a sweep's file. Raises ValueError for an unreadable file, an unknown name or a wrong value."""
    tree = read_settings(path, missing=f"there is no sweep file {path}", example="method: grid")
    try:
        return SweepFile.model_validate(tree)
    except ValidationError as error:
        names = [*SweepFile.model_fields, *Parameter.model_fields, *Metric.model_fields]
        raise refusal(error, origin=str(path), unknown=lambda place: no_such_setting(place, names)) from None
