"""The frozen base: by name, its blocks, its two parts at the split, its prompts."""
