"""Whether the gate may open at all: what is known of the station, the commissioning measurement, and the clock.

Each part answers with reasons in words, because the operator of a gate that rejects everything asks "why", and with no reason
at all when it has none to object. All times are CLOCK_MONOTONIC of the gate's machine, in ns; nothing here reads a clock.
"""

import math
from collections import deque

from edge.gate.actions import Why
from edge.gate.settings import NS_PER_MS, GateSettings
from edge.wire.station import Beat, Birth, Check, State, Status
from edge.wire.verdict import Verdict

# A beat that comes a little late is not missing: half a period is what a loaded two-core box was seen to add.
BEAT_GRACE = 0.5


class Station:
    """The station as its birth, beats and state tell it, for one boot at a time."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self.birth: Birth | None = None
        self._tokens: dict[str, int] = {}  # token -> when it dies by its own stamps, ns
        self._token = ""
        self._check_dies_ns: int | None = None  # when the newest one dies by the newest beat; None before its first beat
        self._beat: Beat | None = None
        self._beat_ns = 0
        self._state: State | None = None
        self._status = ""

    @property
    def boot(self) -> str:
        """Boot of the latest birth, or empty."""
        return self.birth.boot if self.birth else ""

    @property
    def armed_set(self) -> tuple[str, str, str]:
        """Model, limit and recipe a verdict must carry; what is pinned in the settings counts before the birth."""
        birth = self.birth
        return (
            self._settings.model or (birth.model if birth else ""),
            self._settings.limit or (birth.limit if birth else ""),
            self._settings.recipe or (birth.recipe if birth else ""),
        )

    @property
    def token(self) -> str:
        """Token of the station's newest self-check."""
        return self._token

    def on_birth(self, birth: Birth, now_ns: int) -> bool:
        """Take a birth; True when another boot or another armed set speaks from now on."""
        before = self._speaker()
        if birth.boot != self.boot:
            self._beat = None
            self._state = None
            self._status = ""
            self._revoke()
        self.birth = birth
        changed = self._speaker() != before
        if changed:
            self._tokens.clear()
        if birth.check is None:
            self._revoke()
        else:
            self._learn(birth.check, (birth.check.until_us - birth.at_us) // 1000 * NS_PER_MS, now_ns)
        return changed

    def _speaker(self) -> tuple[str, ...]:
        birth = self.birth
        return (birth.boot, birth.model, birth.limit, birth.recipe) if birth else ()

    def on_state(self, state: State, now_ns: int) -> None:
        """Take a state of the current boot; one of another boot says nothing about this one."""
        if state.boot != self.boot:
            return
        self._state = state
        if state.check is None:
            self._revoke()
        elif state.check.token != self._token:
            self._learn(state.check, (state.check.until_us - state.check.at_us) // 1000 * NS_PER_MS, now_ns)

    def on_beat(self, beat: Beat, now_ns: int) -> bool:
        """Take a beat of the current boot, and say that it was one; an older or repeated one is no sign of life.

        Beats and births come over two connections, so a beat without a living check may overtake the birth that brings one.
        It therefore closes the gate until the next beat, but forgets no token.
        """
        if beat.boot != self.boot or (self._beat is not None and beat.n <= self._beat.n):
            return False
        self._beat, self._beat_ns = beat, now_ns
        self._check_dies_ns = now_ns + round(beat.check_left_ms * NS_PER_MS)
        return True

    def on_status(self, status: Status) -> None:
        """Remember it as an explanation: a last will may come 14 s late, so reject timing never rests on it."""
        if status.boot == self.boot:
            self._status = f" (it reports {status.status}: {status.why})" if status.status == "offline" else ""

    def _learn(self, check: Check, left_ns: int, now_ns: int) -> None:
        if check.token != self._token:
            if self._token in self._tokens and self._check_dies_ns is not None:
                self._tokens[self._token] = min(self._tokens[self._token], self._check_dies_ns)
            self._check_dies_ns = None
        self._token = check.token
        self._tokens = {token: dies for token, dies in self._tokens.items() if dies > now_ns}
        self._tokens[check.token] = now_ns + left_ns

    def _revoke(self) -> None:
        self._token = ""
        self._tokens.clear()
        self._check_dies_ns = None

    def is_current(self, verdict: Verdict) -> bool:
        """The verdict comes from the boot of the latest birth."""
        return bool(self.boot) and verdict.boot == self.boot

    def fits(self, verdict: Verdict) -> bool:
        """The verdict was given by the model, limit and recipe the gate is armed for."""
        return (verdict.ctx.model, verdict.ctx.limit, verdict.ctx.recipe) == self.armed_set and all(self.armed_set)

    def token_lives(self, token: str, now_ns: int) -> bool:
        """The self-check behind this token has not expired and was not revoked."""
        if token == self._token and self._check_dies_ns is not None and self._check_dies_ns <= now_ns:
            return False
        return bool(token) and self._tokens.get(token, 0) > now_ns

    def refusal(self, verdict: Verdict, now_ns: int, *, mac_ok: bool) -> Why | None:
        """Why this verdict must be ignored, or None. A reject needs no living token: a broken station may still warn."""
        if self._settings.sealed and not mac_ok:
            return "bad-mac"
        if not self.is_current(verdict):
            return "stale-boot"
        if not self.fits(verdict):
            return "wrong-model"
        if verdict.verdict == "pass" and not self.token_lives(verdict.ctx.check, now_ns):
            return "no-token"
        return None

    def reasons(self, now_ns: int) -> list[str]:
        """Why the station may not open this gate now; empty when it may."""
        birth = self.birth
        if birth is None:
            return ["no birth of the station yet: is it running, and does it use this broker, site, area, line and station?"]
        found = []
        if self._settings.gate not in birth.gates:
            served = ", ".join(birth.gates) or "none"
            found.append(f"the station serves gate {served}, not {self._settings.gate}: set `gate` in gate.toml or station.toml")
        for name, want, got in zip(
            ("model", "limit", "recipe"), self.armed_set, (birth.model, birth.limit, birth.recipe), strict=True
        ):
            if want != got:
                found.append(f"expected {name} {want}, the station runs {got or 'none'}: load that one, or change gate.toml")
            elif not want:
                found.append(f"the station has no {name}: load a bundle")
        found += self._life(birth, now_ns)
        return found

    def _life(self, birth: Birth, now_ns: int) -> list[str]:
        beat = self._beat
        limit_ns = round((self._settings.missed_beats + BEAT_GRACE) / birth.beat_hz * 1e9)
        if beat is None:
            return [f"no beat since the station's birth{self._status}"]
        if now_ns - self._beat_ns >= limit_ns:
            return [f"{self._settings.missed_beats} beats missed{self._status}: is the station alive, is the broker reachable?"]
        if not beat.armed or (self._state is not None and not self._state.armed):
            why = "; ".join(self._state.reasons) if self._state else ""
            return [f"the station says it is not armed{': ' + why if why else ''}"]
        if not self.token_lives(self._token, now_ns):
            return ["the station's self-check has expired or is missing: it must replay its golden frames"]
        return []

    def beats_come(self, now_ns: int) -> bool:
        """The newest beat is no older than the next one may be in coming."""
        if self.birth is None or self._beat is None:
            return False
        return now_ns - self._beat_ns < round((1 + BEAT_GRACE) / self.birth.beat_hz * 1e9)

    def silent_after_ns(self) -> int | None:
        """When silence from now on would disarm; None before the first beat."""
        if self.birth is None or self._beat is None:
            return None
        return self._beat_ns + round((self._settings.missed_beats + BEAT_GRACE) / self.birth.beat_hz * 1e9)


class Commissioning:
    """Arming needs proof: p99.9(trigger to gate) + 4 x clock uncertainty below the deadline, over the last n parts.

    A part without a verdict counts as infinitely late, so the proof renews itself only by n good parts in a row.
    """

    def __init__(self, parts: int, deadline_ms: float, clock_uncertainty_ms: float) -> None:
        self._window: deque[float] = deque(maxlen=parts)
        self._deadline_ms = deadline_ms
        self._default_unc_ms = clock_uncertainty_ms
        self._unc_ms = clock_uncertainty_ms
        self._for: tuple[str, str, str] | None = None
        self._valid_ms = deadline_ms
        self.passed = False

    def begin(self, armed_set: tuple[str, str, str], valid_ms: float) -> None:
        """Another model may be slower: start anew. The same one after a restart keeps its proof."""
        if (armed_set, valid_ms) == (self._for, self._valid_ms):
            return
        self._for, self._valid_ms = armed_set, valid_ms
        self._window.clear()
        self._unc_ms = self._default_unc_ms
        self.passed = False

    def measured(self, ms: float, unc_us: int | None) -> None:
        """One part's time from trigger to verdict in hand; math.inf for none. After the proof nothing is collected."""
        if self.passed or self._for is None:
            return
        if unc_us is not None:
            self._unc_ms = max(self._unc_ms, unc_us / 1000)
        self._window.append(ms)
        self.passed = len(self._window) == self._window.maxlen and self.p999_ms + 4 * self._unc_ms < self.limit_ms

    @property
    def limit_ms(self) -> float:
        """What must not be reached: the station's validity or the gate's own D, whichever is shorter."""
        return min(self._valid_ms, self._deadline_ms)

    @property
    def p999_ms(self) -> float:
        """Order statistic at 99.9 %: the maximum while the window holds fewer than 1000 parts."""
        ordered = sorted(self._window)
        return ordered[math.ceil(0.999 * len(ordered)) - 1] if ordered else math.inf

    def reason(self) -> str:
        """Why it has not passed; empty when it has."""
        if self.passed:
            return ""
        need = self._window.maxlen or 0
        if len(self._window) < need:
            return f"commissioning: {need} parts are measured first, and rejected"
        slow = "no verdict" if math.isinf(self.p999_ms) else f"p99.9 {self.p999_ms:.1f} ms + 4 x {self._unc_ms:.2f} ms"
        return (
            f"commissioning: {slow} for the last {need} parts, expected below {self.limit_ms:.0f} ms: "
            "allow more time from camera to rejector, slow the line, or take a faster model"
        )


class ClockWatch:
    """Sees the wall clock jump against the monotonic one; only a new self-check token lifts what that does.

    Slewing (at most 0.5 ms/s with NTP) stays far below the limit between two looks; a step does not.
    """

    def __init__(self, step_ms: float) -> None:
        self._step_us = step_ms * 1000
        self._offset_us: int | None = None
        self._stepped_ms: float | None = None
        self._token = ""

    def look(self, now_ns: int, utc_us: int, token: str) -> None:
        """Compare the clocks; `token` is the station's self-check at this moment."""
        offset_us = utc_us - now_ns // 1000
        if self._offset_us is not None and abs(offset_us - self._offset_us) > self._step_us:
            self._stepped_ms = (offset_us - self._offset_us) / 1000
            self._token = token
        elif self._stepped_ms is not None and token not in {"", self._token}:
            self._stepped_ms = None
        self._offset_us = offset_us

    def reason(self) -> str:
        """Why the clock forbids opening; empty when it does not."""
        if self._stepped_ms is None:
            return ""
        return f"the wall clock jumped by {self._stepped_ms:+.0f} ms: waiting for the station's next self-check"
