"""Chains of small verdicts for tests of the journal and of whatever reads it."""

from edge.journal.store import Entry, Journal
from edge.wire import verdict as wire

BOOT = "01JD8Q7ZK30000000000000000"


def payload(seq: int, prev: str, boot: str = BOOT, key: bytes | None = None) -> bytes:
    """An invalid verdict of station st2 that follows `prev`."""
    verdict = wire.Verdict(
        wire.SCHEMA,
        f"st2/{boot}/{seq}",
        "st2",
        boot,
        seq,
        wire.Part(str(seq), "counter", "", 0, seq),
        "g1",
        "invalid",
        ["lost"],
        None,
        [],
        wire.Times(1, 0, 1, 1, 400.0, None, 1.0),
        wire.Clk("free", None, None, 1),
        wire.Context("r@1", "m@sha256:" + "0" * 32, "sha256:" + "0" * 32, ""),
        wire.Cam(["c1"], [], None),
        None,
        prev,
    )
    return wire.encode_verdict(verdict, key)


def chain(journal: Journal, first: int, count: int, boot: str = BOOT, key: bytes | None = None) -> list[Entry]:
    """So many entries that follow what is in the journal."""
    prev, entries = journal.head, []
    for seq in range(first, first + count):
        entries.append(Entry(boot, seq, payload(seq, prev, boot, key)))
        prev = wire.payload_hash(entries[-1].payload)
    return entries
