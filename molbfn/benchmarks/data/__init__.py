"""Data of the benchmark suite: MNIST, CIFAR-10 and text8."""
