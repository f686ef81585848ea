"""`avc eval MEASURE SOURCE... [name=value]`: one body for every row of `avc.evaluation.measures.MEASURES`."""

from __future__ import annotations

import difflib
import inspect
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from avc.evaluation.measures import MEASURES, Measure, Request, Table, text_of
from avc.evaluation.options import fields_of, parsed
from launch.commands import Device, Json, JudgingSplit, ShardsOption, Wandb, refuse_unwritable
from launch.commands.settings import allowed, shown


class _Measures(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], MEASURES, n=1)
            means = f"did you mean {near[0]}?" if near else f"they are {', '.join(MEASURES)}"
            raise ValueError(f"{args[0]} is no measure; {means}: avc eval MEASURE SOURCE... [name=value]...")
        return super().resolve_command(ctx, args)


evaluations = typer.Typer(cls=_Measures, no_args_is_help=True, rich_markup_mode="markdown")
ANYTHING = {"ignore_unknown_options": True}  # for the older spelling of options, which is answered

FIGURES = {  # what draws them, by the option that names the file
    "confusion": "launch.report.figures:draw_confusion",
    "tsne": "launch.report.figures:draw_tsne",
    "out": "launch.report.units:write_units",
}
Words = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE... [NAME=VALUE]...",
        help="Runs, or what else this measure takes: files of `avc import`, .yaml of settings (untrained), names, "
        "FILE.py:NAME; then options.",
    ),
]


def evaluate(
    measure: str, words: Sequence[str], *, json: Path | None = None, wandb: bool = False, **common: Any
) -> None:
    """Measure, print and write; `common`: shards, split and device, where they were given.

    Raises ValueError for words that are neither networks nor options of the measure.
    """
    from avc.networks import resolve
    from launch.progress import printable, progress
    from launch.report.results import print_table, write_json, write_wandb

    row = MEASURES[measure]
    if any(word.startswith("--") for word in words):
        given = {"json": json, "wandb": wandb or None, **common}
        raise ValueError(f"options of a measure are name=value now: {new_call(measure, words, given)}")
    pairs = [word for word in words if re.match(r"[\w-]+=", word) and not Path(word).exists()]
    sources = tuple(Path(word).expanduser() for word in words if word not in pairs)
    if not sources or (len(sources) > 1 and not row.several):
        takes = "one network or more" if row.several else "one network"
        raise ValueError(f"eval {measure} takes {takes}, and {len(sources)} are given: avc eval {row.examples[0]}")
    for word in pairs:
        name, _, value = word.partition("=")
        if name in {*row.takes, "json"} - {*fields_of(row.options)}:
            raise ValueError(f"{word} is written --{name} {value}")
    chosen = parsed(row.options, pairs, origin=f"eval {measure}")
    for option in FIGURES:
        if (path := getattr(chosen, option, None)) is not None:
            refuse_unwritable(path, option, folder=option == "out")
    result = resolve(row.function)(Request(sources, progress=progress, **common), chosen)
    content = result.content
    for part in row.printed:
        if isinstance(part, Table):
            heads, cells = part.of(content)
            if cells:
                print_table(heads, cells)
            part = part.below if cells else ""
        if line := text_of(part, content):
            print(printable(line))
    for note in content.get("notes", ()):
        print(printable(note))
    if "judged_on" in content:
        judge, chooser = content["judged_on"], content["weights_chosen_on"]
        too = ", which chose the weights too" if chooser == judge else ""
        print(f"weights chosen on {chooser}, judged on {judge}" if chooser and not too else f"judged on {judge}{too}")
    write_json(json, content)
    if wandb:
        write_wandb(sources[0], f"{measure}/{content.get('split', 'all')}", content)
    for option, drawn in result.figures.items():
        if (path := getattr(chosen, option)) is not None:
            resolve(FIGURES[option])(path, *drawn)


def new_call(measure: str, words: Sequence[str], given: dict[str, Any]) -> str:
    """The call of today for words that spell options with dashes. Raises ValueError for one that there is not."""
    fields, call, rest = fields_of(MEASURES[measure].options), ["avc", "eval", measure], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").replace("-", "_").partition("=")
        if word.startswith("--") and name not in fields and name != "devices":
            takes = {each: f"--{each}" for each in MEASURES[measure].takes} | {each: f"{each}=VALUE" for each in fields}
            near = difflib.get_close_matches(name, takes, n=1)
            means = f"did you mean {takes[near[0]]}?" if near else f"it takes {', '.join(takes.values())}"
            raise ValueError(f"eval {measure} has no option --{name}; {means}")
        if not word.startswith("--"):
            call.append(word)
        elif name in fields and fields[name].annotation is bool:
            call.append(f"{name}=true")
        else:
            value = word.partition("=")[2] if equals else rest.pop(0) if rest else "VALUE"
            call += ["--device", value] if name == "devices" else [f"{name}={value}"]
    for name, value in given.items():
        if value not in (None, "auto"):
            call += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(call)


def help_of(measure: Measure) -> str:
    """What `avc eval NAME --help` tells, in Markdown."""
    lines = []
    for name, field in fields_of(measure.options).items():
        default = "needed" if field.is_required() else "" if field.default in (None, "", []) else shown(field.default)
        notes = "; ".join(filter(None, (allowed(field), default)))
        lines.append(f"- **{name}=** {' '.join((field.description or '').split())}{f' ({notes})' if notes else ''}")
    watched = f"\n\nWhile training: validation.evaluators has `{measure.evaluator}`." if measure.evaluator else ""
    examples = "\n\n".join(f"    avc eval {example}" for example in measure.examples)
    options = "\n".join(lines)
    return f"{inspect.getdoc(measure.options)}{watched}\n\n**Options**\n\n{options}\n\n**Examples**\n\n{examples}"


def _command(name: str, measure: Measure) -> Callable[..., None]:
    def command(
        words: Words,
        shards: ShardsOption = None,
        split: JudgingSplit = None,
        device: Device = "auto",
        json: Json = None,
        wandb: Wandb = False,
    ) -> None:
        common = {"shards": shards, "split": split, "device": device}
        evaluate(name, words, json=json, wandb=wandb, **{each: common[each] for each in measure.takes})

    taken = {"words", "json", "wandb", *measure.takes}
    signature = inspect.signature(command, eval_str=True)
    parameters = [parameter for each, parameter in signature.parameters.items() if each in taken]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


for _name, _row in MEASURES.items():
    register = evaluations.command(_name, help=help_of(_row), no_args_is_help=True, context_settings=ANYTHING)
    register(_command(_name, _row))


@evaluations.callback()
def _measures() -> None:
    """Measure what a trained network knows: **avc eval MEASURE SOURCE... [name=value]**.

    Networks come first, then what the measure takes; **avc eval MEASURE --help** lists that, with examples.
    """


@evaluations.command(hidden=True, context_settings=ANYTHING)
def categories(words: Words) -> None:
    """Part of `avc eval sound` now."""
    dashed = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    sounds = [f"recordings={word}" for word in words[1:dashed]]
    raise ValueError(f"it is part of sound now: {new_call('sound', [*words[:1], *sounds, *words[dashed:]], {})}")


def visualize(words: Words, shards: ShardsOption = None, split: JudgingSplit = None, device: Device = "auto") -> None:
    """`avc eval units` now."""
    given = {"shards": shards, "split": split, "device": device}
    raise ValueError(f"it is a measure now: {new_call('units', words, given)}")
