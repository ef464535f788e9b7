"""Cameras behind one small protocol; real and simulated ones are siblings."""

from edge.camera.base import Camera, Frame

__all__ = ["Camera", "Frame"]
