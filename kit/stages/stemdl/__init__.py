"""The stages of STEMDL, as its image runs them."""
