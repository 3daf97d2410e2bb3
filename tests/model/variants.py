"""The variants of the model: what each is made of, and how its search has to end."""

from dataclasses import dataclass

_SIZES = {1: ("SIZE=1", "MOD=4", "BURST=1"), 2: ("SIZE=2", "MOD=8", "BURST=2"), 4: ("SIZE=4", "MOD=8", "BURST=2")}
_ADAPTIVE = ("SPINS=1",)


@dataclass(frozen=True)
class Variant:
    """One search. `defines` are the model's -D options; `expected` is "holds" or the violation that must be found.

    deep: needs room for long runs and many states.
    """

    name: str
    defines: tuple[str, ...]
    expected: str = "holds"
    deep: bool = False

    @property
    def liveness(self) -> bool:
        """Whether the search is for an infinite run in which a published packet is never received."""
        return "EVENTUALLY" in self.defines


def _both(name: str, *defines: str, size: int = 2, expected: str = "holds", deep: bool = False) -> list[Variant]:
    return [_one(f"{name}-{d}", d, *defines, size=size, expected=expected, deep=deep) for d in ("s2m", "m2s")]


def _one(
    name: str, direction: str, *defines: str, size: int = 2, expected: str = "holds", deep: bool = False
) -> Variant:
    given = {word.partition("=")[0] for word in defines}
    defaults = [word for word in (*_SIZES[size], "DEPTH=6") if word.partition("=")[0] not in given]
    return Variant(name, (direction.upper(), *defaults, *defines), expected, deep)


def _ours() -> list[Variant]:
    """The code as it is, at both ends: nothing may go wrong, and no bounded wait is needed."""
    return [
        *_both("adaptive-1", *_ADAPTIVE, size=1),
        *_both("adaptive-2", *_ADAPTIVE),
        *_both("adaptive-4", *_ADAPTIVE, size=4, deep=True),
        *_both("interrupt-2"),
        *_both("event-loop-2", "EVENT_LOOP=1"),
        *_both("event-loop-once-2", "EVENT_LOOP=2"),
        *_both("event-loop-once-4", "EVENT_LOOP=2", size=4, deep=True),
        *_both("event-loop-chains-2", "EVENT_LOOP=1", "CHAINS"),
        *_both("event-loop-once-chains-2", "EVENT_LOOP=2", "CHAINS"),
        *_both("event-loop-once-chains-4", "EVENT_LOOP=2", "CHAINS", "BURST=1", size=4, deep=True),
        *_both("chains-4", *_ADAPTIVE, "CHAINS", "BURST=1", size=4, deep=True),
        _one("chains-bursts-4-s2m", "s2m", "CHAINS", size=4, deep=True),
        *_both("two-bursts-4", "RUNS=2", size=4, deep=True),
        *_both("weak-1", *_ADAPTIVE, "WEAK", size=1),
        *_both("weak-2", *_ADAPTIVE, "WEAK", "DEPTH=8"),
        *_both("weak-chains-2", *_ADAPTIVE, "WEAK", "CHAINS", "DEPTH=8"),
        *_both("eventually-2", *_ADAPTIVE, "EVENTUALLY"),
    ]


def _peers() -> list[Variant]:
    """A peer that sends without a fence, and one that shows chains piece by piece."""
    return [
        *_both("unfenced", *_ADAPTIVE, "UNFENCED", expected="lost wake-up"),
        *_both("unfenced-eventually", *_ADAPTIVE, "UNFENCED", "EVENTUALLY", expected="starved"),
        *_both("unfenced-bounded", *_ADAPTIVE, "UNFENCED", "BOUNDED_WAIT", "EVENTUALLY"),
        _one("unfenced-weak-s2m", "s2m", *_ADAPTIVE, "UNFENCED", "BOUNDED_WAIT", "WEAK"),
        *_both("unfenced-interrupt", "UNFENCED"),
        *_both("cuts-adaptive", *_ADAPTIVE, "CHAINS", "PEER_CUTS"),
        *_both("cuts-interrupt", "CHAINS", "PEER_CUTS"),
        *_both("cuts-event-loop", "EVENT_LOOP=1", "CHAINS", "PEER_CUTS"),
        *_both("cuts-event-loop-once", "EVENT_LOOP=2", "CHAINS", "PEER_CUTS"),
    ]


def _mistakes() -> list[Variant]:
    """One thing left out or done wrong: a model that does not notice proves nothing."""
    weak = (*_ADAPTIVE, "WEAK")
    return [
        *_both("no-recheck", *_ADAPTIVE, "NO_RECHECK", expected="lost wake-up"),
        *_both("no-receiver-fence", *_ADAPTIVE, "ARM_UNFENCED", expected="lost wake-up"),
        *_both("two-stores", *_ADAPTIVE, "CHAINS", "TWO_STORES", size=4, expected="torn chain"),
        *_both("early-return", *_ADAPTIVE, "EARLY_RETURN", expected="overwritten"),
        _one("loose-publish-s2m", "s2m", *weak, "LOOSE_PUBLISH", expected="wrong packet"),
        _one("loose-publish-m2s", "m2s", *weak, "LOOSE_PUBLISH", expected="overwritten"),
        _one("loose-return-s2m", "s2m", *weak, "CHAINS", "LOOSE_RETURN", expected="wrong packet"),
        _one("loose-return-m2s", "m2s", *weak, "LOOSE_RETURN", expected="no buffer"),
        *_both("loose-loads", *weak, "LOOSE_LOADS", expected="wrong packet"),
        _one("loose-free-m2s", "m2s", *weak, "LOOSE_FREE", expected="no buffer"),
        *_both("no-return", *_ADAPTIVE, "NO_RETURN", expected="slots lost"),
        _one("off-by-one-s2m", "s2m", *_ADAPTIVE, "OFF_BY_ONE", expected="wrong packet"),
        _one("off-by-one-m2s", "m2s", *_ADAPTIVE, "OFF_BY_ONE", expected="index refused"),
        *_both("no-resignal", "EVENT_LOOP=2", "NO_RESIGNAL", expected="lost wake-up"),
        *_both("no-resignal-chains", "EVENT_LOOP=2", "CHAINS", "NO_RESIGNAL", expected="lost wake-up"),
        *_both("blind-drain", "EVENT_LOOP=1", "BLIND_DRAIN", expected="lost wake-up"),
        *_both("no-wrap", *_ADAPTIVE, "NO_WRAP", expected="lost wake-up"),
    ]


VARIANTS: tuple[Variant, ...] = (*_ours(), *_peers(), *_mistakes())
