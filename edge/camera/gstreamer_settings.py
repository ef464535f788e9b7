"""What a GStreamer camera is told: apart from the adapter, so that pipelines are written and tested without GStreamer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GstreamerSettings:
    """Which pipeline, and what it does not say of itself.

    Attributes:
        name: for people, without secrets.
        pipeline: everything before the sink, as gst-launch-1.0 takes it.
        live: frames come by themselves; False pulls the next one for each trigger.
        loop: begin again at the end of a file.
        exposure_ns: of each frame, 0 where unknown. early_ns, late_ns: how long before and after its trigger a live frame may
            begin; late 0 takes what the camera's period gives.
        free: a frame must begin after its trigger; False for sensors that are triggered by hardware.
        properties: values of elements by "element.property" that do not go into a text (passwords).
    """

    name: str
    pipeline: str
    live: bool = True
    loop: bool = True
    exposure_ns: int = 0
    early_ns: int = 20_000_000
    late_ns: int = 0
    free: bool = True
    properties: tuple[tuple[str, str], ...] = ()
