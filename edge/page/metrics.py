"""The counters in Prometheus' text form, version 0.0.4."""

import math

import msgspec

from edge import __version__
from edge.page.live import LiveView
from edge.wire.station import Health

_BOUNDS_MS = [10.0 ** (k / 4) for k in range(-2, 15)]  # 0.32 ms to 3.2 s, four a decade
_SLACK_BOUNDS_MS = [-(10.0**k) for k in (3, 2, 1)] + [0.0] + [10.0 ** (k / 2) for k in range(7)]
_HELP = {
    "infer": ("onbelt_infer_seconds", "Time of one part in the inference engine."),
    "verdict": ("onbelt_trigger_to_verdict_seconds", "From a part's trigger to the publication of its verdict."),
    "slack": ("onbelt_slack_seconds", "Time left to the deadline when the verdict was published; negative is late."),
    "at_gate": ("onbelt_gate_slack_seconds", "Time left to the gate's own deadline when the verdict was there, by its acks."),
}


def _label(text: object) -> str:
    return str(text).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def metrics_text(view: LiveView, *, readers: int = 0) -> str:
    """Everything countable of the view, one metric family after the other.

    Args:
        view: what is counted.
        readers: browsers following the page, a metric of its own.
    """
    snapshot = view.snapshot(view.revision)
    state = msgspec.json.decode(snapshot.state)
    lines = _head("onbelt_parts_total", "counter", "Parts by verdict since the daemon started.")
    lines += [f'onbelt_parts_total{{verdict="{verdict}"}} {count}' for verdict, count in snapshot.counts.items()]
    lines += _head("onbelt_gate_decisions_total", "counter", "What the gates did, and why.")
    for key, count in sorted(snapshot.gate.items()):
        decision, _, why = key.partition("/")
        lines.append(f'onbelt_gate_decisions_total{{decision="{decision}",why="{why}"}} {count}')
    lines += _head("onbelt_parts_per_second", "gauge", "Parts per second over the last ten seconds.")
    lines.append(f"onbelt_parts_per_second {snapshot.rate:.6g}")
    if snapshot.idle_s is not None:
        lines += _head("onbelt_last_part_age_seconds", "gauge", "Time since the last part.")
        lines.append(f"onbelt_last_part_age_seconds {snapshot.idle_s:.6g}")
    if view.seconds:
        lines += _head(
            "onbelt_station_seconds_total", "counter", "Time by what the station did: running, idle, or down (not armed)."
        )
        lines += [f'onbelt_station_seconds_total{{doing="{doing}"}} {spent:.6g}' for doing, spent in view.seconds.items()]
    if isinstance(state.get("armed"), bool):
        lines += _head("onbelt_armed", "gauge", "1 while the gate may open on this box's PASS.")
        lines.append(f"onbelt_armed {int(state['armed'])}")
    for key, (name, text) in _HELP.items():
        bounds = _SLACK_BOUNDS_MS if key in {"slack", "at_gate"} else _BOUNDS_MS
        below, count, total_ms = view.cumulative(bounds)[key]
        lines += _head(name, "histogram", text)
        lines += [f'{name}_bucket{{le="{bound / 1000:.6g}"}} {n}' for bound, n in zip(bounds, below, strict=True)]
        lines += [f'{name}_bucket{{le="+Inf"}} {count}', f"{name}_sum {_finite(total_ms) / 1000:.9g}", f"{name}_count {count}"]
    deadline_ms = state.get("gate_deadline_ms")
    if isinstance(deadline_ms, int | float) and not isinstance(deadline_ms, bool):
        lines += _head("onbelt_deadline_seconds", "gauge", "How long after its trigger a verdict counts.")
        lines.append(f"onbelt_deadline_seconds {deadline_ms / 1000:.6g}")
    lines += _health_lines(view.health) if view.health is not None else []
    model = state.get("model")
    model = model if isinstance(model, dict) else {}
    labels = {"version": __version__} | {key: model[key] for key in ("name", "model", "precision", "engine") if key in model}
    if "version" in model:
        labels["model_version"] = model["version"]
    lines += _head("onbelt_info", "gauge", "What runs; always 1.")
    lines.append("onbelt_info{" + ",".join(f'{key}="{_label(value)}"' for key, value in labels.items()) + "} 1")
    lines += _head("onbelt_page_readers", "gauge", "Browsers following the page.")
    lines.append(f"onbelt_page_readers {readers}")
    return "\n".join(lines) + "\n"


def _health_lines(health: Health) -> list[str]:
    """What the station says of itself every ten seconds."""
    lines = _head("onbelt_invalid_total", "counter", "Parts nobody judged, by the first reason.")
    lines += [f'onbelt_invalid_total{{reason="{_label(reason)}"}} {n}' for reason, n in sorted(health.invalid.items())]
    lines += _head("onbelt_camera_frames_total", "counter", "Frames that became no part's picture: not asked for, damaged, lost.")
    for kind in ("skipped", "incomplete", "dropped"):
        lines.append(f'onbelt_camera_frames_total{{kind="{kind}"}} {getattr(health.camera, kind)}')
    for name, kind, text, value in (
        ("onbelt_late_total", "counter", "Verdicts journaled but not sent live.", health.late),
        ("onbelt_refused_total", "counter", "Messages and commands from outside that were refused.", health.refused),
        (
            "onbelt_telemetry_dropped_total",
            "counter",
            "Messages given up because there was no broker or no room.",
            health.dropped,
        ),
        ("onbelt_unsent_verdicts", "gauge", "Verdicts in the journal that no broker has confirmed yet.", health.unsent),
        ("onbelt_lost_verdicts", "gauge", "Verdicts a full journal let go before a broker confirmed them.", health.lost),
        ("onbelt_journal_verdicts", "gauge", "Verdicts in the journal.", health.journal_rows),
        ("onbelt_disk_free_bytes", "gauge", "Free space where the journal lies.", health.disk_free_mb * 2**20),
        ("onbelt_clock_synchronized", "gauge", "1 while something sets the wall clock.", int(health.clk.src != "free")),
    ):
        lines += [*_head(name, kind, text), f"{name} {value}"]
    if health.gate_slack_ms is not None:
        text = "What 99.9 % of the recent verdicts had left of the gate's deadline: that less this is trigger to gate, p99.9."
        lines += _head("onbelt_gate_slack_p999_seconds", "gauge", text)
        lines.append(f"onbelt_gate_slack_p999_seconds {health.gate_slack_ms[1] / 1000:.6g}")
    for name, text, us in (
        ("onbelt_clock_offset_seconds", "Offset of the wall clock that is still being corrected.", health.clk.off_us),
        ("onbelt_clock_error_seconds", "Estimated error of the wall clock.", health.clk.unc_us),
    ):
        if us is not None:
            lines += [*_head(name, "gauge", text), f"{name} {us / 1e6:.6g}"]
    if health.temp_c:
        lines += _head("onbelt_temperature_celsius", "gauge", "Temperature of the machine, by thermal zone.")
        lines += [f'onbelt_temperature_celsius{{zone="{_label(zone)}"}} {value:.6g}' for zone, value in health.temp_c.items()]
    return lines


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
