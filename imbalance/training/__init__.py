"""Training: optimizers, the engine, what a sweep compares and how its runs are made."""
