"""Every name of the C library is there, documented, and means what it means in C."""

import inspect
import struct
from typing import Any

import pytest

from memif import ErrorCode, libmemif as c

_2_0 = """
memif_get_version memif_init memif_cleanup memif_create memif_delete memif_control_fd_handler memif_poll_event
memif_cancel_poll_event memif_get_queue_efd memif_set_rx_mode memif_strerror memif_get_details memif_buffer_alloc
memif_buffer_enq_tx memif_refill_queue memif_tx_burst memif_rx_burst
"""
_LATER = """
memif_get_version_str memif_buffer_requeue memif_set_next_free_buffer memif_request_connection memif_create_socket
memif_delete_socket memif_get_socket_handle memif_get_socket_path memif_get_listener_fd memif_set_listener_fd
memif_set_connection_request_timer memif_register_external_region memif_get_socket_filename memif_per_thread_init
memif_per_thread_cleanup memif_per_thread_control_fd_handler memif_per_thread_poll_event
memif_per_thread_cancel_poll_event memif_per_thread_set_connection_request_timer memif_per_thread_create_socket
memif_per_thread_register_external_region
"""
FUNCTIONS_2_0, FUNCTIONS_LATER = _2_0.split(), _LATER.split()
STRUCTS = {
    "memif_conn_args_t": "socket socket_filename secret num_s2m_rings num_m2s_rings buffer_size log2_ring_size "
    "is_master interface_id interface_name mode",
    "memif_socket_args_t": "path app_name connection_request_timer on_control_fd_update alloc realloc free",
    "memif_buffer_t": "desc_index ring queue len flags data",
    "memif_fd_event_t": "fd type private_ctx",
    "memif_queue_details_t": "region qid ring_size flags head tail buffer_size",
    "memif_region_details_t": "index addr size fd is_external",
    "memif_details_t": "if_name inst_name remote_if_name remote_inst_name id secret role mode socket_filename "
    "socket_path regions_num regions rx_queues_num tx_queues_num rx_queues tx_queues error "
    "link_up_down",
}
# Number, name and text as in the C library's table of 2.0.
ERRORS = """
SUCCESS|Success.
SYSCALL|Unspecified syscall error (build with -DMEMIF_DBG or make debug).
ACCES|Permission to resoure denied.
NO_FILE|Socket file does not exist
FILE_LIMIT|System limit on total numer of open files reached.
PROC_FILE_LIMIT|Per-process limit on total number of open files reached.
ALREADY|Connection already requested.
AGAIN|File descriptor refers to file other than socket, or operation would block.
BAD_FD|Bad file descriptor.
NOMEM|Out of memory.
INVAL_ARG|Invalid argument.
NOCONN|Memif connection handle does not point to existing conenction
CONN|Memif connection handle points to existing connection
CB_FDUPDATE|Callback memif_control_fd_update_t returned error
FILE_NOT_SOCK|File specified by socket filename exists and is not socket.
NO_SHMFD|Missing shared memory file descriptor. (internal error)
COOKIE|Invalid cookie on ring. (internal error)
NOBUF_RING|Ring buffer full.
NOBUF|Not enough memif buffers. There are unreceived data in shared memory.
NOBUF_DET|Not enough space for memif details in suplied buffer. String data might be malformed.
INT_WRITE|Send interrupt error.
MFMSG|Malformed message received on control channel.
QID|Invalid queue id
PROTO|Incompatible memory interface protocol version.
ID|Unmatched interface id.
ACCSLAVE|Slave cannot accept connection reqest.
ALRCONN|Interface is already connected.
MODE|Mode mismatch.
SECRET|Secret mismatch.
NOSECRET|Secret required.
MAXREG|Limit on total number of regions reached.
MAXRING|Limit on total number of ring reached.
NO_INTFD|Missing interrupt file descriptor. (internal error)
DISCONNECT|Interface received disconnect request.
DISCONNECTED|Interface is disconnected.
UNKNOWN_MSG|Unknown message type received on control channel. (internal error)
POLL_CANCEL|Memif event polling was canceled.
MAX_RING|Maximum log2 ring size is 15
PRIVHDR|Private headers not supported.
""".strip().splitlines()


@pytest.mark.parametrize("name", FUNCTIONS_2_0 + FUNCTIONS_LATER)
def test_function_exists_and_is_documented(name: str) -> None:
    function = getattr(c, name)
    assert callable(function)
    assert name in c.__all__
    assert len(inspect.getdoc(function) or "") > 40
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty


def test_no_function_is_left_out_here() -> None:
    found = {name for name in c.__all__ if inspect.isroutine(getattr(c, name)) and not name.endswith("_t")}
    assert found == set(FUNCTIONS_2_0 + FUNCTIONS_LATER)


@pytest.mark.parametrize("struct_name", STRUCTS)
def test_struct_has_the_fields_of_c(struct_name: str) -> None:
    made = getattr(c, struct_name)()
    for field in STRUCTS[struct_name].split():
        assert hasattr(made, field), field
    assert inspect.getdoc(type(made))


@pytest.mark.parametrize(("number", "line"), list(enumerate(ERRORS)))
def test_codes_and_texts_are_those_of_2_0(number: int, line: str) -> None:
    name, text = line.split("|")
    assert getattr(c, f"MEMIF_ERR_{name}") == number
    assert c.memif_err_t(number).name == name
    assert c.memif_strerror(number) == text


def test_the_code_of_4_0_moves_no_other() -> None:
    assert c.MEMIF_ERR_CONNREFUSED not in range(len(ERRORS))
    assert c.memif_strerror(c.MEMIF_ERR_CONNREFUSED) == "Connection refused"


@pytest.mark.parametrize("code", [-1, 40, 10**30, None, "x", []])
def test_strerror_of_what_is_no_code(code: object) -> None:
    assert c.memif_strerror(code) == "undefined error"  # type: ignore[arg-type]


def test_strerror_says_what_system_call_failed() -> None:
    plain = c.memif_strerror(c.MEMIF_ERR_SYSCALL)
    assert c.memif_strerror(c.memif_result_t(c.MEMIF_ERR_SYSCALL, 28, "no space")) == f"{plain} no space"
    assert c.memif_strerror(c.memif_result_t(c.MEMIF_ERR_ACCES, 13, "x")) == c.memif_strerror(c.MEMIF_ERR_ACCES)


def test_a_result_is_its_code() -> None:
    result = c.memif_result_t(ErrorCode.ACCES, 13, "may not")
    assert result == c.MEMIF_ERR_ACCES
    assert (result.errno, result.detail) == (13, "may not")
    assert hash(result) == hash(c.MEMIF_ERR_ACCES)
    assert (repr(result), str(result)) == ("<MEMIF_ERR_ACCES: may not>", "2")


def test_versions() -> None:
    assert c.memif_get_version() == 512
    assert c.memif_get_version_str() == "2.0"


def test_numbers_of_flags_and_modes() -> None:
    events = (
        c.MEMIF_FD_EVENT_READ,
        c.MEMIF_FD_EVENT_WRITE,
        c.MEMIF_FD_EVENT_ERROR,
        c.MEMIF_FD_EVENT_DEL,
        c.MEMIF_FD_EVENT_MOD,
    )
    assert events == (1, 2, 4, 8, 16)
    assert (c.MEMIF_BUFFER_FLAG_NEXT, c.MEMIF_BUFFER_FLAG_RX, c.MEMIF_QUEUE_FLAG_POLLING) == (1, 2, 1)
    assert (c.MEMIF_RX_MODE_INTERRUPT, c.MEMIF_RX_MODE_POLLING) == (0, 1)
    modes = c.MEMIF_INTERFACE_MODE_ETHERNET, c.MEMIF_INTERFACE_MODE_IP, c.MEMIF_INTERFACE_MODE_PUNT_INJECT
    assert modes == (0, 1, 2)


def test_a_new_buffer_is_empty() -> None:
    buf = c.memif_buffer_t()
    assert (buf.desc_index, buf.len, buf.flags, buf.data, buf.queue, buf.ring) == (0, 0, 0, None, None, None)
    with pytest.raises(BufferError):
        memoryview(buf)


def test_fields_of_a_buffer_wrap_as_in_c() -> None:
    buf = c.memif_buffer_t()
    buf.len = -1
    buf.flags = -1
    assert (buf.len, buf.flags) == struct.unpack("<IH", b"\xff" * 6)


@pytest.mark.parametrize("value", [2**32, 2**40 + 5, 2**63, 2**70, -(2**31) - 1, -(2**70)])
def test_fields_refuse_what_has_more_bits(value: int) -> None:
    buf = c.memif_buffer_t()
    with pytest.raises(ValueError, match="argument len"):
        buf.len = value
    with pytest.raises(ValueError, match="argument flags"):
        buf.flags = value
    assert (buf.len, buf.flags) == (0, 0)


@pytest.mark.parametrize("value", ["x", None, 1.5])
def test_fields_refuse_what_is_no_number(value: Any) -> None:
    buf = c.memif_buffer_t()
    with pytest.raises(TypeError):
        buf.len = value
    with pytest.raises(TypeError):
        buf.flags = value
    with pytest.raises(TypeError):
        buf.prepend(value)
