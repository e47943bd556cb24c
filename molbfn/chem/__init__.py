"""What a molecule is: elements, molecules, bonds from coordinates, and molecule files.

The only place in molbfn that touches RDKit molecules and chemical file formats.
"""
