"""Programs of many games as kernels of an NVIDIA GPU, by LLVM: a thread has a game."""
