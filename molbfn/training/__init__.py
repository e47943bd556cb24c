"""Training: the job that `molbfn train` runs."""
