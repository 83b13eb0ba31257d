"""Reports with pictures: of studies, and of searches for counterexamples to claims; what penalties do."""
