"""The C library's functions, structs, flags and codes under their original names.

For programs ported from C, and for readers of the C library's guide. What C returns through pointers is returned after
the code: ``err, n = memif_rx_burst(conn, qid, bufs, count)``. Functions without such results return the code alone.
Codes equal the members of `memif_err_t`. No argument makes a function raise; a code that has a cause in the operating
system keeps it (`memif_result_t`).

The functions of 2.0 and of 4.0 exist side by side. Where their arguments differ, both forms are accepted: 2.0 has one
set-up for the process (`memif_init`), 4.0 a handle for each socket (`memif_create_socket`). docs/porting.md lists every
call beside its C form. The implementation below is that of `memif.connect`.
"""

from memif.libmemif import _datapath, connections, handles, library, sockets, types
from memif.libmemif._buffers import memif_buffer_t, memif_buffers
from memif.libmemif._datapath import *
from memif.libmemif.connections import *
from memif.libmemif.handles import *
from memif.libmemif.library import *
from memif.libmemif.sockets import *
from memif.libmemif.types import *

__all__ = ["memif_buffer_t", "memif_buffers"]
__all__ += _datapath.__all__
__all__ += connections.__all__
__all__ += handles.__all__
__all__ += library.__all__
__all__ += sockets.__all__
__all__ += types.__all__
