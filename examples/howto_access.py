"""Who may connect: the socket file's mode and owner, a secret, and a decision for each
client.

python examples/howto_access.py
"""

# [listen]
import os
import tempfile

import memif


def welcome(peer: memif.Peer) -> bool:
    """Called before a client is accepted; pid, uid and gid come from the kernel, not
    from the client."""
    print(f"{peer.app_name!r}, user {peer.uid}, asks to come in")
    return peer.uid in (0, os.getuid())


path = os.path.join(tempfile.mkdtemp(), "memif.sock")
server = memif.listen(
    path,
    id=0,
    socket_mode=0o660,  # group members may connect; the default is 0o600
    socket_owner=(-1, os.getgid()),  # keep the user, give the file to this group
    secret=b"open sesame",
    authorize=welcome,
)
print(f"mode {os.stat(path).st_mode & 0o777:o}")
# [client]
with memif.Socket(path, app_name="guest") as socket:
    stranger = socket.interface(id=0, secret=b"let me in", reconnect=None)
    stranger.connect()
    while stranger.disconnect_reason is None:
        server.socket.poll(0.01)
        socket.poll(0.01)
    print("refused:", stranger.disconnect_reason)
    stranger.close()

    friend = socket.interface(id=0, secret=b"open sesame")
    while not (friend.up and server.up):
        server.socket.poll(0.01)
        socket.poll(0.01)
    print("linked to", server.name)
# [end]
server.close()
os.rmdir(os.path.dirname(path))
