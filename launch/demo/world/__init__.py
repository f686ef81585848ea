"""The demo's world: a few kinds of sounding objects, rendered to real video files with their truth beside them."""

from launch.demo.world.contact_sheet import contact_sheet
from launch.demo.world.kinds import KINDS
from launch.demo.world.labels import Label, ceiling, read_labels
from launch.demo.world.render import render

__all__ = ["KINDS", "Label", "ceiling", "contact_sheet", "read_labels", "render"]
