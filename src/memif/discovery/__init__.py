"""The control sockets of this machine: who listens, who is connected. `memif list` shows what `find_sockets` returns.

Example:
    Connect to the VPP of this machine::

        found = memif.discovery.find_sockets()
        found = [each for each in found if "VPP" in (each.app_name or "")]
        iface = memif.connect(found[0].name)

Looking disturbs nobody; see `find_sockets` for what asking a master for its name and version costs it.
"""

from memif.discovery.processes import Process
from memif.discovery.sockets import Ask, FoundSocket, State, find_sockets, say_hello

__all__ = ["Ask", "FoundSocket", "Process", "State", "find_sockets", "say_hello"]
