"""What a part of the compiler raises when it leaves a program to XLA."""


class Unsupported(Exception):
    """The program cannot be lowered here; the text says why."""


class Unavailable(Exception):
    """Nothing can be compiled on this machine, or with this version of JAX; the text says why."""
