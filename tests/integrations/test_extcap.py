"""The extcap program, by itself and under tshark."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import memif
from ends import pump
from memif import extcap
from memif.capture import CaptureReader, LinkType
from patience import within
from peers.testpmd import Testpmd, poll_until

if shutil.which("tshark") is None:
    pytest.skip("tshark is missing: apt-get install tshark", allow_module_level=True)

PROGRAM = [sys.executable, "-m", "memif.extcap"]
PACKETS = [b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + number.to_bytes(4, "big") * 20 for number in range(500)]
IP_PACKETS = [bytes.fromhex("4500001c0000000040110000") + number.to_bytes(4, "big") * 4 for number in range(500)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home without any settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "MEMIF_SECRET", "MEMIF_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def installed(home: Path) -> Path:
    """The same, with the program installed."""
    extcap.install()
    return home


def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program that ends by itself."""
    result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert result.returncode == status, result.stderr
    return result


@contextlib.contextmanager
def started(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Context: a running program, killed at the end if need be."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    with process:
        try:
            yield process
        finally:
            process.kill()


def tshark(file: Path, *words: str, **settings: object) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Context: tshark, capturing from a memif into `file`."""
    preferences = [
        word for name, value in settings.items() for word in ("-o", f"extcap.memif.{name.replace('-', '')}:{value}")
    ]
    return started("tshark", "-i", "memif", *preferences, "-w", str(file), *words)


def send_all(iface: memif.Interface, packets: list[bytes]) -> None:
    """Send all, whatever the ring's size, on all queues in turn."""
    for number, packet in enumerate(packets):
        queue = iface.tx[number % len(iface.tx)]
        assert queue.wait_free(1, timeout=5)
        assert queue.send([packet]) == 1


def contents(file: Path) -> list[bytes]:
    """The packets of a capture."""
    with CaptureReader(file) as reader:
        return [bytes(packet.data) for packet in reader]


# -- what Wireshark asks


def test_install_makes_it_known(home: Path) -> None:
    """Installed, tshark lists the interface; uninstalled, it does not."""
    assert "memif" not in run("tshark", "-D").stdout
    [file] = run(*PROGRAM, "--install").stdout.split()
    assert Path(file).parent.is_relative_to(home)
    assert re.search(r"^\d+\. memif \(memif shared memory interface\)$", run("tshark", "-D").stdout, re.MULTILINE)
    assert run(*PROGRAM, "--install").stdout.split() == [file]
    assert run(*PROGRAM, "--uninstall").stdout.split() == [file]
    assert run(*PROGRAM, "--uninstall").stdout == ""
    assert "memif" not in run("tshark", "-D").stdout


def test_link_types(installed: Path) -> None:
    """tshark -L shows both."""
    lines = run("tshark", "-i", "memif", "-L").stdout.splitlines()
    assert [line.strip() for line in lines[1:]] == ["EN10MB (Ethernet)", "RAW (Raw IP)"]


def test_folders_without_wireshark(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can be asked, both places are served."""
    monkeypatch.setenv("PATH", str(home))
    assert extcap.folders() == [home / ".local/lib/wireshark/extcap", home / ".config/wireshark/extcap"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert extcap.folders()[1] == home / "xdg/wireshark/extcap"


def test_folders_of_newer_versions(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wireshark from 4.2 on tells its personal folder itself."""
    fake = home / "tshark"
    fake.write_text("#!/bin/sh\nprintf 'Personal configuration:\\t/c\\nPersonal Extcap path:\\t/p/extcap\\n'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    assert extcap.folders() == [Path("/p/extcap")]


def test_install_into_a_folder_that_can_not_be(home: Path) -> None:
    """One line and exit code 1."""
    (home / "file").touch()
    result = run(*PROGRAM, "--install", "--folder", str(home / "file/extcap"), status=1)
    assert result.stderr.startswith("memif: ")
    assert result.stderr.count("\n") == 1


def test_a_launcher_that_does_not_work_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installer tries what it wrote."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="does not work"):
        extcap.install(home)


SENTENCE = re.compile(r"(\w+) ((?:\{\w+=[^{}]*\})+)")


def test_the_dialog(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line follows the grammar, arguments are numbered, selectors have one default, all are accepted."""
    assert extcap.main(["--extcap-interface", "memif", "--extcap-config", "--extcap-version=4.4"]) == 0
    arguments: list[dict[str, str]] = []
    values: list[dict[str, str]] = []
    for line in capsys.readouterr().out.splitlines():
        match = SENTENCE.fullmatch(line)
        assert match, line
        fields = dict(re.findall(r"\{(\w+)=([^{}]*)\}", match[2]))
        {"arg": arguments, "value": values}[match[1]].append(fields)
    assert [field["number"] for field in arguments] == [str(i) for i in range(len(arguments))]
    assert {"--socket", "--id", "--role", "--secret", "--mode", "--ring-size"} <= {field["call"] for field in arguments}
    for field in arguments:
        if field["type"] == "selector":
            mine = [value for value in values if value["arg"] == field["number"]]
            assert [value["value"] for value in mine if value["default"] == "true"] == [field["default"]]
        assert extcap.main([field["call"], field.get("default", "x"), "--extcap-dlts"]) == 0


def test_answers_load_next_to_nothing() -> None:
    """Wireshark asks at its start: no numpy, no sockets, no rings."""
    code = (
        "import sys; from memif.extcap import main; main(['--extcap-interfaces']); main(['--extcap-config']);"
        "print(*sorted(n for n in sys.modules if n == 'numpy' or n.startswith('memif')))"
    )
    loaded = run(sys.executable, "-c", code).stdout.splitlines()[-1].split()
    assert loaded == ["memif", "memif.address", "memif.errors", "memif.extcap", "memif.profiles"]


def test_defaults_of_the_dialog(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from profiles and the environment; a secret is not shown."""
    (home / ".config").mkdir()
    file = home / ".config" / "memif.toml"
    file.write_text("socket = '@top'\n[lab]\nrole = 'server'\nid = 7\nsecret = 'hush'\nmode = 'punt/inject'\n")
    file.chmod(0o600)
    monkeypatch.setenv("MEMIF_PROFILE", "lab")
    monkeypatch.setenv("MEMIF_RING_SIZE", "64")
    text = extcap.config()
    for call, default in (
        ("socket", "@top"),
        ("id", "7"),
        ("role", "master"),
        ("ring-size", "64"),
        ("mode", "ethernet"),
    ):
        assert re.search(rf"\{{call=--{call}\}}.*\{{default={default}\}}", text), call
    assert "hush" not in text
    assert "{value=master}{display=master}{default=true}" in text
    assert "{value=slave}{display=slave}{default=false}" in text
    monkeypatch.setenv("MEMIF_ID", "x")
    assert (
        "MEMIF_ID: 'x' is not a number"
        in run(*PROGRAM, "--extcap-interface", "memif", "--extcap-config", status=1).stderr
    )
    run(*PROGRAM, "--extcap-interfaces")  # Wireshark still knows it


def test_wrong_questions() -> None:
    """Another interface, a filter that does not compile, a capture without a FIFO, a setting that cannot be."""
    assert "no interface 'eth0'" in run(*PROGRAM, "--extcap-interface", "eth0", "--extcap-dlts", status=1).stderr
    assert run(*PROGRAM, "--extcap-interface", "memif", "--extcap-capture-filter", "udp").stdout == ""
    assert "upd" in run(*PROGRAM, "--extcap-interface", "memif", "--extcap-capture-filter", "upd").stdout
    assert run(*PROGRAM, "--extcap-interface", "memif", "--extcap-capture-filter", "").stdout.startswith("usage")
    assert "--fifo" in run(*PROGRAM, "--capture", status=2).stderr
    assert "--role" in run(*PROGRAM, "--role", "boss", "--extcap-dlts", status=2).stderr
    wrong = run(*PROGRAM, "--capture", "--fifo", "/dev/null", "--ring-size", "3", status=1).stderr
    assert "ring_size" in wrong
    assert wrong.count("\n") == 1


# -- captures through tshark


@pytest.mark.parametrize(
    ("role", "mode", "packets", "options"),
    [
        ("slave", "ethernet", PACKETS, {}),
        ("master", "ethernet", PACKETS, {}),
        ("slave", "ip", IP_PACKETS, {"ring_size": 32}),
    ],
)
def test_capture(
    installed: Path, socket_path: str, role: str, mode: str, packets: list[bytes], options: dict[str, Any]
) -> None:
    """What the peer sends is in the file that tshark writes, with the settings given as preferences."""
    file = installed / "out.pcapng"
    settings = {"socket": socket_path, "id": 7, "role": role, "mode": mode}
    settings |= {name.replace("_", "-"): value for name, value in options.items()}
    ours = "master" if role == "slave" else "slave"
    with (
        memif.Socket(socket_path) as sock,
        tshark(file, "-c", str(len(packets)), **settings) as process,
    ):
        iface = sock.interface(id=7, role=ours, mode=mode)
        iface.wait_up(20)
        assert iface.peer is not None
        assert iface.peer.app_name == "Wireshark"
        if options:
            assert iface.tx[0].ring.size == options["ring_size"]
        send_all(iface, packets)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0
        assert f"{len(packets)} packets captured" in errors
        pump(sock, until=lambda: not iface.up)
    assert contents(file) == packets
    with CaptureReader(file) as reader:
        next(iter(reader))
        assert reader.interfaces[0].linktype == (LinkType.ETHERNET if mode == "ethernet" else LinkType.RAW)


def test_several_queues_and_snap_length(installed: Path, socket_path: str) -> None:
    """Packets of all queues, cut as asked."""
    file = installed / "out.pcapng"
    settings = {"socket": socket_path, "rx-queues": 3, "snaplen": 40}
    with memif.listen(socket_path) as iface, tshark(file, "-c", "30", **settings) as process:
        iface.wait_up(20)
        assert len(iface.tx) == 3
        send_all(iface, PACKETS[:30])
        process.communicate(timeout=20)
    assert sorted(contents(file)) == sorted(packet[:40] for packet in PACKETS[:30])


def test_a_capture_filter(installed: Path, socket_path: str) -> None:
    """What passes is in the file, and nothing else."""
    file = installed / "out.pcapng"
    with (
        memif.listen(socket_path) as iface,
        tshark(file, "-f", "ether[17] & 1 = 0", "-c", "250", socket=socket_path) as process,
    ):
        iface.wait_up(20)
        send_all(iface, PACKETS)
        process.communicate(timeout=20)
    assert contents(file) == PACKETS[::2]


def test_a_peer_that_sends_on_several_queues_and_leaves(installed: Path, socket_path: str) -> None:
    file = installed / "out.pcapng"
    with tshark(file, "-c", "90", **{"socket": socket_path, "rx-queues": 3}) as process:
        with memif.listen(socket_path) as iface:
            iface.wait_up(20)
            for queue, part in zip(iface.tx, (PACKETS[:30], PACKETS[30:60], PACKETS[60:90]), strict=True):
                assert queue.wait_free(30, timeout=5)
                assert queue.send(part) == 30
        process.communicate(timeout=20)
    assert sorted(contents(file)) == sorted(PACKETS[:90])


@pytest.mark.timeout(120)  # tshark starts the program three times each, on a machine that may be busy
def test_the_secret(installed: Path, socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken from the environment, or from a profile; without it tshark shows why, once, and ends."""
    file = installed / "out.pcapng"
    with memif.listen(socket_path, secret="s3cret") as iface:
        with tshark(file, socket=socket_path) as process:
            pump(iface, until=lambda: process.poll() is not None, timeout=40)
            _, errors = process.communicate()
        assert not iface.stats["connects"]
        assert errors.count("secret required") == 1
        monkeypatch.setenv("MEMIF_SECRET", "s3cret")
        with tshark(file, "-c", "1", socket=socket_path) as process:
            iface.wait_up(45)
            send_all(iface, PACKETS[:1])
            process.communicate(timeout=45)
    assert contents(file) == PACKETS[:1]


def test_the_peer_comes_and_goes(installed: Path, socket_path: str) -> None:
    """The capture waits for its peer, and goes on with the next one."""
    file = installed / "out.pcapng"
    with tshark(file, "-c", "20", socket=socket_path) as process:
        for part in (PACKETS[:10], PACKETS[10:20]):
            with memif.listen(socket_path) as iface:
                iface.wait_up(20)
                send_all(iface, part)
                try:
                    assert iface.tx[0].wait_free(1024, timeout=5)
                except memif.MemifDisconnectedError:  # it has its twenty packets and has ended
                    assert part == PACKETS[10:20]
        process.communicate(timeout=20)
    assert contents(file) == PACKETS[:20]


@pytest.mark.dpdk
def test_testpmd_seen_by_tshark(installed: Path, socket_path: str, testpmd: Callable[..., Testpmd]) -> None:
    """What testpmd sends, dissected."""
    peer = testpmd("server", forward="rxonly", txpkts=100, burst=8)
    words = ("-l", "-i", "memif", "-o", f"extcap.memif.socket:{socket_path}", "-T", "fields", "-e", "udp.dstport")
    with started("tshark", *words) as process:
        peer.wait_link(20)
        time.sleep(0.2)  # the master's link is up a moment before the slave has handed over its buffers
        with peer.forwarding(tx_first=5):
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(40)]
        process.send_signal(signal.SIGINT)
        more, _ = process.communicate(timeout=20)
    assert [line.strip() for line in lines] == ["9"] * 40
    assert more == ""


# -- the program's end


@contextlib.contextmanager
def capturing(fifo: Path, path: str) -> Iterator[tuple[subprocess.Popen[str], memif.Interface]]:
    """Context: the program itself, connected to us."""
    words = [*PROGRAM, "--capture", "--extcap-interface", "memif", "--fifo", str(fifo), "--socket", path]
    with memif.listen(path) as iface, started(*words) as process:
        yield process, iface


def test_it_ends_when_the_reader_goes(tmp_path: Path, socket_path: str) -> None:
    """Also without any packet, soon and with exit code 0."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with capturing(fifo, socket_path) as (process, iface):
        with fifo.open("rb") as reader:
            iface.wait_up(20)
            assert reader.read(4) == b"\x0a\x0d\x0d\x0a"
        start = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - start < within(3.0)
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_ends_when_the_reader_goes_during_traffic(tmp_path: Path, socket_path: str) -> None:
    """A broken pipe in the middle of a burst is no error either."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with capturing(fifo, socket_path) as (process, iface), contextlib.ExitStack() as stack:
        with fifo.open("rb") as reader:
            iface.wait_up(20)
            stack.enter_context(flooding(iface))
            reader.read(100_000)
        assert process.wait(10) == 0


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PHASES = ["before the fifo is read", "before the link is up", "idle", "under traffic", "while the reader is stuck"]


def settled(process: subprocess.Popen[str]) -> None:
    """Wait until its handlers of the signals are in place."""
    path = Path(f"/proc/{process.pid}/status")

    def caught() -> int:
        return int(re.search(r"SigCgt:\t(\w+)", path.read_text())[1], 16)  # type: ignore[index]

    assert poll_until(lambda: caught() >> (signal.SIGTERM - 1) & 1, 10)


@contextlib.contextmanager
def flooding(iface: memif.Interface) -> Iterator[None]:
    """Context: packets without end to whoever is at the other end."""
    stop = threading.Event()

    def flood() -> None:
        with contextlib.suppress(memif.MemifError):
            while not stop.is_set():
                if not iface.tx[0].send(PACKETS[:100]):
                    time.sleep(0.001)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_it_in_every_phase(tmp_path: Path, socket_path: str, phase: str, number: signal.Signals) -> None:
    """Soon, with exit code 0 and without a word; what is read of the FIFO is whole unless nobody took it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with contextlib.ExitStack() as stack:
        words = [*PROGRAM, "--capture", "--extcap-interface", "memif", "--fifo", str(fifo), "--socket", socket_path]
        iface = None if phase == "before the link is up" else stack.enter_context(memif.listen(socket_path))
        process = stack.enter_context(started(*words))
        settled(process)
        data, reading = bytearray(), None
        if phase != "before the fifo is read":
            fd = os.open(fifo, os.O_RDONLY)
            stack.callback(os.close, fd)
            data += os.read(fd, 1)
            if phase != "while the reader is stuck":

                def read() -> None:
                    while chunk := os.read(fd, 65536):
                        data.extend(chunk)

                reading = threading.Thread(target=read)
                reading.start()
        if (iface is not None and reading is not None) or phase == "while the reader is stuck":
            iface.wait_up(20)
        if phase in PHASES[3:]:
            stack.enter_context(flooding(iface))
            time.sleep(0.3)
        time.sleep(0.2)
        process.send_signal(number)
        if number == signal.SIGINT:
            process.send_signal(signal.SIGTERM)  # as tshark does at Ctrl-C
        start = time.monotonic()
        assert process.wait(15) == 0
        assert time.monotonic() - start < within(5.0)
        assert process.stderr.read() == ""
        if reading is not None:
            reading.join(5)
            file = tmp_path / "read.pcapng"
            file.write_bytes(data)
            with CaptureReader(file, strict=True) as reader:
                packets = [packet.data for packet in reader]
                assert list(reader.statistics) == [0]
            assert bool(packets) == (phase == "under traffic")


@pytest.mark.parametrize("phase", ["before the link is up", "idle", "under traffic"])
def test_the_reader_goes_in_every_phase(tmp_path: Path, socket_path: str, phase: str) -> None:
    """Also when the FIFO's name has gone before it, as long as it is read."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with contextlib.ExitStack() as stack:
        words = [*PROGRAM, "--capture", "--extcap-interface", "memif", "--fifo", str(fifo), "--socket", socket_path]
        iface = None if phase == "before the link is up" else stack.enter_context(memif.listen(socket_path))
        process = stack.enter_context(started(*words))
        reader = os.open(fifo, os.O_RDONLY)
        assert os.read(reader, 4) == b"\x0a\x0d\x0d\x0a"
        fifo.unlink()
        if iface is not None:
            iface.wait_up(20)
        time.sleep(0.5)
        assert process.poll() is None
        if phase == "under traffic":
            stack.enter_context(flooding(iface))
            os.read(reader, 1000)
        os.close(reader)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_the_fifo_is_removed_before_anybody_reads_it(tmp_path: Path) -> None:
    """Wireshark has given up: so does the program."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = [*PROGRAM, "--capture", "--extcap-interface", "memif", "--fifo", str(fifo), "--socket", "@never"]
    with started(*words) as process:
        settled(process)
        time.sleep(2.0)  # it has found the FIFO by now
        fifo.unlink()
        assert process.wait(10) == 0


def test_nohup(tmp_path: Path, socket_path: str) -> None:
    """A hangup that is ignored from the start stays ignored."""
    file = tmp_path / "out.pcapng"
    words = [*PROGRAM, "--capture", "--extcap-interface", "memif", "--fifo", str(file), "--socket", socket_path]
    with memif.listen(socket_path) as iface, started("nohup", *words) as process:
        iface.wait_up(20)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_signals(tmp_path: Path, socket_path: str, number: signal.Signals) -> None:
    """Wireshark ends a capture by a signal: what came until then is whole, and the peer is told."""
    file = tmp_path / "out.pcapng"
    with capturing(file, socket_path) as (process, iface):
        iface.wait_up(20)
        send_all(iface, PACKETS)
        assert poll_until(lambda: file.exists() and len(contents(file)) == 500, 5)
        process.send_signal(number)
        assert process.wait(10) == 0
        pump(iface, until=lambda: not iface.up)
        assert iface.disconnect_reason == "interface deleted"
    assert contents(file) == PACKETS
