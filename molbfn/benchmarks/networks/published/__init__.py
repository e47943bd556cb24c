"""The networks of Graves et al. 2023; their parameters bear the names of the published weights."""
