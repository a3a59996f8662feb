def swap_word(memory: memoryview[int], index: int, old: int, new: int, /) -> bool:
    """Replace the word of 8 bytes at `index` by `new` if it is `old`; return whether it was.

    No other process sees or makes a change in between. Raises IndexError if the word is outside of
    `memory`.
    """

def set_malloc_bounds(mapped: int, kept: int, /) -> bool:
    """Have malloc map each block of at least `mapped` bytes by itself, and keep up to `kept` free
    bytes at the top of its heap. Return whether it does: only glibc has both bounds."""
