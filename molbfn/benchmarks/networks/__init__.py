"""Networks of the benchmark suite: images and text."""
