"""[encoder] of gate.toml."""

from typing import Annotated

import msgspec

from edge.errors import ConfigError
from edge.gate.encoder import EncoderSettings


class EncoderTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shift register by the belt's counts (`edge.gate.encoder`); `gate_counts` = 0 lets it go by time."""

    gate_counts: Annotated[int, msgspec.Meta(ge=0, le=2**30)] = 0
    window_counts: Annotated[int, msgspec.Meta(ge=0, le=2**30)] = 0
    max_counts_per_s: Annotated[float, msgspec.Meta(ge=0.0, le=1e7)] = 0.0
    back_counts: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 8
    silence_ms: Annotated[float, msgspec.Meta(gt=0.0, le=10_000.0)] = 200.0

    def settings(self, lead_ms: float, margin_ms: float) -> EncoderSettings | None:
        """What the register needs of it; None where it goes by time.

        Raises:
            ConfigError: no top speed, or a window too short for actuator and loop at that speed.
        """
        if not self.gate_counts:
            return None
        if not self.max_counts_per_s:
            raise ConfigError("encoder.max_counts_per_s: expected the belt's top speed with encoder.gate_counts, there is none")
        try:
            return EncoderSettings(
                self.gate_counts,
                self.window_counts,
                self.max_counts_per_s,
                lead_ms,
                margin_ms,
                self.back_counts,
                self.silence_ms,
            )
        except ValueError as exc:
            raise ConfigError(f"[encoder]: {exc}") from exc
