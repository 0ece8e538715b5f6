"""Float64 NumPy twins of the core's operations, of GPT-2 and of its training step.

They are written to be read and trusted, not to be fast: tests/oracle_checks/ holds them against
finite differences and brute force, the other tests hold the C++ core against them.
All arrays are row-major float64; B batch, T positions, C channels, NH heads, V vocabulary,
Vp padded vocabulary, L layers, H hidden width of the MLP.
"""
