def wait(epfd: int, timeout: int) -> list[int]:
    """Wait for events on an epoll descriptor, with no signal blocked.

    Args:
        epfd: The epoll descriptor.
        timeout: Milliseconds to wait; -1 waits for ever.

    Returns:
        The descriptors that are ready, 64 at most.

    Raises:
        InterruptedError: A signal's handler has returned. What a handler raises comes out as it is.
        OSError: epoll failed.
    """
