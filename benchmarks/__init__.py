"""Side-by-side measurements: ratios within one run, interleaved, medians; never an absolute time as a result."""
