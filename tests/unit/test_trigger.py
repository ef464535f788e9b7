"""Sources of triggers: what arrives is delivered once and in order, what is no trigger is counted, and all end when told."""

import socket
import threading
import time

import pytest

from edge.clock import SystemClock
from edge.errors import ConfigError, ContractError
from edge.trigger.command import CommandTrigger
from edge.trigger.timer import TimerTrigger
from edge.trigger.udp import UdpTrigger
from edge.wire.trigger import TRIGGER, TRIGGER_SCHEMA, LineTrigger


class Run:
    """A source in a thread of its own."""

    def __init__(self, source):
        self.got = []
        self.news = threading.Condition()
        self.stop = threading.Event()
        self.source = source
        source.open()
        self.thread = threading.Thread(target=source.run, args=(self.stop, self.take))
        self.thread.start()

    def take(self, trigger):
        with self.news:
            self.got.append(trigger)
            self.news.notify_all()

    def wait(self, count):
        with self.news:
            return self.news.wait_for(lambda: len(self.got) >= count, 10)

    def end(self):
        begin = time.monotonic()
        self.stop.set()
        self.source.close()
        self.thread.join(5)
        assert not self.thread.is_alive()
        return time.monotonic() - begin


def payload(count):
    return TRIGGER.encode(LineTrigger(TRIGGER_SCHEMA, count, 5, 0, ""))


def test_datagrams_in_order_and_garbage_counted(caplog):
    source = UdpTrigger("127.0.0.1", 0)
    run = Run(source)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for datagram in (payload(1), b"garbage", b"x" * 2000, payload(2)[:-3], payload(2)):
            line.sendto(datagram, source.address)
        assert run.wait(2)
    assert run.end() < 1
    assert [trigger.count for trigger in run.got] == [1, 2]
    assert source.refused == 3
    assert len([record for record in caplog.records if "is no trigger" in record.message]) == 1


def test_a_taken_port_is_said_with_the_remedy():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="another program, perhaps a second daemon, listens there; choose another port"):
            UdpTrigger("127.0.0.1", taken.getsockname()[1]).open()


def test_an_address_that_is_not_ours():
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        UdpTrigger("192.0.2.1", 0).open()


def test_not_opened_is_a_programming_error():
    with pytest.raises(RuntimeError):
        UdpTrigger("127.0.0.1", 0).run(threading.Event(), print)
    with pytest.raises(RuntimeError):
        _ = UdpTrigger("127.0.0.1", 0).address


def test_the_timer_counts_up_at_its_rate():
    run = Run(TimerTrigger(10.0, SystemClock()))
    begin = time.monotonic()
    assert run.wait(20)
    assert 0.15 < time.monotonic() - begin < 5
    assert run.end() < 1
    counts = [trigger.count for trigger in run.got]
    assert counts == list(range(1, len(counts) + 1))


def test_a_late_timer_does_not_burst():
    run = Run(TimerTrigger(20.0, SystemClock()))
    assert run.wait(1)
    with run.news:  # the receiver holds it up for 300 ms
        time.sleep(0.3)
    held = len(run.got)
    time.sleep(0.05)
    assert len(run.got) <= held + 5
    run.end()


def test_commands_are_triggers_from_another_thread():
    source = CommandTrigger()
    run = Run(source)
    for count in range(1, 6):
        source.offer(payload(count))
    with pytest.raises(ContractError):
        source.offer(b"{}")
    assert run.wait(5)
    assert run.end() < 1
    assert [trigger.count for trigger in run.got] == [1, 2, 3, 4, 5]
    assert source.refused == 1


def test_commands_nobody_takes_are_bounded(caplog):
    source = CommandTrigger()
    for count in range(1, 301):
        source.offer(payload(count))
    assert source.refused == 44
    assert "the oldest is lost" in caplog.text
