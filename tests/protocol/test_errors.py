"""The error tree: numbers, messages, inheritance, pickling."""

import errno
import pickle

import pytest

from memif import errors
from memif.errors import ErrorCode, MemifError, error_text, from_os_error

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MemifError)]


def test_numbers_are_those_of_libmemif_2_0() -> None:
    assert [code.value for code in ErrorCode] == list(range(40))
    assert (ErrorCode.NOMEM, ErrorCode.NOBUF_RING, ErrorCode.QID) == (9, 17, 22)
    assert (ErrorCode.DISCONNECT, ErrorCode.DISCONNECTED, ErrorCode.PRIVHDR) == (33, 34, 38)


def test_each_code_has_its_own_text() -> None:
    texts = [error_text(code) for code in ErrorCode]
    assert len(set(texts)) == 40
    assert texts[17] == "Ring buffer full."
    assert texts[34] == "Interface is disconnected."
    assert error_text(40) == error_text(-1) == "undefined error"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.MemifValueError, ValueError),
        (errors.MemifQueueError, IndexError),
        (errors.MemifStateError, RuntimeError),
        (errors.MemifClosedError, errors.MemifStateError),
        (errors.MemifBufferError, BufferError),
        (errors.MemifMemoryError, MemoryError),
        (errors.MemifOSError, OSError),
        (errors.MemifPermissionError, PermissionError),
        (errors.MemifFileNotFoundError, FileNotFoundError),
        (errors.MemifTimeoutError, TimeoutError),
        (errors.MemifConnectionError, ConnectionError),
        (errors.MemifRefusedError, ConnectionRefusedError),
        (errors.MemifDisconnectedError, errors.MemifConnectionError),
        (errors.MemifProtocolError, errors.MemifPeerError),
        (errors.MemifPeerError, errors.MemifConnectionError),
    ],
)
def test_natural_builtin(kind: type[MemifError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="why"):
        raise kind("why")


@pytest.mark.parametrize("kind", CLASSES)
def test_message_code_and_pickle(kind: type[MemifError]) -> None:
    plain = kind()
    assert str(plain) == str(MemifError(code=kind.default_code))
    full = kind("the detail", code=ErrorCode.QID)
    assert (full.code, full.detail) == (ErrorCode.QID, "the detail")
    assert str(full) == "the detail"
    copy = pickle.loads(pickle.dumps(full))
    assert type(copy) is kind
    assert (copy.code, copy.detail, str(copy)) == (full.code, full.detail, str(full))


def test_argument_error_says_name_value_and_range() -> None:
    error = errors.MemifValueError.argument("ring_size", 3, "a power of two up to 16384")
    assert str(error) == "argument ring_size: got 3, allowed: a power of two up to 16384"


@pytest.mark.parametrize("code", ErrorCode)
def test_the_c_librarys_phrases_are_memif_strerrors_alone(code: ErrorCode) -> None:
    assert str(MemifError("what happened", code=code)) == "what happened"
    plain = str(MemifError(code=code))
    assert plain
    assert plain[0].islower()
    assert plain.lower() != error_text(code).lower().removesuffix(".")


def test_the_largest_ring_is_named() -> None:
    assert "16384 slots (log2 14)" in str(MemifError(code=ErrorCode.MAX_RING))


def test_refusal_keeps_the_peers_text() -> None:
    error = errors.MemifRefusedError(code=ErrorCode.SECRET, reason="incorrect secret")
    assert (error.reason, str(error)) == ("incorrect secret", "incorrect secret")
    assert pickle.loads(pickle.dumps(error)).reason == "incorrect secret"


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EACCES, PermissionError, ErrorCode.ACCES),
        (errno.ENOENT, FileNotFoundError, ErrorCode.NO_FILE),
        (errno.EMFILE, OSError, ErrorCode.PROC_FILE_LIMIT),
        (errno.ECONNREFUSED, ConnectionRefusedError, ErrorCode.CONNREFUSED),
        (errno.ENOMEM, MemoryError, ErrorCode.NOMEM),
        (errno.EIO, OSError, ErrorCode.SYSCALL),
    ],
)
def test_system_errors_are_translated(number: int, kind: type[Exception], code: ErrorCode) -> None:
    error = from_os_error(OSError(number, "the kernel's text"), "open X")
    assert isinstance(error, kind)
    assert (error.code, error.detail) == (code, "open X: the kernel's text")
    if isinstance(error, errors.MemifOSError):
        assert error.errno == number
        assert pickle.loads(pickle.dumps(error)).errno == number
    assert from_os_error(error) is error if isinstance(error, OSError) else True
