"""Packages that come with an extra of the installation: `pip install 'avcorr[EXTRA]'`."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed(package: str) -> bool:
    """Whether a top-level package can be imported; it is not imported."""
    return find_spec(package) is not None


def require_package(package: str, *, extra: str, purpose: str) -> None:
    """Raise ValueError, which names the extra, where an optional package is missing.

    purpose: what it is needed for, as the subject of a sentence.
    """
    if not is_installed(package):
        raise ValueError(
            f"{purpose} needs the package {package}, which is not installed here: pip install 'avcorr[{extra}]'"
        )
