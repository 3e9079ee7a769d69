"""Benchmarks: training speed, time to accuracy, latency, and the limits of the machine."""
