"""Computes the relevance of one class to another, by the AudioSet ontology or by identity."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, shortest_path

from avc.data.labels import Labels
from shards.text import lines_of

Relevance = NDArray[np.float64]

ONTOLOGY_TOP = 20  # relevance of a class to itself, Objects that Sound A.2
INSTRUMENTS = ("Musical instrument", "Singing", "Tools")
"""AudioSet-Instruments (Objects that Sound, section 2): these classes and their descendants, 110 classes."""


def flat_relevance(classes: int) -> Relevance:
    """1 for the same class, 0 for another: float64 (C, C)."""
    return np.eye(classes)


class Ontology:
    """The AudioSet ontology as published: a file of classes with identifiers, names and children.

    Raises ValueError where the file is missing or of another form.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = lines_of(path)
        try:
            nodes = json.loads("".join(lines))
            self._name = {node["id"]: str(node["name"]) for node in nodes}
            self._id = {name: number for number, name in self._name.items()} | {number: number for number in self._name}
            children = {node["id"]: list(node["child_ids"]) for node in nodes}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is not the AudioSet ontology: {error!r}") from None
        all_children = {child for child_ids in children.values() for child in child_ids}
        unknown = sorted(all_children - children.keys())
        if unknown:
            raise ValueError(f"{path} is not the AudioSet ontology: {unknown[0]} is a child and no class of it")
        # The file has several trees; a common root makes all distances finite.
        children["root"] = sorted(children.keys() - all_children)
        self._row = {name: row for row, name in enumerate(children)}
        edges = [(self._row[parent], self._row[child]) for parent, child_ids in children.items() for child in child_ids]
        self._edges = coo_array((np.ones(len(edges)), np.transpose(edges)), shape=(len(children), len(children)))

    def distances(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Number of edges between every two classes, by name or identifier: int64 (C, C).

        Raises ValueError for unknown classes.
        """
        rows = [self._row[self._identifier(name)] for name in classes]
        steps = shortest_path(self._edges.tocsr(), directed=False, unweighted=True, indices=rows)
        return np.asarray(steps[:, rows], dtype=np.int64)

    def relevance(self, classes: Sequence[str]) -> Relevance:
        """20 − tree distance, at least 0 (Objects that Sound A.2): float64 (C, C)."""
        return np.maximum(ONTOLOGY_TOP - self.distances(classes), 0).astype(np.float64)

    def below(self, tops: Sequence[str]) -> frozenset[str]:
        """Identifiers of classes and their descendants. Raises ValueError for unknown classes."""
        edges, identifiers = self._edges.tocsr(), [*self._row]
        rows = (breadth_first_order(edges, self._row[self._identifier(name)])[0].tolist() for name in tops)
        return frozenset(identifiers[row] for row in chain.from_iterable(rows))

    def restrict(self, labels: Labels, tops: Sequence[str]) -> Labels:
        """The labels that are in `below(tops)`. Raises ValueError for a label that is no class."""
        allowed = self.below(tops)
        return labels.changed(lambda names: (label for label in names if self._identifier(label) in allowed))

    def named(self, labels: Labels) -> Labels:
        """The labels with identifiers replaced by names. Raises ValueError for a label that is no class."""
        return labels.changed(lambda names: (self._name[self._identifier(label)] for label in names))

    def _identifier(self, name: str) -> str:
        if name in self._id:
            return str(self._id[name])
        nearest = difflib.get_close_matches(name, self._id, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"the label {name!r} is no class of the ontology {self.path}{hint}")
