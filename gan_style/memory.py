"""What running out of memory looks like, in Python, in torch on a GPU and in torch on a CPU."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that there was no memory to be had; torch itself is not imported for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, a RuntimeError
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
