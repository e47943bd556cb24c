"""3D molecules from Bayesian Flow Networks."""
