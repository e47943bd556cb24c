"""Generation: molecules out of a trained model, as objects or streamed to a file."""

from molbfn.generation.plan import GenerationOptions
from molbfn.generation.sampling import generate

__all__ = ["GenerationOptions", "generate"]
