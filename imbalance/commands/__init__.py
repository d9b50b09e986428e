"""The command `imbalance`: what a file of labels or two records say, without a line of code."""
