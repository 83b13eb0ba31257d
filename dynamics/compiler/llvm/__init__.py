"""Programs of many games as machine code of a CPU, by LLVM."""
