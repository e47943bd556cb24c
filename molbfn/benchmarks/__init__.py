"""Reference networks and data sets that exist only to compare with."""
