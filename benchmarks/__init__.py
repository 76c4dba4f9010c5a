"""Side-by-side measurements: ratios within one run, interleaved, medians; never an absolute time as a result.

Convention of this folder: a *task* is a program with its data, a *way* is one library's training step for it, and
everything is measured in one process, on the same cores, in turns. What needs a process of its own says so.
"""
