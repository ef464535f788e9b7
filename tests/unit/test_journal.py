"""The journal: durable, chained, bounded, one writer."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import JournalError
from edge.journal.chain import verify_chain
from edge.journal.reader import Reader
from edge.journal.store import Journal
from edge.wire import verdict as wire
from tests.support.journals import chain

MB = 2**20


def test_what_is_appended_is_read_back_and_the_chain_holds(tmp_path):
    path = tmp_path / "sub" / "j.db"
    with Journal(path, "st2", 4 * MB) as journal:
        assert journal.head == wire.GENESIS
        assert journal.append(chain(journal, 1, 3)) == 1
        assert journal.append(chain(journal, 4, 1)) == 4
        head = journal.head
    with Journal(path, "st2", 4 * MB) as journal:
        assert (journal.head, journal.last_n, journal.rows) == (head, 4, 4)
        journal.append(chain(journal, 1, 2, boot="01JD8Q7ZK30000000000000001"))
    with Reader(path) as reader:
        report = verify_chain(reader)
        assert (report.rows, report.boots, report.first_n, report.last_n) == (6, 2, 1, 6)
        assert [row.seq for row in reader.rows(0, 100)] == [1, 2, 3, 4, 1, 2]


def test_synchronous_is_full_and_the_log_is_write_ahead(tmp_path):
    with Journal(tmp_path / "j.db", "st2", 4 * MB) as journal:
        database = journal._database()
        assert database.execute("PRAGMA synchronous").fetchone()[0] == 2, "2 is FULL; NORMAL loses verdicts in a power cut"
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_outbox_holds_what_no_broker_has_confirmed(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", 4 * MB) as journal, Reader(path) as reader:
        journal.append(chain(journal, 1, 5))
        assert [row.n for row in reader.unsent(0, 99, 10)] == [1, 2, 3, 4, 5]
        journal.confirm([1, 3])
        journal.append(chain(journal, 6, 1), confirmed=[2])
        assert [row.n for row in reader.unsent(0, 99, 10)] == [4, 5, 6]
        assert [row.n for row in reader.unsent(4, 5, 10)] == [5]
        assert reader.count_unsent() == 3
        assert verify_chain(reader).rows == 6, "confirmed verdicts stay in the journal"


def test_a_second_daemon_on_the_same_journal_is_refused(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", 4 * MB), pytest.raises(JournalError, match=f"in use by process {os.getpid()}"):
        Journal(path, "st2", 4 * MB)
    with Journal(path, "st2", 4 * MB):
        pass


def test_the_journal_of_another_station_is_refused(tmp_path):
    path = tmp_path / "j.db"
    Journal(path, "st2", 4 * MB).close()
    with pytest.raises(JournalError, match="expected the journal of station st3, it is of st2"):
        Journal(path, "st3", 4 * MB)


def test_a_journal_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "j.db"
    Journal(path, "st2", 4 * MB).close()
    database = sqlite3.connect(path)
    database.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
    database.commit()
    database.close()
    with pytest.raises(JournalError, match="expected schema 1, got 2"):
        Journal(path, "st2", 4 * MB)


def test_a_file_that_is_no_journal_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "j.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError, match=r"cannot open the journal.*move it away"):
        Journal(path, "st2", 4 * MB)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot make the journal's folder"):
        Journal(tmp_path / "file" / "j.db", "st2", 4 * MB)


def test_size_is_bounded_and_the_remaining_chain_verifies(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", MB) as journal:
        for start in range(1, 6001, 50):
            journal.append(chain(journal, start, 50))
            journal.checkpoint(idle=True)
        rows = journal.rows
        journal.checkpoint(idle=False)
    assert 500 < rows < 1500
    assert path.stat().st_size <= MB
    with Reader(path) as reader:
        report = verify_chain(reader)
        assert report.rows == rows
        assert report.last_n == 6000
        assert reader.count_unsent() == rows
        assert reader.root() != wire.GENESIS


def test_what_gives_way_before_it_was_sent_is_counted_for_good(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", MB) as journal:
        for start in range(1, 3001, 50):
            first = journal.append(chain(journal, start, 50))
            journal.confirm(range(first, first + 40))
        with Reader(path) as reader:
            gone = 3000 - journal.rows
            assert journal.lost + reader.count_unsent() == 600
        assert journal.lost == gone // 50 * 10 + max(0, gone % 50 - 40) > 0
        lost = journal.lost
    with Journal(path, "st2", MB) as journal:
        assert journal.lost == lost


def test_nothing_is_lost_while_a_broker_confirms(tmp_path):
    with Journal(tmp_path / "j.db", "st2", MB) as journal:
        first = 0
        for start in range(1, 3001, 50):
            first = journal.append(chain(journal, start, 50), range(first, first + 50))
        assert journal.rows < 3000
        assert journal.lost == 0


def test_the_write_ahead_log_is_bounded_without_any_pause(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", 64 * MB) as journal:
        for start in range(1, 20001, 100):
            journal.append(chain(journal, start, 100))
            journal.checkpoint(idle=False)
        assert path.with_name("j.db-wal").stat().st_size < 40 * MB


def test_room_on_the_disk_is_reserved(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", 16 * MB) as journal:
        journal.append(chain(journal, 1, 1))
        reserved = sum(file.stat().st_blocks * 512 for file in (path, path.with_name("j.db-wal")))
        if reserved < 16 * MB:
            pytest.skip("this file system reserves no room")
        assert path.stat().st_size < MB


def altered(path, statement, *values):
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


@pytest.fixture
def ten(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", 4 * MB) as journal:
        journal.append(chain(journal, 1, 10))
    return path


def test_an_altered_verdict_is_found(ten):
    with Reader(ten) as reader:
        row = reader.rows(4, 1)[0]
    altered(ten, "UPDATE verdict SET payload = ? WHERE n = 5", row.payload.replace(b'"lost"', b'"late"'))
    with Reader(ten) as reader, pytest.raises(JournalError, match="row 6: expected prev"):
        verify_chain(reader)


def test_garbage_is_found(ten):
    altered(ten, "UPDATE verdict SET payload = ? WHERE n = 5", b"garbage")
    with Reader(ten) as reader, pytest.raises(JournalError, match="row 5: is no verdict"):
        verify_chain(reader)


def test_a_removed_verdict_is_found(ten):
    altered(ten, "DELETE FROM verdict WHERE n = 5")
    with Reader(ten) as reader, pytest.raises(JournalError, match="row 6: expected row 5"):
        verify_chain(reader)


def test_a_removed_beginning_is_found(ten):
    altered(ten, "DELETE FROM verdict WHERE n <= 3")
    with Reader(ten) as reader, pytest.raises(JournalError, match="row 4: expected prev"):
        verify_chain(reader)


def test_seals_are_checked_where_a_key_is_given(tmp_path):
    path, key = tmp_path / "j.db", b"sixteen bytes ok"
    with Journal(path, "st2", 4 * MB) as journal:
        journal.append(chain(journal, 1, 3, key=key))
    with Reader(path) as reader:
        assert verify_chain(reader, key).rows == 3
        with pytest.raises(JournalError, match="row 1: its seal"):
            verify_chain(reader, b"another key, long")


def test_a_failed_write_changes_nothing_and_the_next_one_works(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path, "st2", 4 * MB) as journal:
        journal.append(chain(journal, 1, 2))
        head = journal.head
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="cannot be written"):
            journal.append(chain(journal, 3, 1))
        assert (journal.head, journal.last_n) == (head, 2)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert journal.append(chain(journal, 3, 1)) == 3
    with Reader(path) as reader:
        assert verify_chain(reader).rows == 3


def test_no_journal_to_read(tmp_path):
    with pytest.raises(JournalError, match="no such journal"):
        Reader(tmp_path / "none.db")


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from edge.journal.store import Journal
from tests.support.journals import chain
with Journal(Path(sys.argv[1]), "st2", 4 * 2**20) as journal:
    seq = journal.last_n + 1
    while True:
        journal.append(chain(journal, seq, 1))
        print(seq, flush=True)
        seq += 1
"""


def test_after_kill_9_every_acknowledged_verdict_is_there(tmp_path, request):
    path, root = tmp_path / "j.db", request.config.rootpath
    acknowledged = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(root)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            for _ in range(25):
                acknowledged = int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            process.wait(10)
            process.stdout.close()
        acknowledged = int(rest[-1]) if rest else acknowledged
        with Reader(path) as reader:
            report = verify_chain(reader)
        assert acknowledged <= report.last_n <= acknowledged + 1
    assert acknowledged >= 75


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12), confirmed=st.lists(st.integers(1, 100), max_size=30))
def test_any_batches_give_one_chain(tmp_path_factory, sizes, confirmed):
    path = tmp_path_factory.mktemp("j") / "j.db"
    seq = 1
    with Journal(path, "st2", 4 * MB) as journal:
        for size in sizes:
            assert journal.append(chain(journal, seq, size)) == seq
            seq += size
        journal.confirm(confirmed)
    with Reader(path) as reader:
        assert verify_chain(reader).rows == sum(sizes)
        assert reader.count_unsent() == sum(sizes) - len({n for n in confirmed if n < seq})


def test_entries_of_a_batch_cost_one_wait(tmp_path):
    with Journal(tmp_path / "j.db", "st2", 4 * MB) as journal:
        begin = time.perf_counter()
        journal.append(chain(journal, 1, 64))
        one_batch = time.perf_counter() - begin
        begin = time.perf_counter()
        for seq in range(65, 129):
            journal.append(chain(journal, seq, 1))
        one_by_one = time.perf_counter() - begin
    assert one_batch < one_by_one


def test_payloads_are_kept_byte_for_byte(ten):
    with Reader(ten) as reader:
        for row in reader.rows(0, 10):
            assert msgspec.json.encode(wire.decode_verdict(row.payload)) == row.payload
