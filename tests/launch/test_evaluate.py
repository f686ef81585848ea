"""`avc eval`: one list of measures, which teaches."""

from __future__ import annotations

import re
import shlex
from typing import get_args

import pytest

from avc.data.labeled_sets import DATASETS
from avc.evaluation.measures import MEASURES, Table
from avc.evaluation.options import Sound, fields_of, parsed
from avc.networks import resolve
from avc.settings import PairValidation
from launch.commands.evaluate import FIGURES
from tests.command_line import avc


@pytest.mark.parametrize("name", MEASURES)
def test_help_and_a_call_without_a_network_show_what_is_measured_each_option_and_an_example(name) -> None:
    row = MEASURES[name]
    asked, bare = avc("eval", name, "--help"), avc("eval", name)
    assert asked.returncode == 0
    for done in (asked, bare):
        words = " ".join((done.stdout + done.stderr).split())
        assert " ".join(str(row.options.__doc__).split()[:6]) in words
        assert all(f"• {option}= " in words for option in fields_of(row.options))
        assert all(f"avc eval {example}" in words for example in row.examples)


def test_the_list_has_the_form_of_a_call_and_a_sentence_on_each() -> None:
    shown = " ".join(avc("eval", "--help").stdout.replace("│", " ").split())
    assert "Measure what a trained network knows: avc eval MEASURE SOURCE... [name=value]" in shown
    assert "eval Measure what a trained network knows" in " ".join(avc("--help").stdout.replace("│", " ").split())
    for name, row in MEASURES.items():
        assert f"{name} {' '.join(str(row.options.__doc__).split()[:4])}" in shown


def test_help_begins_with_what_is_needed_and_shows_every_default() -> None:
    words = " ".join(avc("eval", "image", "--help").stdout.split())
    places = [words.index(f"• {name}=") for name in ("root", "strength", "seed", "cache")]
    assert places == sorted(places)
    assert "(needed)" in words[places[0] : places[1]] and "(≥ 0; 0)" in words[places[2] : places[3]]


@pytest.mark.parametrize("name", MEASURES)
def test_every_example_is_a_call_that_is_taken_and_every_function_is_there(name) -> None:
    row = MEASURES[name]
    assert callable(resolve(row.function)) and row.examples
    for example in row.examples:
        measure, *words = shlex.split(example)
        pairs = [word for word in words if "=" in word]
        assert measure == name and parsed(row.options, pairs, origin="eval") and not words[0].startswith("-")
    for part in row.printed:
        if isinstance(part, Table):
            assert all(re.search(r"{\w", column.partition("=")[2]) for column in part.columns.split(" | "))


def test_a_name_that_rows_have_not_is_a_mistake_and_a_value_that_there_is_not_an_empty_cell() -> None:
    table = Table("rows", "={name} | share={share:.1%} | second={parts[1]}")
    known = {"name": "a", "share": 0.5, "parts": (1, 2)}
    missing = {"name": "b", "share": None, "parts": ()}
    assert table.of({"rows": [known, missing]}) == (["", "share", "second"], [["a", "50.0%", "2"]])
    with pytest.raises(KeyError, match="share"):
        table.of({"rows": [{"name": "a", "parts": ()}]})


def test_figures_are_drawn_for_options_that_there_are_and_data_sets_are_those_that_are_read() -> None:
    options = {option for row in MEASURES.values() for option in fields_of(row.options)}
    assert options >= FIGURES.keys() and all(callable(resolve(place)) for place in FIGURES.values())
    named = get_args(get_args(Sound.model_fields["dataset"].annotation)[0])
    assert set(named) == set(DATASETS)


def test_what_is_watched_while_training_is_a_measure_or_needs_no_run() -> None:
    [watched] = get_args(PairValidation.model_fields["evaluators"].annotation)
    assert set(get_args(watched)) == {row.evaluator for row in MEASURES.values() if row.evaluator} | {"rankme"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("retrieval runs/ave", "eval retrieval needs labels=VALUE: Labels of videos"),
        ("retrieval a b labels=l.csv", "eval retrieval takes one network, and 2 are given"),
        ("retrieval labels=l.csv", "eval retrieval takes one network, and 0 are given"),
        ("retrieval a labels=l.csv labels=m.csv", "labels is given twice"),
        ("retrieval a labels=l.csv label=m.csv", "there is no setting `label`; did you mean `labels`?"),
        ("retrieval a --labels l.csv", "eval retrieval: --labels is written labels=VALUE"),
        ("retrieval a --the-labels=2 --split test", "there is no setting `the_labels`; did you mean `labels`?"),
        ("retrieval a --label l.csv", "there is no setting `label`; did you mean `labels`?"),
        ("retrieval a --xyz l.csv", "there is no setting `xyz`; it takes labels, "),
        ("retrieval a lables=l.csv", "there is no setting `lables`; did you mean `labels`?"),
        ("retrieval a labels=l.csv The-gain=2", "there is no setting `The-gain`; did you mean `gain`?"),
        ("correspondence a qqq=1", "there is no setting `qqq`; it takes passes"),
        ("correspondence a passes=many", "`passes` is 'many': Input should be a valid integer"),
        ("correspondence a passes=0", "`passes` is 0: Input should be greater than or equal to 1"),
        ("runs/ave", "runs/ave is no measure; they are correspondence, pairs, "),
        ("correspondance a", "correspondance is no measure; did you mean correspondence?"),
        ("correspondence a split=test", "split=test is written --split test"),
        ("sound a root=E", "eval sound needs dataset=NAME and root=FOLDER, or recordings=FILE"),
        ("sound a recordings=r.ogg root=E", "leave root and dataset out"),
    ],
)
def test_a_mistake_is_answered_in_one_line(words, said) -> None:
    done = avc("eval", *words.split())
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
