"""Generation: molecules out of a trained model, as objects or streamed to a file."""

from molbfn.generation.molecules import generate
from molbfn.generation.plan import GenerationOptions

__all__ = ["GenerationOptions", "generate"]
