"""The table of other implementations: versions, and the names that peers give themselves."""

import pytest

from memif.doctor import QUIRKS, Quirk, quirks_of


@pytest.mark.parametrize(
    ("name", "peer", "word", "there"),
    [
        ("DPDK 22.11.11", "DPDK 22.11.11", "merged with later", False),
        ("DPDK 22.11.12", "DPDK 22.11.12", "merged with later", False),
        ("DPDK 22.11.4", "DPDK 22.11.4", "merged with later", True),
        ("DPDK 24.11.8", "DPDK 24.11.8", "corrupts chains", False),
        ("DPDK 22.11.11", "DPDK 22.11.11", "corrupts chains", False),
        ("DPDK 23.11.2", "DPDK 23.11.2", "corrupts chains", True),
        ("DPDK 22.11.11", "DPDK 22.11.11", "without checking", False),  # it was seen to chain
        ("DPDK 23.03.0", "DPDK 23.03.0", "without checking", True),
        ("DPDK 25.11.4", "DPDK 25.11.4", "chains", False),
        ("DPDK 25.11.0", "DPDK 25.11.0", "merged with later", True),
        ("DPDK 26.03.0", "DPDK 26.03.0", "merged with later", False),
        ("VPP 26.10-rc0~12-gabc", "VPP 26.10", "threads", False),
        ("VPP 22.02-release", "VPP 22.02", "threads", True),
        ("VPP 22.06-release", "VPP 22.06", "threads", False),
        ("VPP 18.07-release", "VPP 18.07", "threads", True),
        ("VPP", "VPP", "threads", True),
        ("libmemif 4.0", "libmemif 4.0", "unknown ids", True),
        ("libmemif 2.0", "libmemif 2.0", "unknown ids", False),
    ],
)
def test_versions(name: str, peer: str, word: str, there: bool) -> None:
    found, quirks = quirks_of(name)
    assert found == peer
    assert any(word in quirk.text for quirk in quirks) == there
    assert {quirk.peer for quirk in quirks} == {peer.split()[0]}


@pytest.mark.parametrize("name", ["", "memif for Python", "my-app 1.0"])
def test_others_have_none(name: str) -> None:
    assert quirks_of(name) == ("", [])


def test_versions_in_words() -> None:
    assert Quirk("VPP", "").versions == ""
    assert Quirk("VPP", "", (23, 3)).versions == "from 23.03"
    assert Quirk("VPP", "", None, (4,)).versions == "before 4"
    assert Quirk("VPP", "", (23, 3), (26, 3)).versions == "23.03 to before 26.03"
    assert Quirk("VPP", "", None, (26, 3), ((22, 11, 11),)).versions == "before 26.03, not 22.11.11"
    assert all(quirk.text.endswith(".") for quirk in QUIRKS)
