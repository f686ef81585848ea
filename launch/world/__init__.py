"""The demo's world: a few kinds of sounding objects, rendered to real video files with their truth beside them."""

from launch.world.kinds import KINDS
from launch.world.labels import Label, ceiling, read_labels
from launch.world.render import render
from launch.world.sheet import contact_sheet

__all__ = ["KINDS", "Label", "ceiling", "contact_sheet", "read_labels", "render"]
