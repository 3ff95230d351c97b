"""Is a model aligned, as far as benchmarks and judges can tell? Suites, scores, intervals, reports."""
