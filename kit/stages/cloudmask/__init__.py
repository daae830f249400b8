"""The stages of CloudMask, as its image runs them."""
