"""The control channel: sockets, messages and their descriptors, and the events of them all.

From the bottom up: `transport` moves messages over one socket, `listener` takes a name, `access` explains why a path
may not be used. `connection` runs one handshake and carries out what it asks for, `acceptor` takes clients in until
they have an interface, `poller` waits for all descriptors at once.
"""
