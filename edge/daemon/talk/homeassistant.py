"""Home Assistant finds the station by itself: one retained message that describes the entities its topics hold. Off by default.

Entities only read what the station publishes anyway; nothing can be switched from there. Armed and camera are binary sensors,
the counters and times are sensors, and the station's status topic tells whether they are available.

Source: Home Assistant, MQTT integration, device discovery (2024.12 and later); no abbreviations, so that people can read it.
"""

from typing import Any

import msgspec

from edge import __version__
from edge.daemon.stages.identity import Identity
from edge.wire import topics
from edge.wire.topics import Topics

PREFIX = "homeassistant"


def discovery(names: Topics, who: Identity, page: str) -> tuple[str, bytes]:
    """Topic and payload; retained. `page`: address of the live page, or empty."""
    node = f"onbelt-{names.line}-{names.station}"
    state, health = names.topic(topics.STATE), names.topic(topics.HEALTH)
    stats = names.topic(topics.STATS, "hour")
    entities: dict[str, dict[str, Any]] = {
        "armed": _binary("Armed", state, "{{ 'ON' if value_json.armed else 'OFF' }}", "running"),
        "phase": _sensor("State", state, "{{ value_json.phase }}"),
        "reason": _sensor("Reason", state, "{{ (value_json.reasons + ['all well'])[0][:250] }}"),
        "good": _counter("Good parts", health, "{{ value_json.verdicts.get('pass', 0) }}"),
        "bad": _counter("Bad parts", health, "{{ value_json.verdicts.get('reject', 0) }}"),
        "invalid": _counter("Parts not seen", health, "{{ value_json.verdicts.get('invalid', 0) }}"),
        "down": _sensor("Down in the last hour", stats, "{{ value_json.down_s }}", unit="s", kind="duration"),
        "rate": _sensor("Parts in the last hour", stats, "{{ value_json.good + value_json.bad + value_json.invalid }}"),
        "disk": _sensor("Free disk", health, "{{ value_json.disk_free_mb }}", unit="MB", kind="data_size"),
    }
    for camera in who.needed if len(who.needed) == 1 else [who.camera]:
        topic = names.topic(topics.CAMERA_STATE, camera)
        entities["camera"] = _binary("Camera", topic, "{{ 'ON' if value_json.state == 'online' else 'OFF' }}", "connectivity")
    for name, entity in entities.items():
        entity["unique_id"] = f"{node}-{name}"
    device: dict[str, Any] = {
        "identifiers": [node],
        "name": f"Onbelt {names.line} {names.station}",
        "manufacturer": "Onbelt",
        "model": who.model.partition("@")[0],
        "sw_version": __version__,
    }
    if page:
        device["configuration_url"] = page
    payload = {
        "device": device,
        "origin": {"name": "onbelt", "sw_version": __version__},
        "availability": [
            {
                "topic": names.topic(topics.STATUS),
                "value_template": "{{ value_json.status }}",
                "payload_available": "online",
                "payload_not_available": "offline",
            }
        ],
        "components": entities,
        "qos": 1,
    }
    return f"{PREFIX}/device/{node}/config", msgspec.json.encode(payload)


def _sensor(name: str, topic: str, template: str, *, unit: str = "", kind: str = "") -> dict[str, Any]:
    entity = {"platform": "sensor", "name": name, "state_topic": topic, "value_template": template}
    if unit:
        entity |= {"unit_of_measurement": unit, "device_class": kind, "state_class": "measurement"}
    return entity


def _counter(name: str, topic: str, template: str) -> dict[str, Any]:
    return _sensor(name, topic, template) | {"state_class": "total_increasing"}


def _binary(name: str, topic: str, template: str, kind: str) -> dict[str, Any]:
    return {
        "platform": "binary_sensor",
        "name": name,
        "state_topic": topic,
        "value_template": template,
        "device_class": kind,
    }
