"""Short options of ``memif ping`` mean what they mean to ping(8)."""

import re
import time

import pytest

import memif as library
from ends import receive
from patience import within
from tools.process import master, memif, running

TARGET = "192.168.1.2"


def test_interval_size_and_time_to_live(socket_path: str) -> None:
    with library.listen(socket_path) as iface:
        words = (
            "ping",
            "--socket",
            socket_path,
            "--mode",
            "ethernet",
            "-i",
            0.2,
            "-s",
            100,
            "-t",
            7,
            "-W",
            0.3,
            TARGET,
        )
        with running(*words) as tool:
            iface.wait_up(20)
            asked = receive(iface.rx[0], 1)[0]
            mac = b"\x02\0\0\0\0\x09"
            answer = asked[6:12] + mac + asked[12:21] + b"\2" + mac + asked[38:42] + asked[22:32]
            iface.tx[0].send([answer.ljust(60, b"\0")])
            frames = receive(iface.rx[0], 6, timeout=within(10))
            tool.process.kill()
    echoes = [frame for frame in frames if frame[12:14] == b"\x08\0"]
    assert len(echoes) >= 5
    assert {len(frame) for frame in echoes} == {14 + 20 + 8 + 100}
    assert {frame[22] for frame in echoes} == {7}


def test_a_deadline_ends_it(socket_path: str) -> None:
    with master(socket_path, "icmp-responder"):
        began = time.monotonic()
        result = memif("ping", "--socket", socket_path, "-i", 0.1, "-w", 1, TARGET)
        assert time.monotonic() - began < within(10)
    assert result.code == 0
    sent = int(re.findall(r"(\d+) packets transmitted", result.out)[0])
    assert 3 <= sent <= 11


def test_count_and_deadline_wait_for_replies(socket_path: str) -> None:
    """As ping(8): with both, requests go on until so many were answered; fewer is a failure."""
    with master(socket_path, "icmp-responder"):
        assert (
            memif("ping", "--socket", socket_path, "-i", 0.05, "-c", 4, "-w", 20, TARGET).out.count("bytes from") == 4
        )
        few = memif("ping", "--socket", socket_path, "-i", 0.3, "-c", 50, "-w", 1, TARGET)
    assert few.code == 1
    assert few.out.count("bytes from") < 50


def test_a_flood_is_limited_by_the_replies(socket_path: str) -> None:
    with master(socket_path, "icmp-responder"):
        result = memif("ping", "--socket", socket_path, "-f", "-c", 500, TARGET)
    assert "500 packets transmitted, 500 received" in result.out
    marks = result.out[result.out.index("data\n") + 5 : result.out.index("\n---")]
    assert set(marks) <= set(".\b ")
    assert marks.count(".") == 500
    assert marks.count("\b \b") == 500


def test_a_flood_without_replies_goes_on(socket_path: str) -> None:
    """A hundred a second."""
    with master(socket_path, "sink"):
        result = memif("ping", "--socket", socket_path, "-f", "-w", 1, "-W", 0.1, "--mode", "ethernet", TARGET)
    assert result.code == 1
    with library.listen(socket_path, mode="ip") as iface:
        with running("ping", "--socket", socket_path, "-f", "-w", 1, "-W", 0.1, "--mode", "ip", TARGET) as tool:
            iface.wait_up(20)
            while tool.process.poll() is None:
                iface.socket.poll(0.05)
            end = tool.ended()
    sent = int(re.findall(r"(\d+) packets transmitted", end.out)[0])
    assert 20 <= sent <= 101


def test_times_of_day_and_outstanding_answers(socket_path: str) -> None:
    with library.listen(socket_path, mode="ip") as iface:
        options = ("-D", "-O", "-i", 0.2, "-c", 3, "-W", 0.2)
        with running("ping", "--socket", socket_path, "--mode", "ip", *options, TARGET) as tool:
            iface.wait_up(20)
            while tool.process.poll() is None:
                iface.socket.poll(0.05)
            end = tool.ended()
    lines = [line for line in end.out.splitlines() if "icmp_seq" in line]
    assert [re.sub(r"^\[\d{10}\.\d{6}\] ", "", line) for line in lines] == [
        "no answer yet for icmp_seq=1",
        "no answer yet for icmp_seq=2",
    ]
    assert abs(float(lines[0][1:18]) - time.time()) < within(60)


def test_quiet_is_the_beginning_and_the_end(socket_path: str) -> None:
    with master(socket_path, "icmp-responder"):
        result = memif("ping", "--socket", socket_path, "-q", "-c", 2, "-i", 0.01, TARGET)
    assert [line.split()[0] for line in result.out.splitlines() if line] == ["PING", "---", "2", "rtt"]


@pytest.mark.parametrize("option", ["-I", "-S", "-d", "-r", "-m", "-R", "-b"])
def test_other_letters_do_not_exist(option: str) -> None:
    result = memif("ping", option, "1", TARGET)
    assert result.code == 2
    assert "No such option" in result.err


def test_corrupted_replies_are_explained(socket_path: str) -> None:
    with library.listen(socket_path, mode="ip") as iface:
        with running("ping", "--socket", socket_path, "--mode", "ip", "-c", 2, "-i", 0.1, "-W", 0.2, TARGET) as tool:
            iface.wait_up(20)
            for packet in receive(iface.rx[0], 2, timeout=within(10)):
                reply = bytearray(packet[:12] + packet[16:20] + packet[12:16] + packet[20:])
                reply[20] = 0  # and the checksum as it was: wrong
                iface.tx[0].send([bytes(reply)])
            while tool.process.poll() is None:
                iface.socket.poll(0.05)
            end = tool.ended()
    assert end.code == 1
    assert "0 received, +2 corrupted" in end.out
    assert "the ICMP checksum of 2 replies was wrong" in end.out
