"""The same networks and algorithms in PyTorch, written on their own, as what the benchmark compares with.

Needs the extra `bench`. Only `cases` knows the package's own code; nothing outside this folder imports torch.
"""
