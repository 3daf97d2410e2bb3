"""The file of profiles and the environment: what counts, and what is wrong with them."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import memif
from ends import pump
from memif import profiles
from memif.tools.options import link_options
from patience import within
from tools.process import memif as tool, running

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the file of profiles, which only this user can read."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for key in (*profiles.KEYS, "profile"):
        monkeypatch.delenv(profiles.variable(key), raising=False)

    def make(text: str) -> Path:
        file = tmp_path / "memif.toml"
        file.write_text(text)
        file.chmod(0o600)
        return file

    return make


LAB = """
socket = "/run/all.sock"
ring-size = 512

[lab]
id = 3
role = "master"
secret-file = "lab.secret"

[other]
socket = "@other"
"""


def test_the_order(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, profile, environment, top of the file."""
    write(LAB)
    (tmp_path / "lab.secret").write_text("hush\nnot this\n")
    assert profiles.link_options() == {"socket": "/run/all.sock", "ring_size": 512}
    monkeypatch.setenv("MEMIF_ID", "7")
    monkeypatch.setenv("MEMIF_RING_SIZE", "64")
    monkeypatch.setenv("MEMIF_MODE", "")
    assert profiles.link_options() == {"socket": "/run/all.sock", "ring_size": 64, "id": 7}
    lab = {"socket": "/run/all.sock", "ring_size": 64, "id": 3, "role": "master", "secret": b"hush"}
    assert profiles.link_options("lab") == lab
    path, options = profiles.fill("@mine", {"id": 9}, "lab")
    assert (path, options["id"], options["ring_size"]) == ("@mine", 9, 64)
    monkeypatch.setenv("MEMIF_PROFILE", "other")
    assert profiles.link_options()["socket"] == "@other"
    assert profiles.link_options("lab")["socket"] == "/run/all.sock"
    assert profiles.profile_names() == ["lab", "other"]


def test_without_a_file(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert profiles.link_options() == {}
    assert profiles.profile_names() == []
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", unset)
        assert profiles.config_file() == tmp_path / "home" / ".config" / "memif.toml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[lab]\nrx_queues = 2", "[lab]: unknown key 'rx_queues', did you mean 'rx-queues'?"),
        ("sokcet = 'x'", "memif.toml: unknown key 'sokcet', did you mean 'socket'?"),
        ("[lab]\nid = 'x'", "[lab]: id: got 'x', allowed: a whole number from 0 to 4294967295"),
        ("ring-size = 1000", "ring-size: got 1000, allowed: a power of two"),
        ("[lab]\nsocket = 5", "[lab]: socket: text in quotes, not 5"),
        ("[lab]\nsocket = ''", "[lab]: socket: got '', allowed: 1 to 107 bytes"),
        ("[lab.more]\nid = 1", "[lab]: unknown key 'more'"),
        ("id = [1]", "id: a single value, not list"),
        ("[lab]\nsecret = 'x'\nsecret-file = 'y'", "only one of them"),
        ("[lab]\nsecret-file = 'missing'", "missing: No such file"),
        ("[lab]\nsecret = 'a-secret-that-is-too-long-by-far'", "secret: got '(hidden)'"),
        ("[lab", "memif.toml: "),
        ("[lba]\nid = 1", "memif.toml: 'lba', did you mean 'lba'?"),
        ("id = 1", "has no [table]"),
    ],
)
def test_what_is_wrong_is_said(write: Write, text: str, words: str) -> None:
    write(text)
    with pytest.raises(memif.MemifValueError) as caught:
        profiles.link_options("lab")
    assert words in str(caught.value)
    assert "too-long" not in str(caught.value)
    result = tool("sink", "-P", "lab", "-t", 0.1)
    assert (result.code, result.out) == (2, "")
    assert words in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MEMIF_ID", "x", "MEMIF_ID: 'x' is not a number"),
        ("MEMIF_ROLE", "boss", "MEMIF_ROLE: got 'boss', allowed: one of 'slave'"),
        ("MEMIF_PROFILE", "lab", "profile: got 'lab', allowed: none, as "),
        ("MEMIF_SECRET_FILE", "/no/such", "MEMIF_SECRET_FILE: /no/such: No such file"),
    ],
)
def test_wrong_variables_are_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    result = tool("sink", "-t", 0.1)
    assert result.code == 2
    assert words in " ".join(result.err.split())


def test_a_secret_that_others_can_read(write: Write) -> None:
    file = write("[lab]\nsecret = 'hush'")
    assert profiles.link_options("lab") == {"secret": "hush"}
    file.chmod(0o640)
    with pytest.raises(memif.MemifValueError, match="chmod 600") as caught:
        profiles.link_options("lab")
    assert "hush" not in str(caught.value)


def test_the_command_line_has_the_same_options() -> None:
    @click.command()
    @link_options()
    def command(link: object) -> None: ...

    names = {name.removeprefix("--") for param in command.params for name in param.opts if name.startswith("--")}
    assert names == {*profiles.KEYS, "profile"}


def test_a_link_by_profiles_alone(write: Write, socket_path: str, tmp_path: Path) -> None:
    """Two tools and the library, each told no more than the profile."""
    write(
        f"socket = {socket_path!r}\n[up]\nid = 5\nsecret = 'hush'\n[down]\nid = 5\nrole = 'master'\nsecret = 'hush'\n"
    )
    with running("icmp-responder", "-P", "down") as responder:
        result = tool("ping", "-P", "up", "-c", 2, "--json", "192.168.1.2", timeout=within(40))
        assert (result.code, result.json["received"]) == (0, 2), result.err
        with memif.connect(profile="up", timeout=within(10)) as iface:
            assert (iface.config.id, iface.config.role.name) == (5, "SLAVE")
        assert "hush" not in Path(f"/proc/{responder.process.pid}/cmdline").read_text()

    async def both() -> int:
        async with memif.aio.listen(profile="down") as master, memif.aio.connect(profile="up") as slave:
            await master.wait_up(within(5))
            return slave.tx[0].send([b"x" * 60])

    assert asyncio.run(both()) == 1


def test_an_option_goes_before_the_profile(write: Write, socket_path: str) -> None:
    write("[lab]\nsocket = '/no/such/folder/m.sock'\nid = 5\nsecret = 'hush'\n")
    with memif.listen(socket_path, id=6, secret="other") as master:
        with running("sink", "-P", "lab", "--socket", socket_path, "--id", 6, "--secret", "other", "-t", 5):
            pump(master, until=lambda: master.up, timeout=30)


def test_profiles_are_completed(write: Write) -> None:
    write("[lab]\n[lager]\n[other]\n")
    environment = os.environ | {"_MEMIF_COMPLETE": "bash_complete", "COMP_WORDS": "memif ping -P la", "COMP_CWORD": "3"}
    from subprocess import run
    from sys import executable

    words = [executable, "-c", "from memif.tools.cli import cli; cli(prog_name='memif')"]
    done = run(words, env=environment, capture_output=True, text=True, timeout=within(30), check=False)
    assert done.stdout.split() == ["plain,lab", "plain,lager"]
