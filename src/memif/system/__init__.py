"""What the kernel hands out, kept safe: descriptors that have an owner from their first moment, locks that are given
back whatever happens.

Everything here stands in `memif.system._steady`. Memory, rings and the control channel are built on it.
"""
