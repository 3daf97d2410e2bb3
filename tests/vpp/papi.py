"""The requests of `memif.vpp` as fields, for PyPI's vpp-papi, which packs them in its own way.

vpp-papi reads its definitions from files that come with VPP. These here are what it needs of them for nine requests.
"""

import ipaddress
import json
import sys
from pathlib import Path
from typing import Any

from vpp.server import NEWEST, REPLIES, SINCE_21

_IFACE = ["u32", "sw_if_index"]
_MEMIF = [
    ["vl_api_memif_role_t", "role"],
    ["vl_api_memif_mode_t", "mode"],
    ["u8", "rx_queues"],
    ["u8", "tx_queues"],
    ["u32", "id"],
    ["u32", "socket_id"],
    ["u32", "ring_size"],
    ["u16", "buffer_size"],
    ["bool", "no_zero_copy"],
]
_END = [["vl_api_mac_address_t", "hw_addr"], ["string", "secret", 24]]
_ADD = [["bool", "is_add"], ["u32", "socket_id"]]
_FIELDS: dict[str, list[list[Any]]] = {
    "memif_socket_filename_add_del_v2": [*_ADD, ["string", "socket_filename", 0]],
    "memif_socket_filename_add_del": [*_ADD, ["string", "socket_filename", 108]],
    "memif_create_v2": [*_MEMIF, ["bool", "use_dma"], *_END],
    "memif_create": [*_MEMIF, *_END],
    "memif_delete": [_IFACE],
    "memif_dump": [],
    "show_version": [],
    "control_ping": [],
    "cli_inband": [["string", "cmd", 0]],
    "sw_interface_set_flags": [_IFACE, ["vl_api_if_status_flags_t", "flags"]],
    "sw_interface_add_del_address": [
        _IFACE,
        ["bool", "is_add"],
        ["bool", "del_all"],
        ["vl_api_address_with_prefix_t", "prefix"],
    ],
    "sw_interface_set_mtu": [_IFACE, ["u32", "mtu", 4]],
}
_ANSWERS: dict[str, list[list[Any]]] = {
    "memif_socket_filename_add_del_v2_reply": [["u32", "socket_id"]],
    "memif_create_v2_reply": [_IFACE],
    "memif_create_reply": [_IFACE],
    "control_ping_reply": [["u32", "client_index"], ["u32", "vpe_pid"]],
    "cli_inband_reply": [["string", "reply", 0]],
    "show_version_reply": [
        ["string", "program", 32],
        ["string", "version", 32],
        ["string", "build_date", 32],
        ["string", "build_directory", 256],
    ],
}
_DETAILS = [
    _IFACE,
    ["vl_api_mac_address_t", "hw_addr"],
    ["u32", "id"],
    ["vl_api_memif_role_t", "role"],
    ["vl_api_memif_mode_t", "mode"],
    ["bool", "zero_copy"],
    ["u32", "socket_id"],
    ["u32", "ring_size"],
    ["u16", "buffer_size"],
    ["vl_api_if_status_flags_t", "flags"],
    ["string", "if_name", 64],
]


def definitions() -> dict[str, Any]:
    """All of it in the form of VPP's ``.api.json``."""
    crcs = NEWEST | SINCE_21 | REPLIES | {"cli_inband": "f8377302"}
    number, context, client = ["u16", "_vl_msg_id"], ["u32", "context"], ["u32", "client_index"]
    messages = [
        [name, number, client, context, *fields, {"crc": f"0x{crcs[name]}"}] for name, fields in _FIELDS.items()
    ]
    for name in REPLIES:
        messages.append([name, number, context, ["i32", "retval"], *_ANSWERS.get(name, []), {"crc": f"0x{crcs[name]}"}])
    messages.append(["memif_details", number, context, *_DETAILS, {"crc": "0xda34feb9"}])
    services = {name: {"reply": f"{name}_reply"} for name in _FIELDS}
    services["memif_dump"] = {"reply": "memif_details", "stream": True}
    u32 = {"enumtype": "u32"}
    return {
        "types": [
            ["address", ["vl_api_address_family_t", "af"], ["vl_api_address_union_t", "un"]],
            ["prefix", ["vl_api_address_t", "address"], ["u8", "len"]],
        ],
        "unions": [["address_union", ["vl_api_ip4_address_t", "ip4"], ["vl_api_ip6_address_t", "ip6"]]],
        "enums": [
            ["address_family", ["ADDRESS_IP4", 0], ["ADDRESS_IP6", 1], {"enumtype": "u8"}],
            ["memif_role", ["MEMIF_ROLE_API_MASTER", 0], ["MEMIF_ROLE_API_SLAVE", 1], u32],
            ["memif_mode", ["MEMIF_MODE_API_ETHERNET", 0], ["MEMIF_MODE_API_IP", 1], u32],
        ],
        "enumflags": [["if_status_flags", ["IF_STATUS_API_FLAG_ADMIN_UP", 1], ["IF_STATUS_API_FLAG_LINK_UP", 2], u32]],
        "aliases": {
            "ip4_address": {"type": "u8", "length": 4},
            "ip6_address": {"type": "u8", "length": 16},
            "mac_address": {"type": "u8", "length": 6},
            "address_with_prefix": {"type": "vl_api_prefix_t"},
        },
        "messages": messages,
        "services": services,
    }


def main(api_socket: str, definition_file: str) -> None:
    """Make the calls that standard input lists: name and arguments, one JSON a line. In a process of its own, for
    vpp-papi leaves descriptors behind.
    """
    import vpp_papi

    bundled = Path(vpp_papi.__file__).with_name("data") / "memclnt.api.json"
    api = vpp_papi.VPPApiClient(
        apifiles=[str(bundled), definition_file], server_address=api_socket, use_socket=True, read_timeout=20
    )
    api.connect("memif for Python")
    for line in sys.stdin:
        name, arguments = json.loads(line)
        if "hw_addr" in arguments:
            arguments["hw_addr"] = bytes.fromhex(arguments["hw_addr"])
        if "prefix" in arguments:
            arguments["prefix"] = ipaddress.ip_interface(arguments["prefix"])
        getattr(api.api, name)(**arguments)
    api.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
