"""What one thread does at a time, with one lock for each in the whole library."""

import threading

# Imports on first use. Two threads that import packages with circular imports, such as those of SciPy, in different
# orders get them half-made: Python's own locks give way where they would wait for each other. No module of the library
# uses names that are imported on first use while it is imported itself, so that nobody who holds a lock of Python's
# waits for this one.
importing = threading.RLock()

# JAX traces functions on one thread at a time: threads share its caches, and a half-traced function in one is an error
# in the other ("Store occupied"). What is compiled already runs freely.
tracing = threading.RLock()
