"""`avc eval MEASURE SOURCE... [name=value]`: one body for every row of `avc.evaluation.measures.MEASURES`."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from avc.config import no_such_setting
from avc.evaluation.measures import MEASURES, Measure, Request, Table, text_of
from avc.evaluation.options import fields_of, parsed
from launch.commands import Device, Json, JudgingSplit, ShardsOption, Wandb, refuse_unwritable
from launch.commands.settings import allowed, shown


class _Measures(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] == "categories":
            raise ValueError("it is part of sound now: avc eval sound SOURCE recordings=FILE...")
        if args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], MEASURES, n=1)
            means = f"did you mean {near[0]}?" if near else f"they are {', '.join(MEASURES)}"
            raise ValueError(f"{args[0]} is no measure; {means}: avc eval MEASURE SOURCE... [name=value]...")
        return super().resolve_command(ctx, args)


evaluations = typer.Typer(cls=_Measures, no_args_is_help=True, rich_markup_mode="markdown")
ANYTHING = {"ignore_unknown_options": True}  # for settings with dashes, which are answered

FIGURES = {  # what draws them, by the option that names the file
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
    fields = fields_of(row.options)
    if dashed := next((word for word in words if word.startswith("--")), None):
        name = dashed[2:].partition("=")[0].replace("-", "_")
        names = [*fields, *(f"--{each}" for each in row.takes)]
        takes = f"; it takes {', '.join(names)}"
        unknown = no_such_setting(name, names, otherwise=takes)
        raise ValueError(f"eval {measure}: {f'{dashed} is written {name}=VALUE' if name in fields else unknown}")
    pairs = [word for word in words if re.match(r"[\w-]+=", word) and not Path(word).exists()]
    sources = tuple(Path(word).expanduser() for word in words if word not in pairs)
    if not sources or (len(sources) > 1 and not row.several):
        takes = "one network or more" if row.several else "one network"
        raise ValueError(f"eval {measure} takes {takes}, and {len(sources)} are given: avc eval {row.examples[0]}")
    for word in pairs:
        name, _, value = word.partition("=")
        if name in {*row.takes, "json"} - {*fields}:
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
