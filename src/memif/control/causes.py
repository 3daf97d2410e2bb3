"""Why there is no link, said to the user of an interface: whose fault, at which socket, and what to change.

A `memif.protocol.Close` has the words of the peer or of the protocol, which go to logs and to
`memif.Interface.disconnect_reason`. The sentences here are those of errors. Each names the cause and nothing twice.
"""

from memif.address import Address
from memif.config import MODE_NAMES, InterfaceConfig
from memif.errors import ErrorCode
from memif.protocol import Cause, Close


def of_slave(end: Close, config: InterfaceConfig, address: Address) -> str:
    """Say why the connection of a slave to `address` ended or did not come about."""
    if end.was_up or end.cause is Cause.LOCAL:
        return end.text
    if end.cause is not Cause.PEER:
        return f"{address}: {end.text}"
    match end.code:
        case ErrorCode.ID:
            return f"{address} has no interface with id {config.id}"
        case ErrorCode.ACCSLAVE:
            return f"interface {config.id} on {address} is a slave, too; one of the two has to be the master"
        case ErrorCode.ALRCONN:
            return f"interface {config.id} on {address} has another client already"
        case ErrorCode.NOSECRET:
            return f"{address}: secret required for interface {config.id}"
        case ErrorCode.SECRET:
            return f"{address}: incorrect secret for interface {config.id}"
        case ErrorCode.MODE:
            return f"{address}: {_both_modes(end.reason, config)}"
    return f"{address}: {end.text}"


def _both_modes(reason: str, config: InterfaceConfig) -> str:
    if reason.startswith("mode mismatch: "):  # from a master that names both: this package
        return reason
    mine = MODE_NAMES[config.mode]
    other = "ethernet" if "ethernet" in reason else f"not {mine}"
    return f"mode mismatch: the master is {other}, the slave {mine}"


def of_master(end: Close) -> str:
    """Say why a client that had asked for the interface of a master did not get it, or lost it."""
    if end.was_up or end.cause is Cause.LOCAL:
        return end.text
    if end.cause is Cause.REFUSED:
        match end.code:
            case ErrorCode.SECRET:
                return "a client asked with an incorrect secret"
            case ErrorCode.NOSECRET:
                return "a client asked without the secret"
            case ErrorCode.MODE:
                return f"a client asked in another mode ({end.reason.removeprefix('mode mismatch: ')})"
            case ErrorCode.ACCES:
                return "a client was not authorized"
    if end.remote:
        return f"a client left in its handshake: {end.text}"
    return f"a client was refused: {end.text}"
