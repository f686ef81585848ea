"""What the site shows beside the files of docs/: pages that are generated, and those of the top level.

MkDocs calls these functions by their names while it builds.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from avc.config import settings_of
from avc.networks import NETWORKS
from launch.commands.settings import allowed, shown

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = ("BENCHMARKS.md", "CONTRIBUTING.md")
MODULES = {
    "A trained network": ("avc.encoders.load", "avc.encoders.trained", "avc.pretrained"),
    "Packed videos": ("shards.read", "shards.soft_labels", "shards.format"),
    "Labels and labeled data sets": (
        "avc.data.labels",
        "avc.data.ontology",
        "avc.data.labeled_sets",
        "avc.evaluation.boxes",
    ),
    "Settings": ("avc.config", "avc.networks"),
    "What a new network or trunk implements": ("avc.tasks.task", "avc.models.pair", "avc.models.trunks"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and those of the top level."""
    for name in TOP_LEVEL:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    files.append(File.generated(config, "settings.md", content=settings_page()))
    files.append(File.generated(config, "reference.md", content=reference_page()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository become links of the site, or words where they lead to code."""
    here = "." if page.file.src_uri in TOP_LEVEL else "docs"

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        where = posixpath.normpath(posixpath.join(here, path))
        name = where.removeprefix("docs/")
        on_site = files.get_file_from_path(name) is not None and not name.startswith("site/")
        if on_site and (where.startswith("docs/") or where in TOP_LEVEL):
            return f"[{words}]({name}{'#' + anchor if anchor else ''})"
        if name == "README.md":
            return f"[{words}](index.md)"
        return words if words.startswith("`") or not re.fullmatch(r"[\w./-]+", words) else f"`{words}`"

    markdown = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, markdown)
    return re.sub(r"^<!-- needs: (.*?) -->$", r"*Needs \1:*", markdown, flags=re.M)


def settings_page() -> str:
    """What `avc settings NETWORK` prints, of all networks on one page: a table for each section."""
    networks = {name: settings_of(name) for name in NETWORKS}
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for network, fields in networks.items():
        for name, field in fields.items():
            default = "" if name == "model.name" else f"`{shown(field.default)}`"
            meaning = " ".join((field.description or "").split())
            rows.setdefault((name, default, allowed(field), meaning), []).append(network)
    sections: dict[str, list[str]] = {}
    for (name, default, limits, meaning), having in sorted(rows.items(), key=lambda row: row[0][0].split(".")[0]):
        whose = "all" if len(having) == len(NETWORKS) else ", ".join(having)
        cells = (f"`{name}`", default, limits, meaning, whose)
        line = "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        sections.setdefault(name.split(".")[0], []).append(line)
    head = "| setting | default | values | meaning | networks |\n|---|---|---|---|---|\n"
    about = "\n".join(f"| `{name}` | {spec.title} | {spec.about} |" for name, spec in NETWORKS.items())
    tables = "\n\n".join(f"## {name}\n\n{head}" + "\n".join(lines) for name, lines in sections.items())
    return (
        "# Settings\n\nThis page is written by the code: it is what `avc settings` prints. A setting is given in a "
        "YAML file, or on the command line as SECTION.NAME=VALUE.\n\n"
        f"## The networks\n\n| `model.name` | network | |\n|---|---|---|\n{about}\n\n{tables}\n"
    )


def reference_page() -> str:
    """A heading for each group of modules; mkdocstrings fills in their docstrings."""
    groups = (
        f"## {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules) for title, modules in MODULES.items()
    )
    return "# Python\n\nShapes, dtypes and units stand with each function.\n\n" + "\n\n".join(groups) + "\n"
