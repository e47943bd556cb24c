"""Generation: molecules out of a trained model, as objects or streamed to a file."""

from molbfn.generation.sampling import GenerationOptions, generate, generate_raw

__all__ = ["GenerationOptions", "generate", "generate_raw"]
