"""What every package may use: arrays, errors, timings, a cache, threads."""
