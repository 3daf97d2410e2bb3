"""libmemif in Python: every function, struct, flag and code of the C library, under its C name.

For programs that come from C, and for readers of the C library's guide. What C returns through pointers comes back as a
result: ``err, n = memif_rx_burst(conn, qid, bufs, count)``; functions without such arguments return the code alone.
Codes equal the members of `memif_err_t` and are never exceptions, whatever the arguments; a code with a cause in
the operating system keeps it (`memif_result_t`).

The functions of 2.0 and of 4.0 live side by side, and where their arguments differ, both forms are taken: 2.0 has
one set-up for the process (`memif_init`), 4.0 a socket handle for each socket (`memif_create_socket`).
docs/porting.md lists every call beside its C form. All of it stands on the same core as `memif.connect`.
"""

from memif.libmemif import connections, datapath, handles, library, sockets, types
from memif.libmemif._buffers import memif_buffer_t
from memif.libmemif.connections import *
from memif.libmemif.datapath import *
from memif.libmemif.handles import *
from memif.libmemif.library import *
from memif.libmemif.sockets import *
from memif.libmemif.types import *

__all__ = ["memif_buffer_t"]
__all__ += connections.__all__
__all__ += datapath.__all__
__all__ += handles.__all__
__all__ += library.__all__
__all__ += sockets.__all__
__all__ += types.__all__
